"""The molecular-dynamics side of (5.16)–(5.22) by quadrature over phase space, with the package's own surfaces,
integrators and moments, so that the error seen is that of the limit alone.

The trapezoidal rule is spectrally accurate here: integrands are smooth and vanish at the edge of the box.
"""

from collections.abc import Sequence
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmd_iz import ensemble, surfaces
from jaxmd_iz.checks import fail, must, one_of
from jaxmd_iz.integrators import OptimisedForestRuth, Phase
from jaxmd_iz.limit.problem import Problem
from jaxmd_iz.limit.tables import Tabulated, wants_table
from jaxmd_iz.moments import Moments
from jaxmd_iz.nonlinear import KAPPA
from jaxmd_iz.populations import diabatic_populations
from jaxmd_iz.potentials.base import AbstractPotential, AbstractWrapper
from jaxmd_iz.second_order import correction_factor, operator_factor
from jaxmd_iz.simulation import Grid
from jaxmd_iz.system import System

#: What can stand for the classical side, with what it does.
CORRECTIONS = {
    "none": "every surface λ_j, weighted by q_j*",
    "paper": "every surface λ̄_j with κ = ¼ (5.28)",
    "dboc": "every surface λ̄_j with κ = ½",
    "second_order": "canonical averages at τ = 0 with the second-order weight",
    "ground": "the lowest surface λ_0 alone",
    "mean_field": "one surface Σ λ_j e^{−βλ_j}/Σ e^{−βλ_j} from the density Σ_j e^{−βH_jj}",
}
STATICS = ("x", "x2", "population")
BATCH = 256  # phase points observed together
BLOCK = 8192  # the number of phase points is a multiple of it


class MeanField(AbstractWrapper):
    """λ_*(x) = Σ_j λ_j e^{−βλ_j}/Σ_j e^{−βλ_j}, with λ_*ⁿ = Σ_j w_j λ_jⁿ: one surface in place of several.

    C. Huang, P. Plecháč, M. Sandberg, A. Szepessy, ESAIM: M2AN 56, 2197 (2022).

    Args:
        potential: of several states.
        temperature: T, an energy.
        count: number of lowest surfaces that it stands for.
    """

    potential: AbstractPotential
    temperature: Float[Array, ""] = eqx.field(converter=lambda t: jnp.asarray(t, float))
    count: int = eqx.field(static=True)
    states: ClassVar[int] = 1

    def partition(self, e):
        """Σ_j w_j λ_jⁿ, (n,)."""
        ones = jnp.ones(e.x.shape[0], e.x.dtype)
        levels = surfaces.levels(self.potential, e, ones, "none")[: self.count]
        each = surfaces.partition(self.potential, e, ones, "none")[: self.count]
        return jnp.einsum("k,kn->n", jax.nn.softmax(-levels / self.temperature), each)


def _box(problem: Problem, temperature: float, tolerance: float, points: int) -> np.ndarray:
    """(N, C) points of a regular grid over the box of `around`, those that are reached from the start."""
    grid = problem.grid(1e12, temperature, tolerance)  # ħ → 0: the classically allowed box
    sides = [np.linspace(a, b, points) for a, b in zip(grid.lower, grid.upper, strict=True)]
    x = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, len(sides))
    lowest = np.asarray(_lowest(problem, jnp.asarray(x)))
    allowed = lowest <= lowest.min() - temperature * np.log(tolerance)
    return x[problem.reached(x, allowed, (points,) * len(sides))]


@eqx.filter_jit
def _lowest(problem: Problem, x: Float[Array, "N C"]) -> Array:
    return jax.lax.map(problem.lowest, x, batch_size=1024)


@eqx.filter_jit
def _levels(problem: Problem, x: Float[Array, "N C"], masses: Float[Array, " n"], correction: str) -> Array:
    def at(one):
        return surfaces.levels(problem.potential, problem.edges(one), masses, correction) + problem.outside(one)

    return jax.lax.map(at, x, batch_size=1024)


def _kappa(problem: Problem, correction: str) -> str:
    """The correction of the surfaces that are to be computed: a table has κ in it."""
    return correction if correction in KAPPA and not isinstance(problem.potential, Tabulated) else "none"


