"""Many trajectories at once, on the device: one `lax.scan` over steps of a `vmap` over samples and states.

Dynamics and observables never import each other: `observe` is passed in, and only its weighted group sums leave.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from jaxmd_iz.gibbs import AbstractDensity
from jaxmd_iz.integrators import AbstractIntegrator, Phase
from jaxmd_iz.neighbours import Neighbours, Ordered
from jaxmd_iz.pair_forces import is_fast
from jaxmd_iz.pieces import each, summed
from jaxmd_iz.sampling import Chain, Sampling, advance_chain, start_chain
from jaxmd_iz.system import System

ORDERED = 8192  # particles from which it pays to keep neighbours together: fewer fit the nearest cache anyhow


class Walkers(NamedTuple):
    """B = samples × states trajectories; walker b follows state `state[b]` from sample `sample[b]`."""

    phase: Phase  # leading axis B
    state: Int[Array, " B"]
    sample: Int[Array, " B"]
    weight: Float[Array, " B"]  # w_j of its starting point, or q_j*; sums to 1 over the states of a sample
    key: Key[Array, " B"]


def start_chains(
    system: System,
    density: AbstractDensity,
    sampling: Sampling,
    x: Float[Array, "chains n D"],
    key: PRNGKeyArray,
    neighbours: Neighbours | None,
    state: Int[Array, " chains"] | None = None,
) -> tuple[Chain, Key[Array, " chains"]]:
    """One chain for each starting configuration, with its own key; on one state each where `state` is given."""
    keys = _numbered(key, x.shape[0])
    return each(_start, system, density, sampling, once=True)(x, keys, neighbours, state), keys


def _start(system, density, sampling, *several):
    return jax.vmap(partial(start_chain, system, density, sampling))(*several)


@eqx.filter_jit
def _numbered(key, count: int):
    """A key for each of so many members."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))


def advance_chains(
    system: System,
    density: AbstractDensity,
    sampling: Sampling,
    chains: Chain,
    keys: Key[Array, " chains"],
    first: Int[Array, ""],
    steps: int,
    neighbours: Neighbours | None,
    state: Int[Array, " chains"] | None = None,
) -> tuple[Chain, Bool[Array, ""], Float[Array, "chains steps"]]:
    """All chains `steps` proposals further; whether a neighbour list went stale on the way; and their traces of Φ."""
    go_on = each(_go_on, system, density, sampling, first, steps)
    after, stale, trace = go_on(chains, keys, neighbours, state)
    return after, jnp.any(stale), trace


def _go_on(system, density, sampling, first, steps, *several):
    def one(chain, key, nl, k):
        return advance_chain(system, density, sampling, chain, key, first, steps, nl, k)

    return jax.vmap(one)(*several)


def walkers_from_samples(
    system: System,
    density: AbstractDensity,
    x: Float[Array, "samples n D"],
    p: Float[Array, "samples n D"] | None,
    key: PRNGKeyArray,
    neighbours: Neighbours | None,
) -> Walkers:
    """Every surface from every sample, with weights w_j (section 7), and exact momenta where none are given.

    Args:
        system: gives λ̄_j.
        density: gives w_j and the momenta.
        x: (samples, n, D) positions drawn from g = Σ_j f_jj.
        p: (samples, n, D) momenta, or None to draw them.
        key: for the momenta and for stochastic dynamics.
        neighbours: lists with leading axis samples, or None.
    """
    p = _momenta(system, density, x, key) if p is None else p
    w = each(_weights, system, density, once=True)(x, neighbours)
    spread = x, p, neighbours
    if system.states > 1:
        spread = jax.tree.map(lambda a: jnp.repeat(a, system.states, axis=0), spread)
    return _walkers(system, *spread, w, key)


def _weights(system, density, *several):
    return jax.vmap(partial(density.weights, system))(*several)


def walkers_from_states(
    system: System,
    density: AbstractDensity,
    x: Float[Array, "B n D"],
    weight: Float[Array, "samples d"],
    key: PRNGKeyArray,
    neighbours: Neighbours | None,
) -> Walkers:
    """Each surface from a sample of its own f_jj, with given weights that sum to 1 over the states of a sample.

    Args:
        system, density: as in `walkers_from_samples`.
        x: (samples · d, n, D), the states of a sample next to each other.
        weight: (samples, d) estimates of q_j*.
        key: for the momenta and for stochastic dynamics.
        neighbours: lists with leading axis B, or None.
    """
    return _walkers(system, x, _momenta(system, density, x, key), neighbours, weight, key)


def _momenta(system, density, x, key):
    return each(_drawn, system, density, once=True)(_numbered(key, x.shape[0]), x)


def _drawn(system, density, *several):
    return jax.vmap(lambda key, x: density.momenta(key, system, x))(*several)


def _walkers(system, x, p, neighbours, weight, key):
    samples, d = weight.shape
    state, sample = jnp.tile(jnp.arange(d), samples), jnp.repeat(jnp.arange(samples), d)
    force = each(_forces, system, once=True)(x, state, neighbours)
    keys = _numbered(jax.random.fold_in(key, 2**31 - 1), samples * d)
    return Walkers(Phase(x, p, force), state, sample, weight.reshape(-1), keys)


