"""The number of particles drawn too: the local Gibbs density of section 8 on phase spaces of every N, at equilibrium.

The measure is dz/(h^{DN} N!), so that N particles at x have the weight
Π_n [(2πM/B)^{D/2} h^{−D} exp(M|U|²/2B + Mν − Bλⁿ)] e^{−β₀V_b}/N!, and μ = T ∂(free energy)/∂N has its thermodynamic
meaning. Particles sit in fixed slots; an empty slot, a ghost, interacts with nobody and carries nothing.
"""

from math import sqrt

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.special import gammaln
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxmd_iz import moments as mo
from jaxmd_iz import surfaces
from jaxmd_iz.checks import must
from jaxmd_iz.local_gibbs import Cells, LocalGibbs, at_particles, log_marginals, natural, physical
from jaxmd_iz.mollifiers import AbstractMollifier
from jaxmd_iz.nonlinear import moved
from jaxmd_iz.pair_split import bonds
from jaxmd_iz.space import AbstractSpace, Edges
from jaxmd_iz.system import System
from jaxmd_iz.units import Units
from jaxmd_iz.windows import Fourier


def uniform(temperature: float | Float[Array, ""], mu: float | Float[Array, ""], dimensions: int) -> LocalGibbs:
    """The same T and μ everywhere and no velocity: one cell that every particle is wholly in, η = 1 and v = 1.

    Args:
        temperature: k_B T, energy.
        mu: μ, energy per mass.
        dimensions: D.

    Returns:
        LocalGibbs, of any space.
    """
    t = jnp.asarray(temperature, float)
    cells = Cells(jnp.zeros((1, dimensions)), jnp.ones(1), Fourier([1.0] * dimensions, 0.0, 0))
    theta = natural(t[None], jnp.zeros((1, dimensions)), jnp.asarray(mu, float)[None])
    return LocalGibbs(cells, theta, 1 / t)


def alive_edges(system: System, x: Float[Array, "n D"], alive: Bool[Array, " n"]) -> Edges:
    """The bonds between particles that are alive."""
    e = system.edges(x)
    e = moved(e, e.d, e.x)  # no longer all pairs: nothing may be made of x alone
    mask = e.mask & alive[:, None] & alive[None, :]
    return eqx.tree_at(lambda t: (t.mask, t.half_mask), e, (mask, mask.reshape(-1)[e.half]))


