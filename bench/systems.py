"""The Lennard-Jones systems that are measured, and our side as `simulate` runs it."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxmd_iz as iz
from jaxmd_iz import ensemble
from jaxmd_iz.chunks import ListKeeper
from jaxmd_iz.pieces import over_devices

CUTOFF, DENSITY, TEMPERATURE = 2.5, 0.8442, 1.44
#: Of two states: h, w and r₀ of the coupling c and of the shift δ, and the gap Δ.
COUPLING, SHIFT, GAP = (0.3, 0.3, 1.2), (0.2, 0.3, 1.1), 1.0


def melt(n: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Positions near a face-centred cubic lattice of 4k³ particles, velocities, and the edge of the cell."""
    cells = round((n / 4) ** (1 / 3))
    sites = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    basis = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    rng, spacing = np.random.default_rng(0), (4 / DENSITY) ** (1 / 3)
    x = ((sites + basis) * spacing).reshape(-1, 3)
    v = rng.normal(scale=TEMPERATURE**0.5, size=x.shape)
    return x + rng.normal(scale=0.07, size=x.shape), v - v.mean(axis=0), cells * spacing


def lattices(n: int, batch: int) -> tuple[np.ndarray, float]:
    """Disturbed simple cubic lattices of n particles, (batch, n, 3), and the edge of their cell."""
    edge, side = float(np.float32((n / DENSITY) ** (1 / 3))), int(np.ceil(n ** (1 / 3)))  # the same in any precision
    sites = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n]
    noise = np.random.default_rng(0).normal(scale=0.05, size=(batch, n, 3))
    return (sites + 0.5) * edge / side + noise, edge


def fluid(n: int, edge: float, dtype, states: int = 1, correction: str = "none") -> iz.System:
    """n particles of one state, or of two that couple, with parameters of one precision."""
    base = iz.LennardJones(1.0, 1.0, cutoff=min(CUTOFF, edge / 2), truncation="shift")
    potential = base
    if states == 2:
        potential = iz.TwoStateFluid(base, iz.Gaussian(*COUPLING), iz.Gaussian(*SHIFT), GAP, n)
    system = iz.System(potential, iz.Periodic([edge] * 3), np.ones(n), correction=correction)

    def narrow(a):
        return jnp.asarray(a, dtype) if eqx.is_inexact_array_like(a) else a

    return jax.tree.map(narrow, system)


def ours(
    system: iz.System, x: np.ndarray, p: np.ndarray | None, step: float, skin: float | None = None
) -> Callable[[int], object]:
    """A function that carries a batch on by so many velocity-Verlet steps, on the highest surface.

    Args:
        system: its masses have the precision of the run.
        x: (B, n, 3).
        p: (B, n, 3), or None for rest.
        step: time step.
        skin: of neighbour lists, or None for all pairs.
    """
    dtype, batch = system.masses.dtype, len(x)
    keeper = ListKeeper(system, skin is not None, skin or 0.0)
    scheme = iz.VelocityVerlet(jnp.asarray(step, dtype))
    at = jnp.asarray(x, dtype)
    momenta = jnp.zeros_like(at) if p is None else jnp.asarray(p, dtype)
    state = jnp.full(batch, system.states - 1)
    force = jax.jit(jax.vmap(lambda a, near: system.force(a, system.states - 1, near)))(at, keeper.build(at))
    keys = jax.random.split(jax.random.key(0), batch)
    phase = ensemble.Phase(at, momenta, force)
    now = [ensemble.Walkers(phase, state, jnp.arange(batch), jnp.ones(batch, dtype), keys)]

    def advance(walkers, first, count, near):
        return ensemble.advance(system, scheme, walkers, first, count, near)

    def go(steps: int):
        now[0] = keeper.advance(advance, now[0], lambda w: w.phase.x, steps, lambda count: None)
        return now[0].phase.x

    return go


def on_devices(go: Callable[[int], object]) -> Callable[[int], object]:
    """The same, with what `pieces.each` runs cut over all devices."""

    def spread(steps: int):
        with over_devices():
            return go(steps)

    return spread
