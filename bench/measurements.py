"""What is measured. "per step" rows give our time over that of a force step of the same system, both in this run."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

import jaxmd_iz as iz
from bench import peers
from bench.eigenproblems import eigenproblems
from bench.models import model_systems
from bench.one_system import one_system
from bench.timing import row, seconds

CUTOFF = 2.5
DENSITY = 0.8442


def _positions(n: int, batch: int, dtype):
    """Disturbed lattices of n particles and the edge of their cell."""
    edge = (n / DENSITY) ** (1 / 3)
    side = int(np.ceil(n ** (1 / 3)))
    sites = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n]
    x = (sites + 0.5) * edge / side
    noise = np.random.default_rng(0).normal(scale=0.05, size=(batch, n, 3))
    return jnp.asarray(x[None] + noise, dtype), edge


def _system(n: int, edge: float, dtype, states: int = 1, correction: str = "none") -> iz.System:
    base = iz.LennardJones(1.0, 1.0, cutoff=min(CUTOFF, edge / 2), truncation="shift")
    fluid = iz.TwoStateFluid(base, iz.Gaussian(0.3, 0.3, 1.2), iz.Gaussian(0.2, 0.3, 1.1), 1.0, n)
    potential = base if states == 1 else fluid
    return iz.System(potential, iz.Periodic([edge] * 3), jnp.ones(n, dtype), correction=correction)


def _trajectory(force, steps: int):
    """Velocity Verlet of a batch with any force function x ↦ F."""

    def one(x):
        masses = jnp.ones(x.shape[0], x.dtype)
        return iz.trajectory(iz.VelocityVerlet(0.002), force, masses, x, jnp.zeros_like(x), steps)

    return jax.jit(jax.vmap(one))


def ensembles(quick: bool) -> Iterator[dict]:
    """Atom-steps per second of an ensemble, all pairs, float32."""
    for n, batch in ((64, 64), (256, 8)) if quick else ((64, 256), (256, 64)):
        x, edge = _positions(n, batch, jnp.float32)
        steps = 5 if quick else 20
        system = _system(n, edge, jnp.float32)
        work = batch * n * steps
        ours = work / seconds(_trajectory(lambda y, s=system: s.force(y, 0), steps), x)
        cutoff = min(CUTOFF, edge / 2)
        naive = work / seconds(_trajectory(peers.naive_force(edge, cutoff), steps), x)
        yield row(f"ensemble n={n}, against vmap(grad)", ours, naive, "atom-steps/s", True)
        other = peers.jax_md_force(edge, cutoff)
        if other is not None:
            theirs = work / seconds(_trajectory(other, steps), x)
            yield row(f"ensemble n={n}, against jax-md", ours, theirs, "atom-steps/s", True)


def states(quick: bool) -> Iterator[dict]:
    """A step on a two-state surface against a scalar step of the same n."""
    n, batch = 64, 32
    x, edge = _positions(n, batch, jnp.float64)
    scalar = _system(n, edge, jnp.float64)
    base = seconds(jax.jit(jax.vmap(lambda y: scalar.force(y, 0))), x)
    for correction in ("none", "paper"):
        two = _system(n, edge, jnp.float64, 2, correction)
        taken = seconds(jax.jit(jax.vmap(lambda y, s=two: s.force(y, 1))), x)
        yield row(f"two-state force ({correction}), n={n}, in scalar forces", taken / base, 1.0, "scalar forces", False)


def fields(quick: bool) -> Iterator[dict]:
    """One evaluation of every moment at 4³ points, in force steps of the same system."""
    for n in (64, 256) if quick else (64, 256, 500):
        x, edge = _positions(n, 1, jnp.float64)
        system = _system(n, edge, jnp.float64)
        grid = np.stack(np.meshgrid(*[np.arange(4) * edge / 4] * 3, indexing="ij"), -1).reshape(-1, 3)
        y, mollifier = jnp.asarray(grid), iz.Polynomial(1.5)
        p = jnp.zeros_like(x[0])
        look = jax.jit(lambda q, s=system, y=y, p=p, m=mollifier: s.moments(y, q, p, 0, m))
        taken = seconds(look, x[0])
        force = seconds(jax.jit(lambda q, s=system: s.force(q, 0)), x[0])
        yield row(f"all moments at 64 points, n={n}, in force steps", taken / force, 1.0, "force steps", False)


def everything(quick: bool) -> Iterator[dict]:
    """Every row."""
    for part in (ensembles, one_system, states, fields, eigenproblems, model_systems):
        yield from part(quick)
