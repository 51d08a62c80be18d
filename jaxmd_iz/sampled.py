"""From a density to weighted starting points of every surface, with what tells good sampling from bad."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from jaxmd_iz import diagnostics, ensemble
from jaxmd_iz.chunks import ListKeeper
from jaxmd_iz.distributed import everywhere
from jaxmd_iz.gibbs import AbstractDensity
from jaxmd_iz.pieces import each as each_piece
from jaxmd_iz.sampling import Chain, Sampling, check_start, swap_rates
from jaxmd_iz.state_weights import grouped
from jaxmd_iz.statistics import GROUPS, group_of
from jaxmd_iz.system import System

R_HAT = 1.2  # beyond it the window of a chain is shorter than about six correlation times
EFFECTIVE = 50.0  # samples that must carry the weight of a state: bands of q_j* are too narrow with fewer


class Sampled(NamedTuple):
    """Walkers at t = 0, how good they are, and warnings in plain words."""

    walkers: ensemble.Walkers
    quality: dict[str, Any]  # JSON-ready
    warnings: tuple[str, ...]


def sample(
    system: System,
    density: AbstractDensity,
    sampling: Sampling,
    x: Float[Array, "*samples n D"],
    keys: Key[Array, "2"],
    lists: ListKeeper,
    bar: Any,
    keep: Callable[[dict[str, Any]], None] | None = None,
    begun: Mapping[str, Any] | None = None,
) -> Sampled:
    """Chains from x, then every surface from every sample, or each surface from a sample of its own.

    Args:
        system, density: what is sampled.
        sampling: and how.
        x: (n, D) start of every chain, or (samples, n, D).
        keys: (2,) for the chains, and for momenta and dynamics.
        lists: keeps neighbour lists.
        bar: takes the number of steps done.
        keep: takes, between two chunks of proposals, all that the rest follows from.
        begun: what `keep` was given, to go on from there.

    Returns:
        Sampled.
    """
    apart = sampling.states == "apart" and system.states > 1
    each = system.states if apart else 1
    x = jnp.broadcast_to(x, (sampling.samples, *x.shape[-2:])) if x.ndim == 2 else x
    x = jnp.repeat(x, each, axis=0)
    state = jnp.tile(jnp.arange(each), sampling.samples) if apart else None
    chains, trace = run_chains(system, density, sampling, x, keys[0], lists, bar, state, keep, begun)
    quality = relaxation(trace, each)
    counted = max(sampling.burn_in - sampling.adapting, 1)
    quality["acceptance"] = float(jnp.mean(everywhere(chains.accepted))) / counted
    if sampling.rungs > 1:
        quality["swaps"] = [None if np.isnan(r) else float(r) for r in swap_rates(chains)]
    nl = lists.build(chains.x)
    if apart:
        actions = each_piece(_all_actions, system, density)(chains.x, nl).reshape(sampling.samples, each, each)
        group = group_of(sampling.samples)
        member = jnp.arange(min(GROUPS, sampling.samples))[:, None] == group[None, :]
        _, weight = jax.jit(grouped)(actions, member.astype(x.dtype))
        walkers = ensemble.walkers_from_states(system, density, chains.x, weight, keys[1], nl)
    else:
        walkers = ensemble.walkers_from_samples(system, density, chains.x, None, keys[1], nl)
        w = np.asarray(everywhere(walkers.weight)).reshape(-1, system.states)
        quality["weights_effective"] = [float(e) for e in w.sum(axis=0) ** 2 / np.sum(w**2, axis=0)]
    return Sampled(walkers, quality, _warnings(quality, sampling))


def run_chains(
    system: System,
    density: AbstractDensity,
    sampling: Sampling,
    x: Float[Array, "chains n D"],
    key: PRNGKeyArray,
    lists: ListKeeper,
    bar: Any,
    state: Int[Array, " chains"] | None = None,
    keep: Callable[[dict[str, Any]], None] | None = None,
    begun: Mapping[str, Any] | None = None,
) -> tuple[Chain, Float[np.ndarray, "chains burn_in"]]:
    """The whole burn-in of many chains, and their traces of Φ.

    Args:
        system, density, sampling, lists, bar, keep, begun: as in `sample`.
        x: (chains, n, D) where they start.
        key: PRNG key.
        state: sample Φ_k of one state in each chain.

    Raises:
        InputError: chains that start where Φ or its gradient is not finite.
    """
    if begun is None:
        chains, mine = ensemble.start_chains(system, density, sampling, x, key, lists.build(x), state)
        check_start(chains)
        traces, position = {}, (0, 0)
    else:
        chains, mine = begun["chains"], begun["keys"]
        traces, position = dict(enumerate(begun["traces"])), (begun["done"], begun["chunk"])

    def step(now, first, count, nl):
        after, stale, trace = ensemble.advance_chains(system, density, sampling, now, mine, first, count, nl, state)
        traces[int(first)] = everywhere(trace)  # a chunk that is redone is overwritten
        return after, stale

    def between(now, done, chunk):
        if keep is not None:
            seen = [traces[k] for k in sorted(traces)]
            keep({"chains": now, "keys": mine, "traces": seen, "done": done, "chunk": chunk})

    chains = lists.advance(step, chains, lambda c: c.x, sampling.burn_in, bar, between, position)
    none = [np.zeros((x.shape[0], 0), x.dtype)]
    return chains, np.concatenate(none + [np.asarray(traces[k]) for k in sorted(traces)], axis=1)


def _all_actions(system, density, *several):
    return jax.vmap(lambda a, nl: density.actions(system, a, nl))(*several)


def relaxation(trace: np.ndarray, each: int = 1) -> dict[str, Any]:
    """R̂ and effective draws of Φ over the second half of the burn-in, the worst state where they are apart.

    Args:
        trace: (chains, draws) of Φ, the states of a sample next to each other.
        each: number of states that are apart.

    Returns:
        `r_hat` and `effective_draws`, None where the trace is too short.
    """
    window = trace[:, trace.shape[1] - trace.shape[1] // 2 :]
    if window.shape[1] < 8 or window.shape[0] // each < 2:
        return {"r_hat": None, "effective_draws": None}
    parts = [window[k::each] for k in range(each)]
    return {
        "r_hat": max(float(diagnostics.split_r_hat(p)) for p in parts),
        "effective_draws": min(float(diagnostics.effective_sample_size(p)) for p in parts),
    }


def _warnings(quality: dict[str, Any], sampling: Sampling) -> tuple[str, ...]:
    """What is bad, and what to do about it."""
    found = []
    r_hat, accepted = quality["r_hat"], quality["acceptance"]
    if r_hat is None:
        found.append(
            f"The sampling cannot be judged from {sampling.samples} chains of {sampling.burn_in} steps: take 2 or more "
            "chains and 16 or more steps."
        )
    elif not r_hat < R_HAT:
        found.append(
            f"The chains have not forgotten their start: R̂ of Φ is {r_hat:.3f}, above {R_HAT}. Raise `burn_in` from "
            f"{sampling.burn_in}, or take replica exchange (`rungs`)."
        )
    if not accepted > 0.2 and sampling.sampler != "langevin":
        found.append(f"Only {100 * accepted:.0f} % of the proposals are accepted: lower `step`.")
    for k, effective in enumerate(quality.get("weights_effective", ())):
        if effective < min(EFFECTIVE, sampling.samples / 2) and math.isfinite(effective):
            found.append(
                f"The weight of state {k} rests on {effective:.1f} of {sampling.samples} samples: take more of them, "
                'or sample each state by itself (`states = "apart"`).'
            )
    return tuple(found)
