"""The global canonical density on all surfaces, (5.16)–(5.22): f_jj ∝ exp −β(Σ|p|²/2M + λ̄_j + V_b).

Positions are sampled from g = Σ_j f_jj, that is from exp −βU with U = −T log Σ_j e^{−βλ̄_j} + V_b, momenta exactly;
every surface j then starts from the same point with weight w_j = e^{−βλ̄_j}/Σ_k e^{−βλ̄_k}, and q_j* = ⟨w_j⟩.
This is the equilibrium limit on every surface: nothing hops. `reweight` turns samples of the surfaces `none` into
averages of functions of x to second order in 1/M.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxmd_iz import second_order, surfaces
from jaxmd_iz.checks import must
from jaxmd_iz.integrators import AbstractIntegrator, Baoab, Phase, VelocityVerlet
from jaxmd_iz.neighbours import Neighbours
from jaxmd_iz.system import System


class Chain(NamedTuple):
    """One chain: a position with U and its gradient, the acceptance so far and the adapted step."""

    x: Float[Array, "n D"]
    p: Float[Array, "n D"]  # of Langevin dynamics; HMC draws its own
    energy: Float[Array, ""]
    gradient: Float[Array, "n D"]
    accepted: Float[Array, ""]
    step: Float[Array, ""]


def free_energy(
    system: System, x: Float[Array, "n D"], temperature, neighbours: Neighbours | None = None
) -> tuple[Float[Array, ""], Float[Array, "n D"]]:
    """U = −T log Σ_j e^{−βλ̄_j} + V_b and ∇U.

    Args:
        system: potential, space, masses.
        x: (n, D).
        temperature: k_B T, energy.
        neighbours: list valid at x, or None.

    Returns:
        U (), ∇U (n, D).
    """
    value, slope = surfaces.value_and_gradient(
        system.potential,
        system.edges(x, neighbours),
        system.masses,
        system.correction,
        lambda levels: -temperature * jax.nn.logsumexp(-levels / temperature),
    )
    outside = jnp.zeros((), x.dtype)
    if system.external is not None:
        outside = jnp.sum(system.external.energy(x, system.species))
    return value + outside, slope + system.confinement(x)


def weights(
    system: System, x: Float[Array, "n D"], temperature, neighbours: Neighbours | None = None
) -> Float[Array, " d"]:
    """w_j = e^{−βλ̄_j}/Σ_k e^{−βλ̄_k}, (d,); their mean over g is q_j* (5.22)."""
    return jax.nn.softmax(-system.levels(x, neighbours) / temperature)


def draw_momenta(
    key: PRNGKeyArray, masses: Float[Array, " n"], temperature, dimensions: int, fixed: bool = False
) -> Float[Array, "n D"]:
    """pⁿ ~ N(0, M_n T), (n, D); with `fixed` conditioned on total momentum 0, which leaves D(n − 1) degrees."""
    p = jax.random.normal(key, (masses.shape[0], dimensions), masses.dtype)
    p = p * jnp.sqrt(masses * temperature)[:, None]
    if fixed:
        p = p - masses[:, None] * (jnp.sum(p, axis=0) / jnp.sum(masses))[None, :]
    return p


class Canonical(eqx.Module):
    """The global canonical density (5.16) at one temperature, and how to sample it.

    Good values: `leapfrog` 8 to 16, `burn_in` long enough for the start to be forgotten (compare two of them).

    Args:
        temperature: k_B T, energy.
        samples: independent chains, one sample each.
        burn_in: proposals (HMC) or steps (Langevin) of each chain.
        sampler: `hmc` (exact) or `langevin` (BAOAB, a bias of second order in the step or better).
        leapfrog: steps of a proposal.
        step: first time step; HMC adapts it to an acceptance of about 0.8 in the first half of the burn-in.
        friction: of `langevin`, 1/time.
    """

    temperature: float | Float[Array, ""]
    samples: int = eqx.field(static=True, default=32)
    burn_in: int = eqx.field(static=True, default=200)
    sampler: str = eqx.field(static=True, default="hmc")
    leapfrog: int = eqx.field(static=True, default=10)
    step: float = eqx.field(static=True, default=0.005)
    friction: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        if not isinstance(self.temperature, Tracer):
            must(bool(np.asarray(self.temperature) > 0), "temperature", "be positive", f"it is {self.temperature}")
        must(self.samples >= 1, "samples", "be 1 or more", f"it is {self.samples}")
        must(self.burn_in >= 0, "burn_in", "be 0 or more", f"it is {self.burn_in}")
        must(self.leapfrog >= 1, "leapfrog", "be 1 or more", f"it is {self.leapfrog}")
        must(self.sampler in ("hmc", "langevin"), "sampler", "be `hmc` or `langevin`", f"it is `{self.sampler}`")


def start_chain(
    system: System,
    density: Canonical,
    x: Float[Array, "n D"],
    key: PRNGKeyArray,
    neighbours: Neighbours | None = None,
) -> Chain:
    """A chain at x with fresh momenta."""
    energy, gradient = free_energy(system, x, density.temperature, neighbours)
    p = draw_momenta(jax.random.fold_in(key, 2**31 - 1), system.masses, density.temperature, x.shape[1])
    zero = jnp.zeros((), x.dtype)
    return Chain(x, p, energy, gradient, zero, zero + density.step)


def advance_chain(
    system: System,
    density: Canonical,
    chain: Chain,
    key: PRNGKeyArray,
    first: int | Array,
    steps: int,
    neighbours: Neighbours | None = None,
) -> tuple[Chain, Bool[Array, ""]]:
    """`steps` further proposals of one chain, numbered from `first` so that chunking does not change the result.

    Args:
        system, density: what is sampled.
        chain: where it stands.
        key: key of the chain; proposal i uses fold_in(key, i).
        first: number of the first proposal; may be traced.
        steps: static number of proposals.
        neighbours: list valid throughout, or None.

    Returns:
        Chain, whose `accepted` counts acceptances after the adaptation; and whether a position on the way, accepted or
        not, outran the neighbour list, so that the result must be discarded.
    """
    masses, temperature = system.masses, density.temperature

    def force(x):
        return -free_energy(system, x, temperature, neighbours)[1]

    def outrun(x):
        return jnp.zeros((), bool) if neighbours is None else neighbours.moved(system.space, x)

    def hmc(carry, i):
        chain, stale = carry
        key_p, key_u = jax.random.split(jax.random.fold_in(key, i))
        p = draw_momenta(key_p, masses, temperature, chain.x.shape[1])
        integrator: AbstractIntegrator = VelocityVerlet(chain.step)

        def hop(_, carry):
            phase = integrator(carry[0], force, masses, None)
            return phase, carry[1] | outrun(phase.x)

        last, stale = jax.lax.fori_loop(0, density.leapfrog, hop, (Phase(chain.x, p, -chain.gradient), stale))
        energy, gradient = free_energy(system, last.x, temperature, neighbours)

        def kinetic(q):
            return jnp.sum(jnp.sum(q**2, axis=1) / masses) / 2

        change = (energy - chain.energy + kinetic(last.p) - kinetic(p)) / temperature
        chance = jnp.where(jnp.isfinite(change), jnp.exp(-jnp.maximum(change, 0.0)), 0.0)
        take = jax.random.uniform(key_u, (), change.dtype) < chance
        adapting = 2 * i < density.burn_in
        rate = 0.5 / jnp.sqrt(1.0 + i.astype(chance.dtype))
        step = jnp.where(adapting, chain.step * jnp.exp(rate * (chance - 0.8)), chain.step)
        after = Chain(
            x=jnp.where(take, last.x, chain.x),
            p=chain.p,
            energy=jnp.where(take, energy, chain.energy),
            gradient=jnp.where(take, gradient, chain.gradient),
            accepted=chain.accepted + jnp.where(adapting, 0.0, take.astype(chance.dtype)),
            step=step,
        )
        return (after, stale), None

    numbers = first + jnp.arange(steps)
    if density.sampler == "hmc":
        return jax.lax.scan(hmc, (chain, jnp.zeros((), bool)), numbers)[0]

    integrator = Baoab(chain.step, density.friction, temperature)

    def langevin(carry, i):
        phase = integrator(carry[0], force, masses, jax.random.fold_in(key, i))
        return (phase, carry[1] | outrun(phase.x)), None

    begin = (Phase(chain.x, chain.p, -chain.gradient), jnp.zeros((), bool))
    (last, stale), _ = jax.lax.scan(langevin, begin, numbers)
    energy, _ = free_energy(system, last.x, temperature, neighbours)
    after = jnp.sum(2 * numbers >= density.burn_in).astype(chain.step.dtype)
    return Chain(last.x, last.p, energy, -last.force, chain.accepted + after, chain.step), stale


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
            `advance_chain`.
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