class GrandGibbs(eqx.Module):
    """The density of section 8 over every N: fields θ on cells, and h, the action that makes dz/h^{DN} a number.

    Args:
        local: θ on cells, and β₀; see `uniform` for one T and μ.
        planck: h, length · momentum. The default 2π is right in atomic units, where ħ = 1. Elsewhere give
            2πħ in the units used; another h moves every βMμ by D log h and nothing else.

    Raises:
        InputError: an h that is not positive.
    """

    local: LocalGibbs
    planck: float | Float[Array, ""] = 2 * np.pi

    def __check_init__(self):
        if not isinstance(self.planck, Tracer):
            must(bool(np.asarray(self.planck) > 0), "planck", "be positive", f"it is {self.planck}")

    def log_weight(self, system: System, x: Float[Array, "n D"], alive: Bool[Array, " n"]) -> Float[Array, ""]:
        """log of the weight of the live particles at x, momenta integrated out; differentiable, 0 for no particle."""
        number = jnp.sum(alive).astype(x.dtype)
        return self.product(system, x, alive)[0] - gammaln(number + 1)  # 1/N!

    def product(
        self, system: System, x: Float[Array, "n D"], alive: Bool[Array, " n"]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """log of the weight without 1/N!, and λ = Σ_n λⁿ, from all bonds."""
        live = alive.astype(x.dtype)
        energies = system.potential.partition(alive_edges(system, x, alive)).reshape(1, -1) * live[None, :]
        shares = self.local.cells.shares(system.space, x)
        value = log_marginals(self.local.theta, self.local.beta_0, shares, energies, system.masses, live)[0]
        value = value - jnp.sum(live) * x.shape[1] * jnp.log(jnp.asarray(self.planck, x.dtype))
        if system.external is not None:
            outside = jnp.where(alive, system.external.energy(x, system.species), 0.0)
            value = value - self.local.beta_0 * jnp.sum(outside)
        return value, jnp.sum(energies)

    def betas(self, space: AbstractSpace, x: Float[Array, "n D"]) -> Float[Array, " n"]:
        """B(xⁿ)."""
        return at_particles(self.local.theta, self.local.beta_0, self.local.cells.shares(space, x))[0]

    def momenta(
        self, key: PRNGKeyArray, system: System, x: Float[Array, "n D"], alive: Bool[Array, " n"]
    ) -> Float[Array, "n D"]:
        """pⁿ ~ N(MU/B, M/B) of the live particles; 0 in empty slots."""
        return jnp.where(alive[:, None], self.local.momenta(key, system, x), 0.0)

    def chemical_potential(self, mass: float) -> Float[Array, " K"]:
        """Mμ(y) at each point, energy per particle."""
        return mass * physical(self.local.theta)[2]

    def excess(self, mass: float, number: Float[Array, " K"]) -> Float[Array, " K"]:
        """Mμ − T log(number Λ^D), Λ = h/√(2πMT): the chemical potential above that of an ideal gas.

        Args:
            mass: M.
            number: number density at each point, 1/length^D.

        Returns:
            (K,), energy per particle.
        """
        temperature, u, mu = physical(self.local.theta)
        log_wave = jnp.log(self.planck / jnp.sqrt(2 * np.pi * mass * temperature))
        return mass * mu - temperature * (jnp.log(number) + u.shape[1] * log_wave)


def planck_of(units: Units) -> float:
    """h = 2πħ in the internal units √(energy · mass) · length of a unit system; 2π in atomic units.

    Raises:
        InputError: reduced units, whose action has no size.
    """
    from scipy.constants import angstrom, atomic_mass, electron_volt, h

    must(units.size is not None, "units", "have a size", f"`{units.name}` are reduced", "Choose an h yourself.")
    assert units.size is not None
    length, energy, mass = units.size
    return h / (length * angstrom * sqrt(energy * electron_volt * mass * atomic_mass))


def moments(
    system: System,
    x: Float[Array, "n D"],
    p: Float[Array, "n D"],
    alive: Bool[Array, " n"],
    y: Float[Array, "Y D"],
    mollifier: AbstractMollifier,
) -> mo.Moments:
    """Raw moments (section 6) at y of the live particles, stress included; their mean over chains is that over every N.

    Args:
        system: with n_max masses, one species of one electron state.
        x, p: (n, D) positions and momenta; those of ghosts do not enter.
        alive: (n,).
        y: (Y, D) field points.
        mollifier: η and B.

    Raises:
        InputError: the split `min_norm`, which is not made for empty slots.
    """
    must(system.split != "min_norm", "split", "be `energy` or `distance` where N varies", "it is `min_norm`")
    e, live = alive_edges(system, x, alive), alive.astype(x.dtype)
    surface = surfaces.surface(system.potential, e, system.masses, 0, system.correction)
    surface = eqx.tree_at(lambda s: s.energy, surface, surface.energy * live)
    p = jnp.where(alive[:, None], p, 0.0)
    velocity = p / system.masses[:, None]
    links = bonds(system.split, system.potential, e, system.masses, 0, system.correction, surface, velocity)
    confinement = jnp.where(alive[:, None], system.confinement(x), 0.0)
    kind = jnp.where(alive, 0, -1)  # ghosts are of no species
    found = mo.moments(
        y, x, p, system.masses, kind, 1, surface, links, confinement, mollifier, system.space
    )  # fmt: skip
    return eqx.tree_at(lambda m: m.rho, found, system.masses[0] * found.number[:, 0])
