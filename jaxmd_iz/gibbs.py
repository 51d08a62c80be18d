"""Densities on phase space and all states; the global canonical one (5.16)–(5.22), f_jj ∝ e^{−β(Σ|p|²/2M + λ̄_j + V_b)}.

Positions are sampled from g = Σ_j ∫ f_jj dp, that is from e^{−Φ}, momenta exactly; every surface j then starts from the
same point with weight w_j = ∫ f_jj dp/g, and q_j* = ⟨w_j⟩: the equilibrium limit on every surface, nothing hops.
`reweight` turns samples of the surfaces `none` into averages of functions of x to second order in 1/M.
"""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxmd_iz import second_order, surfaces
from jaxmd_iz.checks import must
from jaxmd_iz.neighbours import Neighbours
from jaxmd_iz.system import System


class AbstractDensity(eqx.Module):
    """A density f_j(x, p) on phase space and all states j, Gaussian in p, so that momenta are drawn exactly."""

    @abc.abstractmethod
    def action(
        self,
        system: System,
        x: Float[Array, "n D"],
        neighbours: Neighbours | None = None,
        state: int | Int[Array, ""] | None = None,
    ) -> tuple[Float[Array, ""], Float[Array, "n D"]]:
        """Φ = −log Σ_j ∫ f_j dp and ∇Φ; Φ_k = −log ∫ f_k dp of one state where `state` is given. Dimensionless."""

    @abc.abstractmethod
    def actions(
        self, system: System, x: Float[Array, "n D"], neighbours: Neighbours | None = None
    ) -> Float[Array, " d"]:
        """Φ_j of every state, (d,)."""

    @abc.abstractmethod
    def momenta(self, key: PRNGKeyArray, system: System, x: Float[Array, "n D"]) -> Float[Array, "n D"]:
        """Momenta from their exact conditional density at x, (n, D)."""

    @abc.abstractmethod
    def inertia(self, system: System) -> Float[Array, " n"]:
        """M_n/T of a typical T, (n,): the masses of e^{−Φ} whose motion has the unit of time of the dynamics."""

    def weights(
        self, system: System, x: Float[Array, "n D"], neighbours: Neighbours | None = None
    ) -> Float[Array, " d"]:
        """w_j = e^{−Φ_j}/Σ_k e^{−Φ_k}, (d,); their mean over g is q_j* (5.22)."""
        return jax.nn.softmax(-self.actions(system, x, neighbours))


def draw_momenta(
    key: PRNGKeyArray, masses: Float[Array, " n"], temperature, dimensions: int, fixed: bool = False
) -> Float[Array, "n D"]:
    """pⁿ ~ N(0, M_n T), (n, D); with `fixed` conditioned on total momentum 0, which leaves D(n − 1) degrees."""
    p = jax.random.normal(key, (masses.shape[0], dimensions), masses.dtype)
    p = p * jnp.sqrt(masses * temperature)[:, None]
    if fixed:
        p = p - masses[:, None] * (jnp.sum(p, axis=0) / jnp.sum(masses))[None, :]
    return p


def outside(system: System, x: Float[Array, "n D"]) -> Float[Array, ""]:
    """V_b, energy; 0 without one."""
    if system.external is None:
        return jnp.zeros((), x.dtype)
    return jnp.sum(system.external.energy(x, system.species))


class Canonical(AbstractDensity):
    """The global canonical density (5.16) at one temperature: Φ = −log Σ_j e^{−βλ̄_j} + βV_b.

    Args:
        temperature: k_B T, energy.
    """

    temperature: float | Float[Array, ""]

    def __check_init__(self):
        if not isinstance(self.temperature, Tracer):
            must(bool(np.asarray(self.temperature) > 0), "temperature", "be positive", f"it is {self.temperature}")
            must(bool(np.isfinite(self.temperature)), "temperature", "be finite", f"it is {self.temperature}")

    def action(self, system, x, neighbours=None, state=None):
        """Φ and ∇Φ by one evaluation of the surfaces."""

        def combine(levels):
            if state is None:
                return -jax.nn.logsumexp(-levels / self.temperature)
            return jnp.take(levels, state) / self.temperature

        e = system.edges(x, neighbours)
        value, slope = surfaces.value_and_gradient(system.potential, e, system.masses, system.correction, combine)
        return value + outside(system, x) / self.temperature, slope + system.confinement(x) / self.temperature

    def actions(self, system, x, neighbours=None):
        """βλ̄_j + βV_b."""
        return (system.levels(x, neighbours) + outside(system, x)) / self.temperature

    def momenta(self, key, system, x):
        """pⁿ ~ N(0, M_n T)."""
        return draw_momenta(key, system.masses, self.temperature, x.shape[1])

    def inertia(self, system):
        """M_n/T."""
        return system.masses / self.temperature


