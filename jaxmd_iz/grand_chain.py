"""Chains over phase spaces of every N: insertions, deletions and displacements of single particles.

Insertion and deletion are tried with probability ½ each (Norman and Filinov, 1969): a particle at a uniform place of
the cell, in the first empty slot, or any of the live ones taken away, accepted with min(1, Vw(N + 1)/((N + 1)w(N))) or
min(1, Nw(N − 1)/(Vw(N))), w the weight of `grand` without its 1/N!. Each try costs O(n_max) for pair potentials.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxmd_iz.checks import must
from jaxmd_iz.grand import GrandGibbs
from jaxmd_iz.local_gibbs import log_marginals
from jaxmd_iz.potentials.base import AbstractPairPotential, AbstractPotential, Sum
from jaxmd_iz.potentials.many_body import StillingerWeber
from jaxmd_iz.space import AbstractSpace, Periodic
from jaxmd_iz.statistics import jackknife
from jaxmd_iz.system import System


class Exchange(eqx.Module):
    """How configurations and their number of particles are sampled.

    Good values: `moves` 1 for gases, more for liquids, where exchanges are accepted once in many tries.

    Args:
        moves: displacements tried after each try of an insertion or deletion.
        step: half-width of a displacement, length; adapted to an acceptance of 0.4 in the first half of the burn-in.
        burn_in: steps before those to be used; 0 keeps the half-width.
        box: (2, D) lower and upper corner within which particles are inserted and deleted, in free space alone.
    """

    moves: int = eqx.field(static=True, default=1)
    step: float | Float[Array, ""] = 0.2
    burn_in: int = eqx.field(static=True, default=0)
    box: Float[Array, "2 D"] | None = None

    def __check_init__(self):
        must(self.moves >= 0, "moves", "be 0 or more", f"it is {self.moves}")
        must(self.burn_in >= 0, "burn_in", "be 0 or more", f"it is {self.burn_in}")
        if self.box is not None and not isinstance(self.box, Tracer):
            wide = bool(np.all(np.diff(np.asarray(self.box), axis=0) > 0))
            must(wide, "box", "have its lower corner below the upper one", f"it is {np.asarray(self.box).tolist()}")

    def region(self, space: AbstractSpace) -> tuple[Array, Array, Array, Array]:
        """Origin, edge vectors and volume of where particles are inserted; the largest half-width of a displacement."""
        if isinstance(space, Periodic):
            sizes = jnp.asarray(space.volume), jnp.asarray(space.largest_cutoff())
            return jnp.zeros(space.dimensions), jnp.asarray(space.matrix), *sizes
        assert self.box is not None
        edge = self.box[1] - self.box[0]
        return self.box[0], jnp.diag(edge), jnp.prod(edge), jnp.min(edge) / 2


class Grand(eqx.Module):
    """One chain: particles in their slots, their λ without V_b, and counts of (insertions, deletions, displacements).

    `overflow` counts insertions for which no slot was left. Unless it is 0 the result is that of a density cut at
    n_max: repeat with more slots.
    """

    x: Float[Array, "n D"]
    alive: Bool[Array, " n"]
    beta: Float[Array, " n"]  # B(xⁿ)
    potential: Float[Array, ""]  # λ, summed up from the moves
    step: Float[Array, ""]
    tried: Int[Array, "3"]
    accepted: Int[Array, "3"]
    overflow: Int[Array, ""]


class Trace(NamedTuple):
    """N and λ after every step."""

    number: Int[Array, "*c steps"]
    potential: Float[Array, "*c steps"]


def _terms(potential: AbstractPotential) -> tuple[AbstractPotential, ...]:
    return potential.terms if isinstance(potential, Sum) else (potential,)


def check_grand(system: System, density: GrandGibbs, exchange: Exchange) -> None:
    """Refuse what cannot have a particle more or less.

    Raises:
        InputError: several electron states, whose matrices depend on the number of particles; potentials other than
            pair potentials, Stillinger–Weber and their sums; several masses or species; free space without a box;
            cells of other dimensions.
    """
    terms, names = _terms(system.potential), type(system.potential).__name__
    one = all(t.states == 1 for t in terms)
    must(one, "potential", "have one electron state where N varies", f"{names} has {system.states}")
    fits = all(isinstance(t, AbstractPairPotential | StillingerWeber) and t.own_bonds for t in terms)
    known = "be a pair potential, Stillinger–Weber with `central` share or a sum of them where N varies"
    must(fits, "potential", known, f"it is {names}")
    must(system.kinds == 1, "species", "be one where N varies", f"there are {system.kinds}")
    if not isinstance(system.masses, Tracer):
        masses = np.asarray(system.masses)
        must(bool(np.all(masses == masses[0])), "masses", "be equal where N varies", f"they are {np.unique(masses)}")
    dim = system.space.dimensions
    periodic = isinstance(system.space, Periodic)
    must(periodic or exchange.box is not None, "box", "be given in free space", "it is None")
    must(not periodic or exchange.box is None, "box", "be left out in a periodic cell", "it is given")
    cells = density.local.cells.y.shape[1]
    must(cells == dim, "density", f"have cells of {dim} dimensions", f"theirs have {cells}")


def start_grand(system: System, density: GrandGibbs, exchange: Exchange, x: Float[Array, "N D"]) -> Grand:
    """A chain that starts with N particles at x, in the first of the n_max slots that `system` has masses for.

    Raises:
        InputError: more particles than slots, and what `check_grand` refuses.
    """
    check_grand(system, density, exchange)
    slots, (number, dim) = system.masses.shape[0], x.shape
    must(number <= slots, "x", f"hold at most {slots} particles, one for each slot of `system`", f"it holds {number}")
    at = jnp.concatenate([_wrapped(system.space, x), jnp.zeros((slots - number, dim), x.dtype)])
    alive = jnp.arange(slots) < number
    none, zero = jnp.zeros(3, int), jnp.zeros((), x.dtype)
    potential = density.product(system, at, alive)[1]
    return Grand(
        at, alive, density.betas(system.space, at), potential, zero + exchange.step, none, none, jnp.zeros((), int)
    )


def advance_grand(
    system: System,
    density: GrandGibbs,
    exchange: Exchange,
    state: Grand,
    key: PRNGKeyArray,
    first: int | Int[Array, ""],
    steps: int,
) -> tuple[Grand, Trace]:
    """`steps` further steps of one chain, each an insertion or a deletion and then `moves` displacements.

    Args:
        system: with n_max masses, potential and space.
        density: what is sampled.
        exchange: and how.
        state: where the chain stands, from `start_grand`.
        key: key of the chain; step i uses fold_in(key, i).
        first: number of the first step, so that chunking does not change the result; may be traced.
        steps: static number of steps.

    Returns:
        Grand, whose `overflow` must be 0, and N and λ after each step.
    """
    check_grand(system, density, exchange)

    def one(chain, i):
        own = jax.random.fold_in(key, i)
        chain = _exchange(system, density, exchange, chain, jax.random.fold_in(own, 0))

        def move(j, c):
            return _displace(system, density, exchange, c, jax.random.fold_in(own, 1 + j), i)

        chain = jax.lax.fori_loop(0, exchange.moves, move, chain)
        return chain, Trace(jnp.sum(chain.alive), chain.potential)

    return jax.lax.scan(one, state, first + jnp.arange(steps))


def gain(
    system: System, density: GrandGibbs, state: Grand, slot: Int[Array, ""], r: Float[Array, " D"]
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """What a particle in `slot` at r adds to `product`, log weight and λ, beside the other live ones; and B(r).

    From the bonds of this particle alone for pair potentials, from all bonds otherwise.
    """
    x, local = state.x, density.local
    others = state.alive & (jnp.arange(x.shape[0]) != slot)
    big_b = density.betas(system.space, r[None])[0]
    terms = _terms(system.potential)
    if not all(isinstance(t, AbstractPairPotential) for t in terms):
        with_it = density.product(system, x.at[slot].set(r), others.at[slot].set(True))
        without = density.product(system, x, others)
        return with_it[0] - without[0], with_it[1] - without[1], big_b
    r2 = jnp.where(others, jnp.sum(system.space.displacement(r[None] - x) ** 2, axis=1), 1.0)
    kind = jnp.zeros(x.shape[0], int)
    phi = sum((jnp.where(others, t.pair(r2, kind, kind), 0.0) for t in terms), jnp.zeros_like(r2))  # type: ignore
    level = jnp.asarray(sum(t.level for t in terms), x.dtype)  # type: ignore
    shares = local.cells.shares(system.space, r[None])
    alone = log_marginals(local.theta, local.beta_0, shares, level[None, None], system.masses[:1])[0]
    alone = alone - x.shape[1] * jnp.log(jnp.asarray(density.planck, x.dtype))
    if system.external is not None:
        alone = alone - local.beta_0 * system.external.energy(r[None], system.species[:1])[0]
    # each end of a bond carries half of φ, at its own B
    return alone - jnp.sum((state.beta + big_b) * phi) / 2, level + jnp.sum(phi), big_b


def _wrapped(space, x):
    """Positions in the cell itself, where V_b is that of the cell, periodic or not."""
    if not isinstance(space, Periodic):
        return x
    fraction = x @ jnp.asarray(np.linalg.inv(space.matrix), x.dtype)
    return (fraction - jnp.floor(fraction)) @ jnp.asarray(space.matrix, x.dtype)


def _any_live(u, alive):
    """A live slot, each with the same probability for uniform u, and their number; slot 0 where there is none."""
    count = jnp.sum(alive)
    rank = jnp.floor(u * count.astype(u.dtype)).astype(count.dtype)
    return jnp.argmax(jnp.cumsum(alive) > jnp.minimum(rank, count - 1)), count


def _exchange(system, density, exchange, state, key):
    """An insertion at a uniform place or the deletion of any live particle, as above."""
    x, alive = state.x, state.alive
    u = jax.random.uniform(key, (3 + x.shape[1],), x.dtype)
    origin, matrix, volume, _ = (a.astype(x.dtype) for a in exchange.region(system.space))
    insert = u[0] < 0.5
    picked, count = _any_live(u[1], alive)
    slot = jnp.where(insert, jnp.argmin(alive), picked)  # the first ghost
    place = origin + u[3:] @ matrix
    r = jnp.where(insert, place, x[slot])
    change, energy, big_b = gain(system, density, state, slot, r)
    larger = jnp.maximum(jnp.where(insert, count + 1, count), 1).astype(x.dtype)
    log_ratio = change + jnp.log(volume / larger)
    full = jnp.all(alive)
    possible = jnp.where(insert, ~full, (count > 0) & _inside(system.space, origin, matrix, r))
    take = possible & (jnp.log(u[2]) < jnp.where(insert, log_ratio, -log_ratio))
    comes = take & insert
    here, one = jnp.arange(x.shape[0]) == slot, jnp.arange(3) == jnp.where(insert, 0, 1)
    return Grand(
        x=jnp.where((here & comes)[:, None], r[None], x),
        alive=jnp.where(here & take, insert, alive),
        beta=jnp.where(here & comes, big_b, state.beta),
        potential=state.potential + jnp.where(take, jnp.where(insert, energy, -energy), 0.0),
        step=state.step,
        tried=_counted(state.tried, one),
        accepted=_counted(state.accepted, one & take),
        overflow=_counted(state.overflow, insert & full),
    )


def _counted(count, these):
    return count + these.astype(count.dtype)


def _inside(space, origin, matrix, r):
    """Whether an insertion could have put a particle at r: everywhere in a periodic cell."""
    if isinstance(space, Periodic):
        return jnp.ones((), bool)
    fraction = (r - origin) / jnp.diag(matrix)
    return jnp.all((fraction >= 0) & (fraction < 1))


def _displace(system, density, exchange, state, key, i):
    """One live particle moved by a uniform displacement, accepted by Metropolis."""
    x = state.x
    u = jax.random.uniform(key, (2 + x.shape[1],), x.dtype)
    slot, count = _any_live(u[0], state.alive)
    r = _wrapped(system.space, x[slot] + state.step * (2 * u[2:] - 1))
    change, energy, big_b = jax.vmap(lambda at: gain(system, density, state, slot, at))(jnp.stack([x[slot], r]))
    log_ratio = change[1] - change[0]
    take = (count > 0) & (jnp.log(u[1]) < log_ratio)
    chance = jnp.where(jnp.isnan(log_ratio), 0.0, jnp.exp(jnp.minimum(log_ratio, 0.0)))
    rate = jnp.where((2 * i < exchange.burn_in) & (count > 0), 0.5 / jnp.sqrt(1.0 + i.astype(x.dtype)), 0.0)
    largest = exchange.region(system.space)[3].astype(x.dtype)
    here, one = (jnp.arange(x.shape[0]) == slot) & take, jnp.arange(3) == 2
    return Grand(
        x=jnp.where(here[:, None], r[None], x),
        alive=state.alive,
        beta=jnp.where(here, big_b[1], state.beta),
        potential=state.potential + jnp.where(take, energy[1] - energy[0], 0.0),
        step=jnp.minimum(state.step * jnp.exp(rate * (chance - 0.4)), largest),
        tried=_counted(state.tried, one & (count > 0)),
        accepted=_counted(state.accepted, one & take),
        overflow=state.overflow,
    )


class Averages(NamedTuple):
    """⟨N⟩, its variance, ⟨λ⟩ and the covariance of N and λ."""

    number: Float[Array, ""]
    variance: Float[Array, ""]
    potential: Float[Array, ""]
    covariance: Float[Array, ""]


def averages(trace: Trace) -> tuple[Averages, Averages]:
    """Averages over all steps of independent chains, and their standard errors by leaving out one chain at a time.

    Args:
        trace: (chains, steps), the steps of the burn-in left out. Errors are infinite for one chain.
    """
    lam = trace.potential
    number = trace.number.astype(lam.dtype)
    sums = [jnp.mean(a, axis=1) for a in (number, number**2, lam, number * lam)]

    def estimate(means):
        n, n2, u, nu = means
        return Averages(n, n2 - n**2, u, nu - n * u)

    return jackknife(estimate, sums, jnp.ones(lam.shape[0], lam.dtype))
