"""The shortest split on neighbour lists: steps of conjugate gradients with and without the coarse level."""

import dataclasses
from collections.abc import Iterator
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg

from bench.systems import fluid, melt
from bench.timing import row, seconds
from jaxmd_iz import min_norm
from jaxmd_iz.neighbours import neighbour_list

TOLERANCE = 1e-8


def _split(system, x, near, coarse: bool, tally: list | None = None):
    """z of (AAᵀ) z = b for the gradient b; each use of the preconditioner, one a step and one before, is counted."""
    net = min_norm.network(near.edges(system.space, x, system.species), system.potential.cutoff)
    close = min_norm.preconditioner(net, system.space, x)
    if not coarse:
        close = dataclasses.replace(close, cell=None, coarse=None)

    def counted(r):
        if tally is not None:
            jax.debug.callback(partial(tally.append, 1))
        return close(r)

    return cg(net.stiffness, -system.force(x, 0, near), tol=TOLERANCE, maxiter=1000, M=counted)[0]


def _steps(system, x, near, coarse: bool) -> int:
    tally: list = []
    jax.block_until_ready(eqx.filter_jit(partial(_split, coarse=coarse, tally=tally))(system, x, near))
    jax.effects_barrier()
    return len(tally) - 1


def split(quick: bool) -> Iterator[dict]:
    """Steps until 1e-8 of the force is left, float64, near n = 1000, 8000 and 64 000."""
    first = None
    for size in (1000, 8000) if quick else (1000, 8000, 64000):
        x, _, edge = melt(size)
        n, at = len(x), jnp.asarray(x)
        system = fluid(n, edge, jnp.float64)
        near = neighbour_list(system.space, at, system.potential.cutoff, whole=False)
        with_it, without = (_steps(system, at, near, coarse) for coarse in (True, False))
        name = f"min-norm split, n={n}"
        yield row(
            f"{name}, steps, against those without the coarse level", with_it, "steps", without, line="steps", at=n
        )
        if not quick:
            taken = seconds(eqx.filter_jit(partial(_split, coarse=True)), system, at, near, runs=3)
            yield row(f"{name}, a solve", 1e3 * taken, "ms")
        if first is None:
            first = n, with_it
        else:
            growth, allowed = with_it / first[1], (n / first[0]) ** (1 / 3)
            yield row(f"growth of the steps from n={first[0]} to {n}, against n^(1/3)", growth, "times", allowed, "≤ 1")
