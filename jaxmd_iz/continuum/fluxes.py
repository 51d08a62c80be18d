"""Fluxes through the faces between cells: reconstruction, Riemann solvers, and the viscous and heat fluxes.

E. F. Toro, Riemann Solvers and Numerical Methods for Fluid Dynamics, 3rd ed. (2009), chapters 10, 13 and 14.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmd_iz.closures import AbstractClosure
from jaxmd_iz.continuum.state import Primitive
from jaxmd_iz.equation_of_state import AbstractEquationOfState

LIMITERS = ("van_albada", "none")
FLUXES = ("hllc", "rusanov")


def faces(cells: Primitive, limiter: str) -> tuple[Primitive, Primitive]:
    """ρ, u, T left and right of the N − 3 inner faces of N cells, linear in each cell.

    `van_albada` is smooth, of second order, and close to monotone at jumps; `none` takes central differences.
    """

    def sides(a):
        below, above = a[1:-1] - a[:-2], a[2:] - a[1:-1]
        if limiter == "none":
            slope = 0.5 * (below + above)
        else:  # (a b² + b a²)/(a² + b²), 0/0 made safe
            squares = below**2 + above**2
            safe = jnp.where(squares > 0, squares, 1.0)
            slope = jnp.where(squares > 0, below * above * (below + above) / safe, 0.0)
        return a[1:-2] + 0.5 * slope[:-1], a[2:-1] - 0.5 * slope[1:]

    left, right = zip(*(sides(a) for a in cells), strict=True)
    return Primitive(*left), Primitive(*right)


def _one(rho, u, t, eos):
    """Conserved densities (2 + C,), p and c of one state."""
    energy = rho * (eos.energy(rho, t) + 0.5 * jnp.sum(u**2))
    q = jnp.concatenate([rho[None], rho * u, energy[None]])
    return q, eos.pressure(rho, t), eos.sound_speed(rho, t)


def _euler(q, u, p):
    """The flux of ideal flow: q u_x, and p in the x momentum, p u_x in the energy."""
    return (q * u[0]).at[1].add(p).at[-1].add(p * u[0])


def _hllc(left, right, u_l, u_r):
    """Three waves; the middle one keeps contacts and shear layers at rest sharp. Toro, section 10.4."""
    (q_l, p_l, c_l), (q_r, p_r, c_r) = left, right
    s_l = jnp.minimum(u_l[0] - c_l, u_r[0] - c_r)
    s_r = jnp.maximum(u_l[0] + c_l, u_r[0] + c_r)
    m_l, m_r = q_l[0] * (s_l - u_l[0]), q_r[0] * (s_r - u_r[0])
    s = (p_r - p_l + m_l * u_l[0] - m_r * u_r[0]) / (m_l - m_r)

    def star(q, u, p, speed, mass):
        inner = jnp.concatenate([jnp.ones(1, q.dtype), s[None], u[1:], (q[-1] / q[0])[None]])
        inner = inner.at[-1].add((s - u[0]) * (s + p / mass))
        return _euler(q, u, p) + speed * (mass / (speed - s) * inner - q)

    inside = jnp.where(s >= 0, star(q_l, u_l, p_l, s_l, m_l), star(q_r, u_r, p_r, s_r, m_r))
    return jnp.where(s_l >= 0, _euler(q_l, u_l, p_l), jnp.where(s_r <= 0, _euler(q_r, u_r, p_r), inside))


def _rusanov(left, right, u_l, u_r):
    """The mean of both fluxes, with a dissipation by the fastest wave."""
    (q_l, p_l, c_l), (q_r, p_r, c_r) = left, right
    fastest = jnp.maximum(jnp.abs(u_l[0]) + c_l, jnp.abs(u_r[0]) + c_r)
    return 0.5 * (_euler(q_l, u_l, p_l) + _euler(q_r, u_r, p_r)) - 0.5 * fastest * (q_r - q_l)


def ideal_flux(left: Primitive, right: Primitive, eos: AbstractEquationOfState, flux: str) -> Float[Array, "faces Q"]:
    """The flux of (ρ, ρu, E) of ideal flow through every face."""
    solver = _hllc if flux == "hllc" else _rusanov
    both = jax.tree.map(lambda l, r: jnp.stack([l, r]), left, right)
    (q_l, q_r), (p_l, p_r), (c_l, c_r) = jax.vmap(jax.vmap(lambda s: _one(*s, eos)))(both)
    return jax.vmap(solver)((q_l, p_l, c_l), (q_r, p_r, c_r), left.u, right.u)


def viscous_flux(cells: Primitive, closure: AbstractClosure, dx) -> Float[Array, "faces Q"]:
    """(0, −τ_x, q_x − τ_x·u) at the N − 1 inner faces of N cells, by central differences of second order."""
    components = cells.u.shape[1]

    def one(rho, u, t, du, dt):
        grad_u = jnp.zeros((components, components), u.dtype).at[0].set(du)  # only ∂_x
        grad_t = jnp.zeros(components, u.dtype).at[0].set(dt)
        tau, q = closure.fluxes(rho, t, grad_u, grad_t)
        return jnp.concatenate([jnp.zeros(1, u.dtype), -tau[0], (q[0] - tau[0] @ u)[None]])

    middle = (0.5 * (a[1:] + a[:-1]) for a in cells)
    slopes = ((a[1:] - a[:-1]) / dx for a in (cells.u, cells.t))
    return jax.vmap(one)(*middle, *slopes)
