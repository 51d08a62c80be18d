"""Chains in e^{−Φ(x)}, the position part of a density: HMC, NUTS, MALA and Langevin dynamics, and replica exchange.

Φ takes the place of βU and M/T that of the masses, so that steps are times of the dynamics. Electron states are summed
out of Φ, or Φ is that of one state.
"""

import importlib.util
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxmd_iz import proposals, tempering
from jaxmd_iz.checks import must, one_of
from jaxmd_iz.distributed import everywhere
from jaxmd_iz.gibbs import AbstractDensity
from jaxmd_iz.integrators import Baoab, Phase
from jaxmd_iz.neighbours import Neighbours
from jaxmd_iz.proposals import Point, Spread, Step
from jaxmd_iz.system import System
from jaxmd_iz.tempering import Ladder, Replica

TARGETS = {"hmc": 0.8, "nuts": 0.8, "mala": 0.574, "langevin": 1.0}
STATES = ("together", "apart")
MASSES = ("given", "adapted")


class Sampling(eqx.Module):
    """How positions are sampled.

    Good values: `hmc` with `leapfrog` 8 to 32, `burn_in` long enough for the start to be forgotten (R̂ below 1.05).
    Measured for a Lennard-Jones liquid (64 particles, ρ* = 0.65, T* = 1.1), effective draws of the longest density
    waves |ρ_k|² for 1000 gradients, to about a tenth: `hmc` 6, 11, 22, 19 and 13 with `leapfrog` 4, 8, 16, 32 and 64;
    `nuts` 10, 13 and 12 with 4, 5 and 6 `doublings`; `mala` 3.

    Args:
        samples: independent chains, one sample each.
        burn_in: proposals, or steps of Langevin dynamics, of each chain; the first half adapts, the second is frozen.
        sampler: `hmc`, `nuts` (trajectories as long as they are useful; needs blackjax), `mala` (one step each) or
            `langevin` (BAOAB, not adapted: a bias of second order in the step or better).
        leapfrog: steps of a proposal of `hmc`.
        step: first time step, adapted to an acceptance of `target`; of `langevin` the step.
        friction: of `langevin`, 1/time.
        target: acceptance aimed at; by default 0.8, of `mala` 0.574.
        states: `together`: from g = Σ_j ∫f_jj dp, or `apart`: each state from its own; not used by a chain itself.
        mass: `given`: the density's; `adapted`: ∝ 1/variance of every coordinate in the adaptation, for stiff and soft
            coordinates side by side that stay where they are (molecules, traps, crystals); take a `burn_in` of 400 or
            more. In a liquid positions diffuse, all alike, and their variances are noise: half as many effective draws.
        rungs: copies of each chain for replica exchange, 1 for none: where wells are parted by many T.
        hottest: temperature of the last rung in units of T; barriers become so many times lower in Φ.
        doublings: the most of a trajectory of `nuts`, 2^doublings − 1 steps. All are made in a liquid, where no
            trajectory turns back within 127 steps: take 5 there.

    Raises:
        InputError: values out of range or that do not go together, `nuts` without blackjax.
    """

    samples: int = eqx.field(static=True, default=32)
    burn_in: int = eqx.field(static=True, default=200)
    sampler: str = eqx.field(static=True, default="hmc")
    leapfrog: int = eqx.field(static=True, default=10)
    step: float | Float[Array, ""] = 0.005
    friction: float | Float[Array, ""] = 1.0
    target: float | Float[Array, ""] | None = None
    states: str = eqx.field(static=True, default="together")
    mass: str = eqx.field(static=True, default="given")
    rungs: int = eqx.field(static=True, default=1)
    hottest: float | Float[Array, ""] = 10.0
    doublings: int = eqx.field(static=True, default=7)

    def __check_init__(self):
        for name, least in (("samples", 1), ("burn_in", 0), ("leapfrog", 1), ("rungs", 1), ("doublings", 1)):
            value = getattr(self, name)
            must(value >= least, name, f"be {least} or more", f"it is {value}")
        one_of(self.sampler, "sampler", TARGETS)
        one_of(self.states, "states", STATES)
        one_of(self.mass, "mass", MASSES)
        found = self.sampler != "nuts" or importlib.util.find_spec("blackjax") is not None
        remedy = "Install it: pip install 'jaxmd-iz[sample]'."
        must(found, "sampler", "be `hmc`, `mala` or `langevin` without blackjax", "it is `nuts`", remedy)
        several = self.rungs == 1 or self.sampler in ("hmc", "mala")
        must(several, "rungs", f"be 1 with `{self.sampler}`", f"it is {self.rungs}", "Take `hmc`.")
        fixed = self.mass == "given" or self.sampler != "langevin"
        must(fixed, "mass", "be `given` with `langevin`", f"it is `{self.mass}`", "Take `hmc`.")
        _must_lie("step", self.step, 0, np.inf)
        _must_lie("friction", self.friction, -np.finfo(float).tiny, np.inf)
        _must_lie("hottest", self.hottest, 1, np.inf)
        if self.target is not None:
            _must_lie("target", self.target, 0, 1)

    @property
    def adapting(self) -> int:
        """Number of proposals that adapt."""
        return (self.burn_in + 1) // 2


