"""Closures: the viscous stress τ and the heat flux q from ρ, T and the gradients ∇u, ∇T.

σ = −p(ρ, T) I + τ, tension positive, in the balance laws (3.4)–(3.13): ∂ρu = −∇·(ρu⊗u − σ), ∂E = −∇·(Eu − σu + q).
u itself never enters, which makes closures Galilean invariant; both forms here are isotropic functions of S = sym ∇u
and g = ∇T, so that rotations and reflections turn τ and q along and a spinning frame changes nothing, τ is symmetric,
and τ:∇u/T − q·∇T/T² ≥ 0. C. Truesdell, W. Noll, The Non-Linear Field Theories of Mechanics (1965), sections 12 and 17.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, PRNGKeyArray

from jaxmd_iz.checks import must
from jaxmd_iz.shapes import Scalar

Coefficient = float | int | Float[Array, ""] | Callable[[Scalar, Scalar], Scalar]


class AbstractClosure(eqx.Module):
    """τ and q at one point of space; batching is the caller's `vmap`."""

    @abc.abstractmethod
    def fluxes(
        self, rho: Scalar, temperature: Scalar, grad_u: Float[Array, "D D"], grad_t: Float[Array, " D"]
    ) -> tuple[Float[Array, "D D"], Float[Array, " D"]]:
        """Viscous stress τ (energy/lengthᴰ) and heat flux q (energy/lengthᴰ · velocity).

        Args:
            rho: ρ, mass/lengthᴰ.
            temperature: k_B T, energy.
            grad_u: (D, D) ∂_i u_j, 1/time; the first index is that of the derivative.
            grad_t: (D,) ∂_i T, energy/length.
        """

    def entropy_production(
        self, rho: Scalar, temperature: Scalar, grad_u: Float[Array, "D D"], grad_t: Float[Array, " D"]
    ) -> Scalar:
        """τ:∇u/T − q·∇T/T², 1/(lengthᴰ time); the second law asks for ≥ 0. Arguments as of `fluxes`."""
        tau, q = self.fluxes(rho, temperature, grad_u, grad_t)
        return jnp.sum(tau * grad_u) / temperature - jnp.sum(q * grad_t) / temperature**2

    def diffusivities(self, rho: Scalar, temperature: Scalar, dim: int = 3) -> tuple[Scalar, Scalar]:
        """Longitudinal viscosity ∂τ_xx/∂(∂_x u_x), pressure · time, and conductivity −∂q_x/∂(∂_x T), at rest."""
        zero, none = jnp.zeros((dim, dim), rho.dtype), jnp.zeros(dim, rho.dtype)
        viscous = jax.jacfwd(lambda a: self.fluxes(rho, temperature, a, none)[0])(zero)
        heat = jax.jacfwd(lambda a: self.fluxes(rho, temperature, zero, a)[1])(none)
        shear = viscous[0, 1, 0, 1] if dim > 1 else viscous[0, 0, 0, 0]
        return jnp.maximum(viscous[0, 0, 0, 0], shear), -heat[0, 0]


class NewtonFourier(AbstractClosure):
    """τ = 2η (S − I tr S/D) + ζ I tr S and q = −κ ∇T.

    In D = 1 there is no shear, and ζ alone acts; take three components of u for a flow in x of a fluid in space.

    Args:
        viscosity: η, pressure · time; a number or a function of (ρ, T).
        bulk_viscosity: ζ, pressure · time; likewise.
        conductivity: κ, of k_B T: 1/(length^(D−2) · time); likewise.

    Raises:
        InputError: a coefficient that is a negative number; functions have to give no negative ones.
    """

    viscosity: Coefficient
    bulk_viscosity: Coefficient = 0.0
    conductivity: Coefficient = 0.0

    def __check_init__(self):
        for name in ("viscosity", "bulk_viscosity", "conductivity"):
            value = getattr(self, name)
            if not callable(value) and not isinstance(value, Tracer):
                must(float(value) >= 0, name, "be zero or more", f"it is {float(value):g}")

    def fluxes(self, rho, temperature, grad_u, grad_t):
        """τ and q."""
        both = (self.viscosity, self.bulk_viscosity, self.conductivity)
        eta, zeta, kappa = (jnp.asarray(c(rho, temperature) if callable(c) else c, grad_u.dtype) for c in both)
        deviator, trace, unit = _parts(grad_u)
        return 2 * eta * deviator + zeta * trace * unit, -kappa * grad_t


