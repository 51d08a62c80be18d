"""The local Gibbs density with fields β(y), u(y), μ(y) on macroscopic points: (6.1) repaired, section 8.

f_j ∝ exp −Σ_n [B(xⁿ)(|pⁿ|²/2M_n + λ̄_jⁿ) − U(xⁿ)·pⁿ − M_n ν(xⁿ)] · e^{−β₀V_b}, with B = β₀ + η∗(β − β₀), U = η∗(βu),
ν = η∗β(μ − |u|²/2) and η∗f = Σ_k a_k f_k, a_k(x) = v_k η(y_k − x): conjugate to the fields E, m, ρ at y_k. Where the
points do not reach, the density is the canonical one of β₀, which is also the β of V_b.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from jaxmd_iz import eigen, pair_forces, surfaces
from jaxmd_iz.checks import must
from jaxmd_iz.gibbs import AbstractDensity, outside
from jaxmd_iz.mollifiers import AbstractMollifier
from jaxmd_iz.nonlinear import moved
from jaxmd_iz.potentials.base import AbstractPairPotential
from jaxmd_iz.space import AbstractSpace, pull_back


class Cells(eqx.Module):
    """Macroscopic points y_k with their volumes v_k and the mollifier η that looks at them.

    Good values: equidistant points of a profile and a `slab` of `Cubic` in one dimension with the spacing as ε, so that
    Σ_k a_k = 1 to rounding. Where the sum is not 1, B = β₀ + Σ_k a_k(β_k − β₀) has to be positive all the same.

    Args:
        y: (K, D) points.
        volume: (K,) v_k, length^D.
        mollifier: η.
    """

    y: Float[Array, "K D"]
    volume: Float[Array, " K"]
    mollifier: AbstractMollifier

    def __check_init__(self):
        but = f"their shapes are {self.y.shape} and {self.volume.shape}"
        must(self.volume.shape == self.y.shape[:1], "volume", "have one entry for each point of `y`", but)
        same = self.mollifier.dimensions == self.y.shape[1]
        must(same, "mollifier", f"have {self.y.shape[1]} dimensions", f"it has {self.mollifier.dimensions}")

    def shares(self, space: AbstractSpace, x: Float[Array, "n D"]) -> Float[Array, "n K"]:
        """a_k(xⁿ) = v_k Σ_images η(y_k − xⁿ), (n, K), dimensionless."""
        near = jnp.asarray(self.mollifier.images(space, 0.0), x.dtype).T  # (D, I)

        def one(point):
            u = space.displacement(point[None, :] - x).T  # (D, n)
            return jnp.sum(self.mollifier.density(u[:, None, :] + near[:, :, None]), axis=0)

        return jax.vmap(one)(self.y.astype(x.dtype)).T * self.volume.astype(x.dtype)[None, :]


class Natural(eqx.Module):
    """θ at K points: β, βu and β(μ − |u|²/2), in which the entropy problem of section 8 is convex."""

    beta: Float[Array, " K"]  # 1/energy
    beta_u: Float[Array, "K D"]  # momentum⁻¹
    nu: Float[Array, " K"]  # 1/mass


def natural(temperature: Float[Array, " K"], u: Float[Array, "K D"], mu: Float[Array, " K"]) -> Natural:
    """θ from T, u and μ (energy per mass) at each point."""
    beta = 1 / temperature
    return Natural(beta, beta[:, None] * u, beta * (mu - jnp.sum(u**2, axis=1) / 2))


def physical(theta: Natural) -> tuple[Float[Array, " K"], Float[Array, "K D"], Float[Array, " K"]]:
    """T, u and μ at each point, the inverse of `natural`."""
    u = theta.beta_u / theta.beta[:, None]
    return 1 / theta.beta, u, theta.nu / theta.beta + jnp.sum(u**2, axis=1) / 2


def at_particles(
    theta: Natural, beta_0, shares: Float[Array, "n K"]
) -> tuple[Float[Array, " n"], Float[Array, "n D"], Float[Array, " n"]]:
    """B(xⁿ), U(xⁿ), ν(xⁿ)."""
    return beta_0 + shares @ (theta.beta - beta_0), shares @ theta.beta_u, shares @ theta.nu


def log_marginals(
    theta: Natural,
    beta_0,
    shares: Float[Array, "n K"],
    levels: Float[Array, "d n"],
    masses: Float[Array, " n"],
    alive: Float[Array, " n"] | None = None,
) -> Float[Array, " d"]:
    """log ∫ f_j dp of each state, without V_b: −Σ_n Bλ̄_jⁿ + Σ_n [(D/2) log(2πM_n/B) + M_n|U|²/2B + M_nν].

    A function of θ for one configuration; its gradient are the mean fields v_k(−E, m, ρ)(y_k) given x.

    Args:
        theta: θ.
        beta_0: β₀ where no point reaches, 1/energy.
        shares: (n, K) a_k(xⁿ).
        levels: (d, n) λ̄_jⁿ.
        masses: (n,).
        alive: (n,) 1 for particles and 0 for empty slots; all 1 by default.

    Returns:
        (d,).
    """
    big_b, big_u, nu = at_particles(theta, beta_0, shares)
    own = _alone(big_b, big_u, nu, masses)
    if alive is not None:
        own, big_b = own * alive, big_b * alive
    return jnp.sum(own) - levels @ big_b


def _alone(big_b, big_u, nu, masses):
    """(D/2) log(2πM_n/B) + M_n|U|²/2B + M_nν, (n,): momenta integrated out."""
    own = masses * jnp.sum(big_u**2, axis=1) / (2 * big_b) + masses * nu
    return own + big_u.shape[1] / 2 * jnp.log(2 * np.pi * masses / big_b)


def _bonds_part(system, e, big_b, combine):
    """combine(Σ_n Bλ̄_jⁿ), its gradient at fixed B, and its derivative with respect to B(xⁿ)."""
    potential, states = system.potential, system.states
    plain = states == 1 or surfaces.kappa(system.correction) == 0
    if plain and isinstance(potential, AbstractPairPotential) and pair_forces.is_fast(potential):

        def energy(v, w):
            if states == 1:
                return combine(w)
            _, psi = eigen.eigh(jnp.array([[v[0] + v[1], v[2]], [v[2], v[0] - v[1]]]))
            weighted = jnp.array([[w[0] + w[1], w[2]], [w[2], w[0] - w[1]]])
            return combine(jnp.einsum("ik,ij,jk->k", psi, weighted, psi))

        return pair_forces.weighted_value_and_gradient(potential, e, big_b, energy)

    def total(d, at, b):
        return combine(surfaces.partition(potential, moved(e, d, at), system.masses, system.correction) @ b)

    value, (along, direct, through_b) = jax.value_and_grad(total, (0, 1, 2))(e.d, e.x, big_b)
    return value, pull_back(e, along) + direct, through_b


class LocalGibbs(AbstractDensity):
    """The local Gibbs density of section 8 on `cells`.

    Args:
        cells: macroscopic points.
        theta: natural parameters there.
        beta_0: β₀, the β of V_b and where no point reaches, 1/energy.

    Raises:
        InputError: parameters of another number of points, β that is not positive.
    """

    cells: Cells
    theta: Natural
    beta_0: float | Float[Array, ""]

    def __check_init__(self):
        count = self.cells.y.shape[0]
        for name, value in (("beta", self.theta.beta), ("beta_u", self.theta.beta_u), ("nu", self.theta.nu)):
            must(value.shape[0] == count, name, f"have {count} points as `cells`", f"it has {value.shape[0]}")
        for name, value in (("beta", self.theta.beta), ("beta_0", self.beta_0)):
            if not isinstance(value, Tracer):
                least = float(np.min(np.asarray(value)))
                must(least > 0, name, "be positive everywhere", f"the smallest is {least:g}")

    def action(self, system, x, neighbours=None, state=None):
        """Φ and ∇Φ: through the bonds at fixed B, U and ν, and through those at the particles."""
        e = system.edges(x, neighbours)

        def combine(energies):  # Σ_n Bλ̄_jⁿ of each state ↦ Φ without what the particles have alone
            return -jax.nn.logsumexp(-energies) if state is None else jnp.take(energies, state)

        def alone(at):
            fields = at_particles(self.theta, self.beta_0, self.cells.shares(system.space, at))
            return -jnp.sum(_alone(*fields, system.masses)), fields[0]

        one, pull, big_b = jax.vjp(alone, e.x, has_aux=True)
        pair, through_x, through_b = _bonds_part(system, e, big_b, combine)
        (slope,) = pull(jnp.ones_like(one))
        _, pull_b = jax.vjp(lambda at: alone(at)[1], e.x)
        gradient = through_x + slope + pull_b(through_b)[0]
        return one + pair + outside(system, x) * self.beta_0, gradient + system.confinement(x) * self.beta_0

    def _marginals(self, system, x, levels):
        return log_marginals(self.theta, self.beta_0, self.cells.shares(system.space, x), levels, system.masses)

    def actions(self, system, x, neighbours=None):
        """Φ_j of every state."""
        e = system.edges(x, neighbours)
        levels = surfaces.partition(system.potential, e, system.masses, system.correction)
        return outside(system, x) * self.beta_0 - self._marginals(system, x, levels)

    def momenta(self, key, system, x):
        """pⁿ ~ N(M_n U/B, M_n/B)."""
        big_b, big_u, _ = at_particles(self.theta, self.beta_0, self.cells.shares(system.space, x))
        noise = jax.random.normal(key, x.shape, x.dtype) * jnp.sqrt(system.masses / big_b)[:, None]
        return (system.masses / big_b)[:, None] * big_u + noise

    def inertia(self, system):
        """M_n β₀."""
        return system.masses * self.beta_0