def _forces(system, *several):
    return jax.vmap(system.force)(*several)


def advance(
    system: System,
    integrator: AbstractIntegrator,
    walkers: Walkers,
    first: Int[Array, ""],
    steps: int,
    neighbours: Neighbours | None,
) -> tuple[Walkers, Neighbours | None]:
    """All walkers `steps` time steps further, each on its own surface.

    Lists are rebuilt on the way, before a force at positions that they do not cover; each walker's by its own motion
    alone, so that it does not depend on the others, nor on how the steps are cut when the lists are handed on.

    Args:
        system: forces.
        integrator: scheme.
        walkers: B trajectories.
        first: number of the first step, so that chunking does not change random numbers; may be traced.
        steps: static.
        neighbours: lists with leading axis B, or None.

    Returns:
        walkers, and the lists as they are now; after an overflow of any, both must be discarded.
    """
    run = each(carried, system, integrator, first, steps)
    phase, neighbours = run(walkers.phase, walkers.state, walkers.key, neighbours)
    return walkers._replace(phase=phase), neighbours


def carried(system, integrator, first, steps: int, phase, state, key, neighbours):
    """The inside of `advance` for one piece of the walkers: phase and lists."""
    ordered = is_fast(system.potential) and system.masses.shape[0] >= ORDERED

    def one(phase, k, key, near, i):
        lists = [near]  # the last one, in an integrator that takes several forces a step

        def force(x):
            if near is None:
                return system.force(x, k)
            lists.append(lists[-1].renewed(system.space, x))
            return _force(system, x, k, lists[-1])

        phase = integrator(phase, force, system.masses, jax.random.fold_in(key, i))
        return phase, lists[-1]

    def body(carry, i):
        return jax.vmap(one, in_axes=(0, 0, 0, 0, None))(carry[0], state, key, carry[1], i), None

    near = jax.vmap(lambda nl: Ordered.of(system.space, nl, ordered))(neighbours) if neighbours is not None else None
    (phase, near), _ = jax.lax.scan(body, (phase, near), first + jnp.arange(steps))
    return phase, None if near is None else jax.vmap(lambda a: a.plain())(near)


def _force(system, x, k, lists: Ordered):
    """The force of a list that has numbers of its own: a pair potential knows particles by their species alone."""
    order, rank = lists.order, lists.rank
    if order is None or rank is None:
        return system.force(x, k, lists.near)
    here = system.masses[order], system.species[order], None
    alone = eqx.tree_at(lambda s: (s.masses, s.species, s.external), system, here, is_leaf=lambda a: a is None)
    return alone.force(x[order], k, lists.near)[rank] - system.confinement(x)


def group_sums(
    observe: Callable,
    walkers: Walkers,
    group: Int[Array, " B"],
    groups: int,
    neighbours: Neighbours | None,
    batch: int,
):
    """Σ_b w_b observe(x_b, p_b, state_b) in each of `groups` groups, by compensated sums, `batch` walkers at a time.

    Args:
        observe: (x, p, state, neighbours) → pytree of arrays.
        walkers: B trajectories.
        group: (B,) group of each.
        groups: number of groups.
        neighbours: lists with leading axis B, or None.
        batch: walkers observed together; bounds the memory.

    Returns:
        the pytree of `observe` with a leading axis of `groups`.
    """
    phase = walkers.phase
    sums = summed(_sums, groups, batch, observe)
    return sums(walkers.weight, group, phase.x, phase.p, walkers.state, neighbours)


def _sums(groups, batch, observe, real, weight, group, x, p, state, neighbours):
    """The sums of the walkers of one device; those that are not `real` count nothing."""
    count = state.shape[0]
    batch = min(batch, count)
    rounds = -(-count // batch)
    pick = jnp.arange(rounds * batch)
    real = real[jnp.minimum(pick, count - 1)] & (pick < count)
    pick = jnp.where(pick < count, pick, 0).reshape(rounds, batch)
    weight = jnp.where(real, weight[pick.reshape(-1)], 0.0).reshape(rounds, batch)

    def look(b):
        return observe(x[b], p[b], state[b], jax.tree.map(lambda a: a[b], neighbours))

    shape = jax.eval_shape(look, jnp.zeros((), int))
    zero = jax.tree.map(lambda s: jnp.zeros((groups, *s.shape), s.dtype), shape)

    def body(carry, item):
        which, w = item
        seen = jax.vmap(look)(which)

        def add(total, lost, value):
            factor = w.astype(value.dtype).reshape((-1,) + (1,) * (value.ndim - 1))
            share = jnp.where(factor != 0, factor * value, 0.0)
            part = jnp.zeros_like(total).at[group[which]].add(share)
            # Neumaier: what the larger of two terms loses of the smaller one
            new = jax.lax.optimization_barrier(total + part)
            error = jnp.where(jnp.abs(total) >= jnp.abs(part), (total - new) + part, (part - new) + total)
            return new, lost + error

        both = jax.tree.map(add, *carry, seen)
        return jax.tree.transpose(jax.tree.structure(seen), jax.tree.structure((0, 0)), both), None

    (total, lost), _ = jax.lax.scan(body, (zero, zero), (pick, weight))
    return jax.tree.map(jnp.add, total, lost)