class LearnedClosure(AbstractClosure):
    """τ = 2η S° + ζ I tr S + χ (g·S°g) (g⊗g)° and q = −κ g − λ S°²g, S° and (g⊗g)° without traces, g = ∇T.

    η, ζ, χ, κ, λ > 0 are the outputs of a network through `softplus`, of ρ, T and the invariants tr S, |S°|², tr S°³,
    |g|², g·S°g, |S°g|². τ:∇u = 2η |S°|² + ζ (tr S)² + χ (g·S°g)² and −q·g = κ |g|² + λ |S°g|² are no sums of other
    signs, whatever the weights. At small gradients it is Newton–Fourier with η(ρ, T), ζ(ρ, T), κ(ρ, T).

    Args:
        key: for the first weights.
        density, temperature: typical ρ and T.
        rate: typical |∇u|, 1/time, at which a form not linear in the gradients may show.
        gradient: typical |∇T|, energy/length.
        viscosity, conductivity: typical η and κ; the network begins near them.
        width, depth: of the network, with `tanh` between layers.

    Raises:
        InputError: scales that are not positive.
    """

    network: eqx.nn.MLP
    scales: tuple[float, ...] = eqx.field(static=True)

    def __init__(
        self,
        *,
        key: PRNGKeyArray,
        density: float | int = 1.0,
        temperature: float | int = 1.0,
        rate: float | int = 1.0,
        gradient: float | int = 1.0,
        viscosity: float | int = 1.0,
        conductivity: float | int = 1.0,
        width: int = 16,
        depth: int = 2,
    ):
        given = dict(density=density, temperature=temperature, rate=rate, gradient=gradient, viscosity=viscosity,
                     conductivity=conductivity)  # fmt: skip
        for name, value in given.items():
            must(value > 0, name, "be positive", f"it is {value}")
        self.scales = tuple(map(float, given.values()))
        self.network = eqx.nn.MLP(8, 5, width, depth, activation=jnp.tanh, key=key)

    def coefficients(
        self, rho: Scalar, temperature: Scalar, grad_u: Float[Array, "D D"], grad_t: Float[Array, " D"]
    ) -> Float[Array, "5"]:
        """η, ζ, χ, κ, λ, all positive, with their units. Arguments as of `fluxes`."""
        density, scale, rate, gradient, viscosity, conductivity = self.scales
        deviator, trace, _ = _parts(grad_u)
        s, g = deviator / rate, grad_t / gradient
        sg = s @ g
        invariants = [jnp.sum(s * s), jnp.sum(s * (s @ s)), jnp.sum(g * g), jnp.sum(g * sg), jnp.sum(sg * sg)]
        inputs = jnp.stack([rho / density, temperature / scale, trace / rate, *invariants])
        # large invariants grow slowly, small ones are as they are; a function of an invariant is one
        raw = self.network(jnp.concatenate([inputs[:2], jnp.arcsinh(inputs[2:])]))
        units = [viscosity, viscosity, viscosity / gradient**4, conductivity, conductivity / rate**2]
        return jax.nn.softplus(raw + 0.5413) * jnp.array(units, raw.dtype)  # softplus(0.5413) = 1

    def fluxes(self, rho, temperature, grad_u, grad_t):
        """τ and q."""
        eta, zeta, chi, kappa, lam = self.coefficients(rho, temperature, grad_u, grad_t)
        deviator, trace, unit = _parts(grad_u)
        sg = deviator @ grad_t
        coupled = jnp.outer(grad_t, grad_t) - unit * jnp.sum(grad_t**2) / len(grad_t)
        tau = 2 * eta * deviator + zeta * trace * unit + chi * jnp.sum(grad_t * sg) * coupled
        return tau, -kappa * grad_t - lam * (deviator @ sg)


def _parts(grad_u: Float[Array, "D D"]) -> tuple[Float[Array, "D D"], Scalar, Float[Array, "D D"]]:
    """S° = sym ∇u − I tr S/D, tr S, and I."""
    unit = jnp.eye(grad_u.shape[0], dtype=grad_u.dtype)
    trace = jnp.trace(grad_u)
    return 0.5 * (grad_u + grad_u.T) - unit * trace / grad_u.shape[0], trace, unit