class Reweighted(NamedTuple):
    """An average over weighted samples, its standard error, and the number of equal ones that the weights amount to."""

    mean: Float[Array, "*c"]
    error: Float[Array, "*c"]
    effective: Float[Array, ""]  # (Σw)²/Σw²


@eqx.filter_jit
def second_order_factors(
    system: System,
    x: Float[Array, "samples n D"],
    temperature: float | Float[Array, ""],
    neighbours: Neighbours | None = None,
    *,
    key: PRNGKeyArray | None = None,
    probes: int | None = None,
) -> Float[Array, " samples"]:
    """c(x) of every sample, the `second_order` weight relative to the density g of the surfaces `none`; V_b included.

    Args:
        system: with correction `none`.
        x: (samples, n, D) positions.
        temperature: k_B T, energy.
        neighbours: lists with leading axis samples, or None.
        key, probes: as in `second_order.correction_factor`; every sample has probes of its own.

    Raises:
        InputError: another correction, and what `second_order.correction_factor` refuses.
    """
    remedy = "The weight is relative to their density: sample from that."
    must(system.correction == "none", "system", "have the surfaces `none`", f"it has `{system.correction}`", remedy)

    def factor(item):
        number, at, nl = item
        mine = None if key is None else jax.random.fold_in(key, number)
        return second_order.correction_factor(
            system.potential, system.edges(at, nl), system.masses, temperature, system.external, system.species,
            key=mine, probes=probes,
        )  # fmt: skip

    return jax.lax.map(factor, (jnp.arange(x.shape[0]), x, neighbours), batch_size=min(x.shape[0], 64))


def reweight(
    system: System,
    x: Float[Array, "samples n D"],
    temperature: float | Float[Array, ""],
    values: Float[Array, "count *c"],
    neighbours: Neighbours | None = None,
    *,
    key: PRNGKeyArray | None = None,
    probes: int | None = None,
) -> Reweighted:
    """⟨A⟩ = ⟨(1 + c − ⟨c⟩_g) A⟩_g up to O(M⁻²), for functions of the positions alone, from independent samples of g.

    That is ⟨cA⟩_g/⟨c⟩_g to the order kept, and right for many particles too, where c − 1 grows with their number.
    Of the conservation fields at t = 0 these are ρ, number densities and F. K, S, E, J and R hold momenta or energies
    of single surfaces: weighted so they would stay O(M⁻¹). The samples of `simulate` are its `positions[0]` at
    every d-th walker.

    Args:
        system, x, temperature, neighbours, key, probes: as in `second_order_factors`; x drawn from g, as by
            `sampling.advance_chain`.
        values: (samples, …) A of every sample.

    Returns:
        Mean and error of the shape of A, and the effective number of samples; far fewer than there are mean that c
        varies too much for the expansion or for the samples.

    Raises:
        InputError: as `second_order_factors`; one value for each sample is needed.
    """
    count = x.shape[0]
    must(values.shape[0] == count, "values", f"hold {count} samples, as `x`", f"it holds {values.shape[0]}")
    c = second_order_factors(system, x, jnp.asarray(temperature, x.dtype), neighbours, key=key, probes=probes)
    weight = (1 + c - jnp.mean(c)).reshape((count,) + (1,) * (values.ndim - 1))
    plain, mean = jnp.mean(values, axis=0), jnp.mean(weight * values, axis=0)
    each = weight * (values - plain[None]) + plain[None] - mean[None]  # what a sample adds to mean + covariance
    error = jnp.sqrt(jnp.mean(each**2, axis=0) / count)
    return Reweighted(mean, error, count / jnp.mean(weight**2))
