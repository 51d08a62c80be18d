"""Residuals of the three conservation laws at points y, per phase point or weighted sum of them: section 6.

∂ρ + ∇·m = 0;  ∂m + ∇·(K − S) = F;  ∂E + ∇·(J − (R + S)w) = P.
Time derivatives by `jvp` along the flow, divergences by `jacfwd` in y. Nothing is integrated in time.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmd_iz import moments as mo
from jaxmd_iz import surfaces
from jaxmd_iz.compiled import seldom
from jaxmd_iz.mollifiers import AbstractMollifier
from jaxmd_iz.neighbours import Neighbours
from jaxmd_iz.system import System


class Residual(eqx.Module):
    """Residuals relative to `scale` = max_y Σ|terms|, the largest over y; 0 where every term vanishes."""

    mass: Float[Array, ""]
    momentum: Float[Array, ""]
    energy: Float[Array, ""]
    scale: Float[Array, " 3"]


def balance_terms(
    system: System,
    y: Float[Array, "Y D"],
    x: Float[Array, "n D"],
    p: Float[Array, "n D"],
    k: int | Int[Array, ""],
    w: Float[Array, " D"],
    mollifier: AbstractMollifier,
    neighbours: Neighbours | None = None,
) -> tuple[Array, Array, Array]:
    """The terms of each law, signed so that they sum to zero.

    Args:
        system: gives moments and forces.
        y: (Y, D) points.
        x, p: (n, D) one phase point.
        k: state.
        w: (D,) the constant velocity of the energy law.
        mollifier: η.
        neighbours: list valid at x, or None for all pairs.

    Returns:
        mass (2, Y): ∂ρ, ∇·m; momentum (4, Y, D): ∂m, ∇·K, −∇·S, −F;
        energy (5, Y): ∂E, ∇·J_kinetic, ∇·J_potential, −∇·((R + S)w), −P.
    """

    confinement = system.confinement(x)

    def stored(x, p):  # ρ, m and E from the partition alone: independent of the gradients that the fluxes use
        energy = surfaces.partition(system.potential, system.edges(x, neighbours), system.masses, system.correction)
        columns = mo.particle_densities(
            p, system.masses, system.species, 1, jnp.take(energy, k, axis=0), jnp.zeros_like(x), jnp.zeros_like(x)
        )
        dim = x.shape[1]
        seen = mo.spread(y, x, columns[:, : dim + 4], mollifier, system.space)
        return seen[:, 0], seen[:, 2 : dim + 2], seen[:, dim + 2] + seen[:, dim + 3]

    flow = (p / system.masses[:, None], system.force(x, k, neighbours))
    _, (rho_t, m_t, e_t) = jax.jvp(stored, (x, p), flow)
    surface, links = system.bonds(x, p, k, neighbours)

    def fluxes(point):
        m = mo.moments(
            point[None],
            x,
            p,
            system.masses,
            system.species,
            system.kinds,
            surface,
            links,
            confinement,
            mollifier,
            system.space,
        )
        m = jax.tree.map(lambda a: a[0], m)
        return (m.momentum, m.k, m.s, m.j_kinetic, m.j_potential, (m.r + m.s) @ w), (m.force, m.power)

    def divergences(point):
        jacobian, sources = jax.jacfwd(fluxes, has_aux=True)(point)
        return jax.tree.map(lambda j: jnp.trace(j, axis1=0, axis2=j.ndim - 1), jacobian), sources

    seen, (force, power) = jax.lax.map(divergences, y, batch_size=min(8, y.shape[0]))
    div_m, div_k, div_s, div_jk, div_jp, div_w = seen
    return (
        jnp.stack([rho_t, div_m]),
        jnp.stack([m_t, div_k, -div_s, -force]),
        jnp.stack([e_t, div_jk, div_jp, -div_w, -power]),
    )


def relative_residual(terms: tuple[Array, Array, Array]) -> Residual:
    """max_y |Σ terms| / max_y Σ |terms| of each law; 0/0 = 0.

    Args:
        terms: of `balance_terms`, or a weighted sum of them over phase points.
    """

    def ratio(t):
        size = jnp.abs if t.ndim == 2 else (lambda v: jnp.sqrt(jnp.sum(v**2, axis=-1)))
        scale = jnp.max(jnp.sum(size(t), axis=0))
        misfit = jnp.max(size(jnp.sum(t, axis=0)))
        return jnp.where(scale > 0, misfit / jnp.where(scale > 0, scale, 1.0), 0.0), scale

    values, scales = zip(*(ratio(t) for t in terms), strict=True)
    return Residual(*values, jnp.stack(scales))


@seldom
def _residuals(system, grids, x, p, k, w, lists):
    """One program for all grids, so that what they share is compiled and computed once."""
    found = [relative_residual(balance_terms(system, y, x, p, k, w, m, lists)) for y, m in grids]
    return jnp.max(jnp.stack([jnp.stack([r.mass, r.momentum, r.energy]) for r in found]), axis=0)


def worst_residual(
    system: System,
    grids: Sequence[tuple[Float[Array, "_ D"], AbstractMollifier]],
    points: int,
    w: Float[Array, " D"],
    x: Float[Array, "B n D"],
    p: Float[Array, "B n D"],
    states: Int[Array, " B"],
    neighbours: Neighbours | None = None,
) -> Float[Array, " 3"]:
    """The largest relative residual of mass, momentum and energy over phase points, each at some points of every grid.

    Args:
        system: what moves.
        grids: field points y and the mollifier at them.
        points: number of points, evenly spaced ones of y; a smaller grid is shifted to make up for it.
        w: frame of the heat flux.
        x, p, states: B phase points, each on its surface.
        neighbours: lists with leading axis B, or None.
    """
    some = tuple((_points(y, points, mollifier), mollifier) for y, mollifier in grids)
    worst = jnp.zeros(3, w.dtype)
    for b in range(x.shape[0]):
        nl = jax.tree.map(lambda a, b=b: a[b], neighbours)
        worst = jnp.maximum(worst, _residuals(system, some, x[b], p[b], states[b], w, nl))
    return worst


def _points(y, points, mollifier):
    count = y.shape[0]
    y = y[np.unique(np.linspace(0, count - 1, min(points, count)).astype(int))]
    if count < points:  # a small grid: look between its points too
        y = jnp.concatenate([y + s * 0.37 * mollifier.radius / (1 + points) for s in range(-(-points // count))])
    return y