def statics(
    problem: Problem,
    mass: float,
    temperature: float,
    correction: str,
    states: int | None = None,
    points: int | None = None,
    tolerance: float = 1e-14,
    names: Sequence[str] = STATICS,
) -> dict[str, float]:
    """Canonical averages of functions of x, and of the population of the first electron state.

    Args:
        problem: the model.
        mass: M; the result depends on it for `paper`, `dboc` and `second_order` alone.
        temperature: T, an energy.
        correction: one of `CORRECTIONS`.
        states: number of surfaces used, the lowest ones; all by default.
        points: quadrature points a coordinate.
        tolerance: relative weight of what is left out.
        names: those that are wanted.

    Returns:
        `x` = ⟨x of the first coordinate⟩, `x2` = ⟨Σ x²⟩, `population` = ⟨|⟨χ_1, ψ⟩|²⟩, which for
        `second_order` takes the O(M⁻¹) rotation of the frame with it (`second_order.operator_factor`).
    """
    one_of(correction, "correction", CORRECTIONS)
    many = points or (161 if problem.start.size == 2 else 401 if wants_table(problem.potential, 1) else 1601)
    x = jnp.asarray(_box(problem, temperature, tolerance, many))
    kappa = _kappa(problem, correction)
    masses = mass * problem.masses
    levels = _levels(problem, x, masses, kappa)
    kept = 1 if correction == "ground" else levels.shape[1] if states is None else states
    weights = jnp.exp(-(levels - jnp.min(levels)) / temperature)[:, :kept]
    if correction == "second_order":
        must(kept == levels.shape[1], "states", "be left out for `second_order`", f"it is {states}")
        plain = jnp.sum(weights, axis=1)
        factor, share = _second_order(problem, x, masses, jnp.asarray(temperature), "population" in names)
        total, electron = (jnp.where(plain > 0, plain * f, 0.0) for f in (factor, share))
    else:
        total = jnp.sum(weights, axis=1)
    norm = jnp.sum(total)
    found = {
        "x": float(jnp.sum(total * x[:, 0]) / norm),
        "x2": float(jnp.sum(total * jnp.sum(x**2, axis=1)) / norm),
    }
    if "population" in names and problem.potential.states > 1:
        if correction != "second_order":
            electron = jnp.sum(weights * _populations(problem, x, masses, kappa)[:, :kept], axis=1)
        found["population"] = float(jnp.sum(electron) / norm)
    return {name: found[name] for name in names if name in found}


@eqx.filter_jit
def _second_order(
    problem: Problem, x: Float[Array, "N C"], masses: Float[Array, " n"], temperature: Array, electrons: bool
) -> tuple[Array, Array]:
    """c and, if asked for, b of |χ_1⟩⟨χ_1|, (N,) each."""
    d = problem.potential.states
    first = jnp.zeros((d, d)).at[0, 0].set(1.0)

    def at(one):
        about = problem.potential, problem.edges(one), masses, temperature
        c = correction_factor(*about, problem.external, problem.species)
        return c, operator_factor(*about, first, problem.external, problem.species) if electrons else c

    return jax.lax.map(at, x, batch_size=512)


@eqx.filter_jit
def _populations(problem: Problem, x: Float[Array, "N C"], masses: Float[Array, " n"], correction: str) -> Array:
    """|⟨χ_1, Ψ_k⟩|², (N, d)."""

    def at(one):
        states = jnp.arange(problem.potential.states)
        e = problem.edges(one)
        return jax.vmap(lambda k: diabatic_populations(problem.potential, e, masses, k, correction)[0])(states)

    return jax.lax.map(at, x, batch_size=1024)


def tabulated(
    problem: Problem, mass: float, correction: str, temperature: float, states: int, tolerance: float = 1e-11
) -> Problem:
    """The problem with its lowest surfaces λ̄_k in a table, for `flow`; itself where that is not worth while.

    Args:
        problem: the model.
        mass: M.
        correction: one of `CORRECTIONS`, which gives the κ that is in the table.
        temperature: the highest T that will be asked for.
        states: number of surfaces.
        tolerance: as in `flow`.
    """
    if not wants_table(problem.potential, problem.start.size):
        return problem
    kappa = correction if correction in KAPPA else "none"
    x = _box(problem, temperature, tolerance, 401)[:, 0]
    table = Tabulated.of(problem, x, mass * problem.masses, kappa, states)
    return Problem(table, problem.start, problem.masses, problem.external, problem.push, problem.squeeze)


class Flow(eqx.Module):
    """Phase points of the quadrature on their surfaces, to be carried along by `ensemble.advance`."""

    system: System
    walkers: ensemble.Walkers  # in the time and momenta of masses M m_n or m_n: see `scale`
    start: Float[Array, "B C"]  # x₀
    scale: float = eqx.field(static=True)  # √M where masses are M m_n, 1 where they are m_n


