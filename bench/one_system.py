"""One large system on neighbour lists: whole steps of molecular dynamics with the building of lists, float32."""

import os
import time
from collections.abc import Callable, Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxmd_iz as iz
from bench import peers
from bench.timing import row
from jaxmd_iz import ensemble
from jaxmd_iz.chunks import ListKeeper

CUTOFF, DENSITY, TEMPERATURE, STEP, SKIN = 2.5, 0.8442, 1.44, 0.005, 0.5


def melt(n: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Positions near a face-centred cubic lattice of 4k³ particles, velocities, and the edge of the cell."""
    cells = round((n / 4) ** (1 / 3))
    sites = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    basis = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    rng, spacing = np.random.default_rng(0), (4 / DENSITY) ** (1 / 3)
    x = ((sites + basis) * spacing).reshape(-1, 3)
    v = rng.normal(scale=TEMPERATURE**0.5, size=x.shape)
    return x + rng.normal(scale=0.07, size=x.shape), v - v.mean(axis=0), cells * spacing


def ours(x: np.ndarray, v: np.ndarray, edge: float) -> Callable[[int], None]:
    """A function that goes on for so many steps, as `simulate` does."""
    system = _single(iz.System(iz.LennardJones(1.0, 1.0, CUTOFF), iz.Periodic([edge] * 3), np.ones(len(x))))
    keeper, scheme = ListKeeper(system, True, SKIN), iz.VelocityVerlet(jnp.asarray(STEP, jnp.float32))
    at, p = (jnp.asarray(a[None], jnp.float32) for a in (x, v))
    force = jax.jit(jax.vmap(lambda a, near: system.force(a, 0, near)))(at, keeper.build(at))
    one = jnp.zeros(1, int)
    walkers = ensemble.Walkers(
        ensemble.Phase(at, p, force), one, one, jnp.ones(1, jnp.float32), jax.random.split(jax.random.key(0), 1)
    )
    now = [walkers]

    def step(state, first, count, near):
        return ensemble.advance(system, scheme, state, first, count, near)

    def go(steps: int) -> None:
        now[0] = keeper.advance(step, now[0], lambda w: w.phase.x, steps, lambda count: None)
        jax.block_until_ready(now[0].phase.x)

    return go


def _single(tree):
    """The same in float32."""

    def narrow(a):
        return jnp.asarray(a, jnp.float32) if eqx.is_inexact_array_like(a) else a

    return jax.tree.map(narrow, tree)


def alternating(sides: dict[str, Callable[[int], None]], steps: int, rounds: int) -> dict[str, float]:
    """Seconds of one step of each side, the least of several rounds in turn, after one that compiles."""
    best = dict.fromkeys(sides, np.inf)
    for go in sides.values():
        go(steps)
    for _ in range(rounds):
        for name, go in sides.items():
            start = time.perf_counter()
            go(steps)
            best[name] = min(best[name], (time.perf_counter() - start) / steps)
    return best


def one_system(quick: bool) -> Iterator[dict]:
    """Atom-steps per second of one Lennard-Jones system against every peer that is installed, on equal threads.

    Threads are the processors that this process may use: `taskset -c 0 python -m bench` compares single ones.
    """
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for n in (4000,) if quick else (4000, 32000):
        x, v, edge = melt(n)
        sides = {"ours": ours(x, v, edge)} | peers.trajectories(x, v, edge, CUTOFF, STEP, SKIN, threads)
        taken = alternating(sides, 100, 3 if quick else 6)
        speed = {name: len(x) / seconds for name, seconds in taken.items()}
        for name in sides:
            if name != "ours":
                label = f"one system n={len(x)}, {threads} threads, against {name}"
                yield row(label, speed["ours"], speed[name], "atom-steps/s", True)
        if len(sides) == 1:
            yield row(f"one system n={len(x)}, no peer installed", speed["ours"], speed["ours"], "atom-steps/s", True)
