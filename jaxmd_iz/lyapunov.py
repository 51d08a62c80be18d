"""How fast a derivative along a trajectory grows, and when an average is the better thing to differentiate.

|∂(x, p)(t)/∂(x, p)(0)| ~ e^{Λt}, Λ the largest Lyapunov exponent; G. Benettin et al., Meccanica 15, 9 (1980).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmd_iz.integrators import AbstractIntegrator, Force, Phase


class Growth(NamedTuple):
    """Of one tangent vector along a trajectory, renormalised at every step."""

    log_growth: Float[Array, " steps"]  # log of its length over that at the start
    exponent: Float[Array, ""]  # Λ, 1/time, from the second half


def tangent_growth(
    integrator: AbstractIntegrator,
    force: Force,
    masses: Float[Array, " n"],
    x: Float[Array, "n D"],
    p: Float[Array, "n D"],
    steps: int,
    way: tuple[Float[Array, "n D"], Float[Array, "n D"]],
) -> Growth:
    """The growth of a small change of the start along a trajectory, in forward mode.

    Lengths are those of (√M δx/τ, δp/√M) with τ = 1, in the units of the arguments. A gradient along a trajectory of
    time t is worth its noise while e^{Λt} is small against the spread of what it is taken of over the spread that the
    score term −β ⟨A; ∂E⟩ of `reweighting` has: for a liquid, up to a few 1/Λ.

    Args:
        integrator, force, masses, x, p, steps: as in `trajectory`; a scheme without noise.
        way: (δx, δp) at the start, each (n, D).

    Returns:
        Growth.
    """
    root = jnp.sqrt(masses)[:, None]

    def length(dx, dp):
        return jnp.sqrt(jnp.sum((root * dx) ** 2) + jnp.sum((dp / root) ** 2))

    def advance(x, p):
        phase = integrator(Phase(x, p, force(x)), force, masses, None)
        return phase.x, phase.p

    def body(carry, _):
        x, p, dx, dp, total = carry
        (x, p), (dx, dp) = jax.jvp(advance, (x, p), (dx, dp))
        size = length(dx, dp)
        total = total + jnp.log(size)
        return (x, p, dx / size, dp / size, total), total

    size = length(*way)
    begin = (x, p, way[0] / size, way[1] / size, jnp.zeros((), x.dtype))
    _, growth = jax.lax.scan(body, begin, None, length=steps)
    half = steps // 2
    rate = (growth[-1] - growth[half - 1]) / ((steps - half) * integrator.step)
    return Growth(growth, rate)