def _must_lie(name: str, value, low, high) -> None:
    if not isinstance(value, Tracer):
        number = float(value)
        bound = f"be above {max(low, 0):g}" if high == np.inf else f"lie between {low:g} and {high:g}"
        bound = "be zero or more" if low < 0 else bound
        must(low < number < high, name, bound, f"it is {number:g}")


class Chain(NamedTuple):
    """One chain: a position with Φ and its gradient, the acceptance so far and the adapted step."""

    x: Float[Array, "n D"]
    p: Float[Array, "n D"]  # of Langevin dynamics; the others draw their own
    action: Float[Array, ""]
    gradient: Float[Array, "n D"]
    accepted: Float[Array, ""]  # proposals after the adaptation; of NUTS the sum of their mean chances
    step: Float[Array, ""]
    average: Float[Array, ""]  # of the logarithm of the step
    spread: Spread | None = None  # of an adapted mass
    ladder: Ladder | None = None  # of replica exchange


def start_chain(
    system: System,
    density: AbstractDensity,
    sampling: Sampling,
    x: Float[Array, "n D"],
    key: PRNGKeyArray,
    neighbours: Neighbours | None = None,
    state: Int[Array, ""] | None = None,
) -> Chain:
    """A chain at x with fresh momenta, and all its copies there too; in Φ, or in Φ_k of one state."""
    point = Point(x, *density.action(system, x, neighbours, state))
    inertia = _inertia(system, density, x)
    p = proposals.draw(jax.random.fold_in(key, 2**31 - 1), inertia)
    zero = jnp.zeros((), x.dtype)
    spread = proposals.spread_of(inertia) if sampling.mass == "adapted" else None
    step = Step(zero + sampling.step, zero + jnp.log(sampling.step))
    cold, ladder = Replica(point, zero, step, spread), None
    if sampling.rungs > 1:
        pairs = sampling.rungs - 1
        hot = jax.tree.map(lambda a: jnp.broadcast_to(a[None], (pairs, *a.shape)), cold)
        ladder = Ladder(hot, jnp.zeros(pairs, x.dtype), jnp.zeros(pairs, x.dtype))
    return _chain(cold, p, ladder)


def _chain(cold: Replica, p, ladder: Ladder | None) -> Chain:
    x, action, gradient = cold.point
    return Chain(x, p, action, gradient, cold.accepted, *cold.step, cold.spread, ladder)


def _inertia(system, density, x):
    return jnp.broadcast_to(density.inertia(system)[:, None], x.shape)


def check_start(chain: Chain) -> None:
    """Refuses, on the host, chains that start where Φ or its gradient is not finite: they could never leave.

    Args:
        chain: one, or many with leading axes.

    Raises:
        InputError: if any is.
    """
    action, gradient = (np.asarray(everywhere(a)) for a in (chain.action, chain.gradient))
    fine = np.isfinite(action) & np.all(np.isfinite(gradient), axis=(-2, -1))
    remedy = "Particles on top of each other do that, and an empty density."
    count = f"{fine.size - int(np.sum(fine))} of {fine.size} chains start where they are not"
    must(bool(np.all(fine)), "x", "be positions of finite energy and forces", count, remedy)


def swap_rates(chain: Chain) -> Float[np.ndarray, " pairs"]:
    """How often rungs r and r + 1 swapped when they tried, after the adaptation, over all chains; NaN if never.

    Good values are 0.2 to 0.6: with less take more `rungs`, with more fewer.

    Args:
        chain: of replica exchange; one, or many with leading axes.

    Returns:
        (rungs − 1,).
    """
    must(chain.ladder is not None, "chain", "have `rungs` of 2 or more", "it has 1")
    assert chain.ladder is not None
    tried, swapped = (np.asarray(everywhere(a)).reshape(-1, a.shape[-1]).sum(axis=0) for a in chain.ladder[1:])
    return np.where(tried > 0, swapped / np.maximum(tried, 1), np.nan)


