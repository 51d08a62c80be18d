"""Fields u, σ, q, T from averaged moments: (3.4), (3.8), (3.12) with the sign of its last term mended."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxmd_iz.moments import Moments


class Fields(eqx.Module):
    """Continuum fields at Y points (any leading axes). Tension is positive; the first index of σ is contracted by ∇.

    Where `valid` is False there is no mass, so no u, and every quotient is 0.
    """

    rho: Float[Array, "*g Y"]
    number_density: Float[Array, "*g Y species"]
    momentum: Float[Array, "*g Y D"]
    u: Float[Array, "*g Y D"]
    E: Float[Array, "*g Y"]
    T: Float[Array, "*g Y"]  # k_B T, an energy
    sigma: Float[Array, "*g Y D D"]
    sigma_kinetic: Float[Array, "*g Y D D"]
    sigma_potential: Float[Array, "*g Y D D"]
    q: Float[Array, "*g Y D"]
    q_kinetic: Float[Array, "*g Y D"]
    q_potential: Float[Array, "*g Y D"]
    F: Float[Array, "*g Y D"]
    P: Float[Array, "*g Y"]
    valid: Bool[Array, "*g Y"]


def fields(moments: Moments, w: Float[Array, "*#g D"]) -> Fields:
    """u = m/ρ, σ = ρ u⊗u − K + S, q = J − (R + S)w − E u + σu, T = (tr K − ρ|u|²)/(D N).

    Args:
        moments: averaged over samples, states or time.
        w: (…, D) constant in y: 0 for the form of (3.12), the centre-of-mass velocity of the whole system for the
            form that is exactly conservative, symmetric and Galilean invariant at once.

    Returns:
        Fields with the leading axes of the moments.
    """
    rho = moments.rho
    valid = rho > 0
    safe = jnp.where(valid, rho, 1.0)[..., None]
    u = jnp.where(valid[..., None], moments.momentum / safe, 0.0)  # (3.4)
    dim = u.shape[-1]
    flow = rho[..., None, None] * (u[..., :, None] * u[..., None, :])
    sigma_kinetic = flow - moments.k  # (3.8)
    sigma_potential = moments.s
    w = jnp.broadcast_to(w[..., None, :], u.shape)
    q_kinetic = (
        moments.j_kinetic - moments.energy_kinetic[..., None] * u + jnp.einsum("...lj,...j->...l", sigma_kinetic, u)
    )
    q_potential = (  # (3.12): + Σ_{n<m}, and the frame w
        moments.j_potential
        - jnp.einsum("...lj,...j->...l", moments.r + moments.s, w)
        - moments.energy_potential[..., None] * u
        + jnp.einsum("...lj,...j->...l", sigma_potential, u)
    )
    count = jnp.sum(moments.number, axis=-1)
    spread = jnp.trace(moments.k, axis1=-2, axis2=-1) - rho * jnp.sum(u**2, axis=-1)
    temperature = jnp.where(count > 0, spread / (dim * jnp.where(count > 0, count, 1.0)), 0.0)
    return Fields(
        rho=rho,
        number_density=moments.number,
        momentum=moments.momentum,
        u=u,
        E=moments.energy_kinetic + moments.energy_potential,
        T=temperature,
        sigma=sigma_kinetic + sigma_potential,
        sigma_kinetic=sigma_kinetic,
        sigma_potential=sigma_potential,
        q=q_kinetic + q_potential,
        q_kinetic=q_kinetic,
        q_potential=q_potential,
        F=moments.force,
        P=moments.power,
        valid=valid,
    )
