"""Free energies: the ideal gas with electronic levels, a series linear in its coefficients, and a neural network.

All are per mass, a = (f_ideal + f_electronic + f_residual)/m with f per particle; n = ρ/m is the number density.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxmd_iz.checks import must
from jaxmd_iz.equation_of_state.base import AbstractEquationOfState
from jaxmd_iz.shapes import Scalar


class ElectronicLevels(eqx.Module):
    """f = −(T/N) log[g₀ + Σ_j g_j e^{−ε_j(n)/T}] per particle, with ε_j(n) = Σ_i ε_ji nⁱ above the ground level.

    Its heat capacity is Schottky's peak; ε_j1, ε_j2, … move it with the density, and add to the pressure.

    Args:
        energies: (levels, order + 1) ε_ji, energy · lengthᴰⁱ, of the excited levels; the ground level is 0.
        degeneracies: (levels + 1,) g_j ≥ 0 from the ground level on; all 1 by default.
        particles: N, how many particles share one set of levels; 1 for atoms, n for one gap in a whole system.

    Raises:
        InputError: shapes that do not fit, degeneracies that are not positive.
    """

    energies: Float[Array, "levels order"]
    degeneracies: tuple[float, ...] = eqx.field(static=True)
    particles: int = eqx.field(static=True)

    def __init__(self, energies, degeneracies: Sequence[float | int] | None = None, particles: int = 1):
        self.energies = jnp.asarray(energies)
        shape = self.energies.shape
        must(len(shape) == 2 and shape[1] > 0, "energies", "have shape (levels, order + 1)", f"its shape is {shape}")
        given = (1.0,) * (shape[0] + 1) if degeneracies is None else tuple(map(float, degeneracies))
        must(len(given) == shape[0] + 1, "degeneracies", f"hold {shape[0] + 1} numbers", f"it holds {len(given)}")
        must(min(given) > 0, "degeneracies", "be positive", f"the smallest is {min(given):g}")
        must(particles > 0, "particles", "be positive", f"it is {particles}")
        self.degeneracies, self.particles = given, particles

    def levels(self, number_density: Scalar) -> Float[Array, " states"]:
        """ε_j(n) with the ground level 0 first, energy."""
        powers = number_density ** jnp.arange(self.energies.shape[1], dtype=self.energies.dtype)
        return jnp.concatenate([jnp.zeros(1, self.energies.dtype), self.energies @ powers])

    def populations(self, number_density: Scalar, temperature: Scalar) -> Float[Array, " states"]:
        """Probabilities of the levels."""
        return jax.nn.softmax(jnp.log(jnp.array(self.degeneracies)) - self.levels(number_density) / temperature)

    def __call__(self, number_density: Scalar, temperature: Scalar) -> Scalar:
        """f, energy per particle."""
        boltzmann = -self.levels(number_density) / temperature
        weights = jnp.array(self.degeneracies, boltzmann.dtype)
        return -temperature * jax.nn.logsumexp(boltzmann, b=weights) / self.particles


class IdealGas(AbstractEquationOfState):
    """f = T [log n + (D/2) log(2πħ²/mT) − 1] + electronic, with ħ = 1, which is a constant of the entropy only.

    Args:
        mass: m of one particle.
        dim: D, degrees of freedom of a particle: 3, or D = 2/(γ − 1) for an adiabatic exponent γ.
        electronic: `ElectronicLevels`, or None.

    Raises:
        InputError: a mass or a D that is not positive.
    """

    mass: float | int = eqx.field(static=True, default=1.0)
    dim: float | int = eqx.field(static=True, default=3)
    electronic: ElectronicLevels | None = None

    def __check_init__(self):
        must(self.mass > 0, "mass", "be positive", f"it is {self.mass}")
        must(self.dim > 0, "dim", "be positive", f"it is {self.dim}")

    def helmholtz(self, rho, temperature):
        """a(ρ, T)."""
        n = rho / self.mass
        wave = jnp.log(2 * np.pi / (self.mass * temperature))
        f = temperature * (jnp.log(n) + 0.5 * self.dim * wave - 1)
        if self.electronic is not None:
            f = f + self.electronic(n, temperature)
        return f / self.mass


class FreeEnergySeries(AbstractEquationOfState):
    """f = ideal + T Σ_k c_k n^{d_k} T^{−t_k} exp(−γ n^{l_k}), the last factor only where l_k > 0; linear in c.

    With l = 0 it is a virial expansion: B₂(T) = Σ c_k T^{−t_k} over d_k = 1. The form is that of R. Span, W. Wagner,
    Int. J. Thermophys. 24, 1 (2003). Good values for a fluid from gas to liquid: `fluid_terms()`.

    Args:
        ideal: the ideal part, with the mass and the electronic levels.
        coefficients: (terms,) c_k, units such that T n^{d_k} T^{−t_k} is an energy.
        terms: (d_k, t_k, l_k) of each; d_k ≥ 1, so that the residual vanishes with the density.
        damping: γ, lengthᴰˡ.

    Raises:
        InputError: as many coefficients as terms are needed, d_k ≥ 1 and l_k ≥ 0.
    """

    ideal: IdealGas
    coefficients: Float[Array, " terms"]
    terms: tuple[tuple[float | int, float | int, float | int], ...] = eqx.field(static=True)
    damping: float | int = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        count = self.coefficients.shape[0]
        must(len(self.terms) == count, "terms", f"be {count}, as `coefficients`", f"they are {len(self.terms)}")
        least = min(d for d, _, _ in self.terms)
        must(least >= 1, "terms", "have powers d ≥ 1 of the density", f"the smallest is {least:g}")
        must(min(l for _, _, l in self.terms) >= 0, "terms", "have l ≥ 0", "one is negative")

    def helmholtz(self, rho, temperature):
        """a(ρ, T)."""
        n = rho / self.ideal.mass
        d, t, l = (jnp.array(column, n.dtype) for column in zip(*self.terms, strict=True))
        decay = jnp.where(l > 0, self.damping * n ** jnp.where(l > 0, l, 1.0), 0.0)
        basis = jnp.exp(d * jnp.log(n) - t * jnp.log(temperature) - decay)
        residual = temperature * jnp.sum(self.coefficients * basis)
        return self.ideal.helmholtz(rho, temperature) + residual / self.ideal.mass


def fluid_terms() -> tuple[tuple[float | int, float | int, float | int], ...]:
    """Terms (d, t, l) for a simple fluid in reduced units, from gas to dense liquid.

    Chosen by forward selection among 91 from canonical state points of Lennard-Jones, 0.7 ≤ T* ≤ 1.6 and ρ* ≤ 0.92.
    """
    plain = [(1, 0, 0), (1, 0.25, 0), (1, 1, 0), (1, 3, 0), (2, 1.5, 0), (3, 1.5, 0), (4, 0.5, 0), (5, 0.25, 0)]
    more = [(5, 3, 0), (7, 2, 0)]
    damped = [(2, 0.25, 2), (2, 1, 2), (2, 1.5, 2), (2, 3, 2), (3, 3, 2), (4, 3, 2), (5, 3, 2)]
    return (*plain, *more, *damped)


class NeuralFreeEnergy(AbstractEquationOfState):
    """f = ideal + T n̂ N(n̂, 1/T̂), N a small smooth network, n̂ = n/n₀ and T̂ = T/T₀: the residual vanishes with n.

    Args:
        ideal: the ideal part, with the mass and the electronic levels.
        density: n₀, a typical number density.
        temperature: T₀, a typical temperature, energy.
        key: for the first weights.
        width, depth: of the network, with `tanh` between layers.

    Raises:
        InputError: scales that are not positive.
    """

    ideal: IdealGas
    network: eqx.nn.MLP
    density: float = eqx.field(static=True)
    scale: float = eqx.field(static=True)

    def __init__(
        self,
        ideal: IdealGas,
        density: float | int,
        temperature: float | int,
        *,
        key: PRNGKeyArray,
        width: int = 8,
        depth: int = 2,
    ):
        must(density > 0, "density", "be positive", f"it is {density}")
        must(temperature > 0, "temperature", "be positive", f"it is {temperature}")
        self.ideal, self.density, self.scale = ideal, float(density), float(temperature)
        self.network = eqx.nn.MLP(2, "scalar", width, depth, activation=jnp.tanh, key=key)

    def helmholtz(self, rho, temperature):
        """a(ρ, T)."""
        n = rho / (self.ideal.mass * self.density)
        residual = temperature * n * self.network(jnp.stack([n, self.scale / temperature]))
        return self.ideal.helmholtz(rho, temperature) + residual / self.ideal.mass