def advance_chain(
    system: System,
    density: AbstractDensity,
    sampling: Sampling,
    chain: Chain,
    key: PRNGKeyArray,
    first: int | Array,
    steps: int,
    neighbours: Neighbours | None = None,
    state: Int[Array, ""] | None = None,
) -> tuple[Chain, Bool[Array, ""], Float[Array, " steps"]]:
    """`steps` further proposals of one chain, numbered from `first` so that chunking does not change the result.

    Args:
        system, density: what is sampled.
        sampling: and how.
        chain: where it stands.
        key: key of the chain; proposal i uses fold_in(key, i).
        first: number of the first proposal; may be traced.
        steps: static number of proposals.
        neighbours: list valid throughout, or None.
        state: sample Φ_k of this state alone.

    Returns:
        Chain, whose `accepted` counts acceptances after the adaptation; whether a position on the way, accepted or
        not, outran the neighbour list, so that the result must be discarded; and the trace of Φ.

    Raises:
        InputError: replica exchange with a neighbour list.
    """
    alone = sampling.rungs == 1 or neighbours is None
    must(alone, "rungs", "be 1 with a neighbour list", f"it is {sampling.rungs}", 'Take `neighbours = "dense"`.')

    def action(x):
        return density.action(system, x, neighbours, state)

    def outrun(x):
        return jnp.zeros((), bool) if neighbours is None else neighbours.moved(system.space, x)

    given = _inertia(system, density, chain.x)
    numbers = first + jnp.arange(steps)
    if sampling.sampler == "langevin":
        return _langevin(action, outrun, given, sampling, chain, key, numbers)
    if sampling.sampler == "nuts":
        propose = proposals.nuts(action, outrun, sampling.doublings)
    elif sampling.sampler == "mala":
        propose = proposals.hmc(action, outrun, 1, jitter=0.0)
    else:
        propose = proposals.hmc(action, outrun, sampling.leapfrog)

    target = TARGETS[sampling.sampler] if sampling.target is None else sampling.target
    adapted = sampling.mass == "adapted"
    restarts = proposals.windows(sampling.adapting) if adapted else np.zeros(1, int)

    def one(replica: Replica, key, i, b):
        """A proposal of one copy, and what it learns from it."""
        point, accepted, step, spread = replica
        now = propose(key, point, step.size, given if spread is None else spread.inertia, b)
        step = proposals.tuned(step, now.chance, target, i, sampling.adapting, restarts)
        if spread is not None:
            spread = proposals.follow(spread, given, now.point.x, i, sampling.adapting)
        return Replica(now.point, accepted + jnp.where(i < sampling.adapting, 0.0, now.taken), step, spread), now.stale

    b = tempering.factors(sampling.rungs, sampling.hottest, chain.x.dtype)

    def single(carry, i):
        (cold, _), stale = carry
        cold, outran = one(cold, jax.random.fold_in(key, i), i, b[0])
        return ((cold, None), stale | outran), cold.point.action

    def exchange(carry, i):
        (cold, ladder), stale = carry
        here = jax.random.fold_in(key, i)
        keys = jax.vmap(lambda r: jax.random.fold_in(here, r))(jnp.arange(sampling.rungs))
        both = jax.tree.map(lambda c, h: jnp.concatenate([c[None], h]), cold, ladder.hot)
        both, _ = jax.vmap(one, in_axes=(0, 0, None, 0))(both, keys, i, b)
        order, tried, swapped = tempering.swap(jax.random.fold_in(here, sampling.rungs), i, b, both.point.action)
        both = both._replace(point=jax.tree.map(lambda a: a[order], both.point))
        counts = jnp.where(i < sampling.adapting, 0.0, 1.0).astype(b.dtype)
        cold, hot = jax.tree.map(lambda a: a[0], both), jax.tree.map(lambda a: a[1:], both)
        ladder = Ladder(hot, ladder.tried + counts * tried, ladder.swapped + counts * swapped)
        return ((cold, ladder), stale), cold.point.action

    step = Step(chain.step, chain.average)
    cold = Replica(Point(chain.x, chain.action, chain.gradient), chain.accepted, step, chain.spread)
    begin = ((cold, chain.ladder), jnp.zeros((), bool))
    ((cold, ladder), stale), trace = jax.lax.scan(single if sampling.rungs == 1 else exchange, begin, numbers)
    return _chain(cold, chain.p, ladder), stale, trace


def _langevin(action, outrun, inertia, sampling, chain, key, numbers):
    """BAOAB at temperature 1."""
    integrator = Baoab(chain.step, sampling.friction, jnp.ones((), chain.x.dtype))

    def body(carry, i):
        values = []  # Φ of the one evaluation that a step makes

        def force(x):
            value, gradient = action(x)
            values.append(value)
            return -gradient

        phase, _, stale = carry
        phase = integrator(phase, force, inertia[:, 0], jax.random.fold_in(key, i))
        return (phase, values[-1], stale | outrun(phase.x)), values[-1]

    begin = (Phase(chain.x, chain.p, -chain.gradient), chain.action, jnp.zeros((), bool))
    (last, value, stale), trace = jax.lax.scan(body, begin, numbers)
    after = jnp.sum(numbers >= sampling.adapting).astype(chain.step.dtype)
    now = chain._replace(x=last.x, p=last.p, action=value, gradient=-last.force, accepted=chain.accepted + after)
    return now, stale, trace