def flow(
    problem: Problem,
    mass: float,
    temperature: float,
    correction: str,
    pushed: bool = False,
    states: int | None = None,
    points: tuple[int, int] | None = None,
    tolerance: float = 1e-11,
) -> Flow:
    """Quadrature points (x₀, p₀) on every surface, weighted by f̄_jj/Σ_k∫f̄_kk (5.17)–(5.18).

    Args:
        problem: the model.
        mass: M.
        temperature: T, an energy.
        correction: one of `CORRECTIONS` but `second_order`, which has no dynamics.
        pushed: start from the density with the push of the problem.
        states: number of surfaces used, the lowest ones; all by default.
        points: quadrature points a coordinate in x and in p; (161, 81), or (41, 21) for two coordinates.
        tolerance: relative weight of what is left out.

    Returns:
        Flow at τ = 0.

    Raises:
        InputError: `second_order`, or a name that is not known.
    """
    one_of(correction, "correction", CORRECTIONS)
    if correction == "second_order":
        fail("correction", "have surfaces to run on", "it is `second_order`, a weight for functions of x at τ = 0")
    count = problem.start.size
    many = points or ((161, 81) if count == 1 else (41, 21))
    kappa = _kappa(problem, correction)
    scale = mass if KAPPA[kappa] else 1.0  # without κ nothing depends on M
    masses = scale * problem.masses
    x = _box(problem, temperature, tolerance, many[0])
    levels = np.asarray(_levels(problem, jnp.asarray(x), masses, kappa))
    kept = 1 if correction == "ground" else levels.shape[1] if states is None else states
    if pushed:
        levels = levels + np.asarray(jax.vmap(problem.pushed)(jnp.asarray(x)))[:, None]
    weight = np.exp(-(levels - levels.min()) / temperature)[:, :kept]
    potential = problem.potential
    if correction == "mean_field":
        weight = weight.sum(axis=1, keepdims=True)
        potential = MeanField(potential, temperature, kept)
    system = System(potential, problem.space, masses, external=problem.external, correction=kappa)
    heavy = np.sqrt(scale * np.asarray(problem.coordinate_masses))
    reach = np.sqrt(-2.0 * temperature * np.log(tolerance))
    unit = np.linspace(-reach, reach, many[1])
    p = np.stack(np.meshgrid(*[unit] * count, indexing="ij"), axis=-1).reshape(-1, count)
    gauss = np.exp(-np.sum(p**2, axis=1) / (2 * temperature))
    whole = weight[:, None, :] * gauss[None, :, None]
    at_x, at_p, state = np.nonzero(whole > tolerance * whole.max())
    w = whole[at_x, at_p, state]
    # points without weight fill the number up to one of few sizes, so that other M and T compile nothing
    spare = -len(w) % BLOCK
    at_x, at_p, state, w = (np.concatenate([a, np.repeat(a[:1], spare)]) for a in (at_x, at_p, state, w))
    w[len(w) - spare :] = 0.0
    shape = (len(w), *problem.start.shape)
    phase_x = jnp.asarray(x[at_x].reshape(shape))
    phase_p = jnp.asarray((p[at_p] * heavy).reshape(shape))
    state = jnp.asarray(state)
    force = _forces(system, phase_x, state)
    keys = jax.random.split(jax.random.key(0), len(w))  # unused: the dynamics is deterministic
    walkers = ensemble.Walkers(
        Phase(phase_x, phase_p, force), state, jnp.zeros_like(state), jnp.asarray(w / w.sum()), keys
    )
    return Flow(system, walkers, phase_x.reshape(len(w), count), float(np.sqrt(scale)))


@eqx.filter_jit
def _forces(system: System, x: Float[Array, "B n D"], state: Int[Array, " B"]) -> Float[Array, "B n D"]:
    return jax.vmap(system.force)(x, state)


def advance(of: Flow, time: float, step: float = 0.025) -> Flow:
    """The flow a scaled time τ later, by the fourth-order integrator in equal steps of at most `step`."""
    if time == 0:
        return of
    steps = max(1, int(np.ceil(time / step - 1e-9)))
    scheme = OptimisedForestRuth(jnp.asarray(of.scale * time / steps))
    walkers, _ = ensemble.advance(of.system, scheme, of.walkers, jnp.asarray(0), steps, None)
    return Flow(of.system, walkers, of.start, of.scale)


def correlation(of: Flow) -> float:
    """Σ_c ⟨x_c(τ) x_c(0)⟩ over all coordinates."""
    now = of.walkers.phase.x.reshape(of.start.shape)
    return float(jnp.sum(of.walkers.weight[:, None] * now * of.start))


def moments(of: Flow, grid: Grid) -> tuple[Moments, Float[Array, " D"]]:
    """Averaged raw moments at the points of a grid in the scaling of section 5, and w = ⟨Σp⟩/ΣM."""

    def look(x, p, k, neighbours):
        return of.system.observe([(grid.y, grid.mollifier)], x, p, k, neighbours)

    group = jnp.zeros_like(of.walkers.state)
    (several,), totals = jax.tree.map(lambda a: a[0], ensemble.group_sums(look, of.walkers, group, 1, None, BATCH))
    s = of.scale
    scaled = eqx.tree_at(
        lambda m: (m.rho, m.momentum, m.j_kinetic, m.j_potential, m.power),
        several,
        (several.rho / s**2, several.momentum / s, several.j_kinetic * s, several.j_potential * s, several.power * s),
    )
    return scaled, totals.momentum / s / jnp.sum(of.system.masses / s**2)
