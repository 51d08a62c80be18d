"""Constitutive relations of a fluid from flows: its equation of state, then the closure, both with honest errors.

The equation of state is a series fitted to T, p and e of all cells and frames, which is linear. The closure is what
makes the continuum, started from the first frame of each flow, meet the later ones: least squares of ρ, ρu and E
in their standard errors by Levenberg and Marquardt. Frames are correlated, so that errors come from the jackknife over
groups of samples: one step of Gauss and Newton for the data without each group, equation of state included.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmd_iz.checks import must
from jaxmd_iz.closures import AbstractClosure, NewtonFourier
from jaxmd_iz.compiled import seldom
from jaxmd_iz.continuum.solver import safe_step, solve
from jaxmd_iz.continuum.state import State1D
from jaxmd_iz.equation_of_state import FreeEnergySeries, IdealGas
from jaxmd_iz.equation_of_state.base import AbstractEquationOfState
from jaxmd_iz.equation_of_state.fitting import StatePoints, normalised_residuals
from jaxmd_iz.fit.flows import Flow

#: (d, t, l) of a series around one state of a dense fluid: t = 0.4 has e ~ T^{3/5} (Rosenfeld and Tarazona, 1998).
LOCAL_TERMS = ((1, 0, 0), (1, 0.4, 0), (1, 1, 0), (3, 0, 0), (3, 0.4, 0), (3, 1, 0))


class Constitutive(NamedTuple):
    """A fitted fluid."""

    eos: FreeEnergySeries
    closure: NewtonFourier
    covariance: Float[Array, "3 3"]  # of η, ζ, κ by the jackknife
    chi2: float  # of all frames after the first; frames are correlated
    count: int  # numbers that went into it
    state_miss: float  # root mean square of (p, e) in their standard errors


class Comparison(NamedTuple):
    """A flow in the continuum beside the one of molecular dynamics."""

    predicted: State1D  # (T, Y)
    error: float  # |predicted − seen| over |seen − its mean|, both in standard errors
    noise: float  # what the standard errors alone would give
    chi2: float  # mean square of the misses in standard errors


def fit_constitutive(
    flows: Sequence[Flow], start: NewtonFourier, *, mass: float = 1.0, terms=LOCAL_TERMS, dim: int = 3
) -> Constitutive:
    """Equation of state, η, ζ and κ of the fluid of some flows.

    Args:
        flows: at least one with shear, one with heat and one with sound; each may have all.
        start: first guess of η, ζ, κ, positive.
        mass: of a particle.
        terms: of the series of the free energy.
        dim: D.

    Returns:
        Constitutive.

    Raises:
        InputError: no flows, groups that differ in number, a guess that is not positive.
        equinox.EquinoxRuntimeError: where no temperature or step is found, as for data far from equilibrium.
    """
    must(len(flows) > 0, "flows", "hold at least one flow", "it is empty")
    groups = {f.without.temperature.shape[0] for f in flows}
    must(len(groups) == 1, "flows", "have the same number of groups", f"they have {sorted(groups)}")
    first = jnp.stack([jnp.asarray(c, float) for c in (start.viscosity, start.bulk_viscosity, start.conductivity)])
    must(bool(jnp.all(first > 0)), "start", "be positive", f"it is {np.asarray(first)}")
    empty = FreeEnergySeries(IdealGas(mass, dim), jnp.zeros(len(terms)), tuple(terms))
    eos, miss = _fitted_series(empty, _together([f.points() for f in flows]))
    steps = max(_steps(f, eos, start) for f in flows)
    errors = [f.error() for f in flows]

    def look(log, eos, seen):
        """Misses of all flows and their slopes."""
        found = [_misses(log, _bare(f), s, e, eos, steps) for f, s, e in zip(flows, seen, errors, strict=True)]
        return tuple(np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*found, strict=True))

    seen = [f.seen.state for f in flows]
    log, residual, jacobian = _least(lambda log: look(log, eos, seen), np.log(first))

    def moved(g):
        """log of the coefficients without group g, by one step."""
        less = [jax.tree.map(lambda a: a[g], f.without) for f in flows]
        other, _ = _fitted_series(empty, _together([f.points(s) for f, s in zip(flows, less, strict=True)]))
        return log - np.linalg.lstsq(jacobian, look(log, other, [s.state for s in less])[0], rcond=None)[0]

    count = groups.pop()
    without = np.exp([moved(g) for g in range(count)])
    apart = without - without.mean(axis=0)
    covariance = jnp.asarray((count - 1) / count * apart.T @ apart)
    closure = NewtonFourier(*jnp.exp(log))
    chi2 = float(np.sum(residual**2))
    return Constitutive(eos, closure, covariance, chi2, residual.size, float(jnp.sqrt(jnp.mean(miss**2))))


def _least(look, log):
    """The least Σ residual² from a guess, by the trust-region method of SciPy, which compiles nothing."""
    from scipy.optimize import least_squares

    seen: dict[bytes, Any] = {}

    def at(log):
        if log.tobytes() not in seen:
            seen.clear()
            seen[log.tobytes()] = look(jnp.asarray(log))
        return seen[log.tobytes()]

    found = least_squares(lambda q: at(q)[0], log, jac=lambda q: at(q)[1], method="lm", xtol=1e-6, ftol=1e-8)  # pyright: ignore[reportArgumentType]
    return found.x, *at(found.x)


def _bare(flow: Flow) -> Flow:
    """The flow without its name, so that one program serves all of a size."""
    return dataclasses.replace(flow, name="")


@eqx.filter_jit
def _misses(log, flow, seen, error, eos, steps: int):
    """`_miss` and its derivative in the logarithms of η, ζ, κ."""

    def miss(log):
        return _miss(flow, seen, eos, NewtonFourier(*jnp.exp(log)), steps, error)

    value, slope = jax.linearize(miss, log)
    return value, jax.vmap(slope, out_axes=1)(jnp.eye(log.shape[0], dtype=log.dtype))


def compare(flow: Flow, eos: AbstractEquationOfState, closure: AbstractClosure) -> Comparison:
    """The continuum from the first frame of a flow, against its later frames."""
    predicted = eqx.filter_jit(predict)(_bare(flow), flow.seen.state, eos, closure, _steps(flow, eos, closure))
    error = flow.error()

    def scaled(state):
        both = jax.tree.map(lambda a, e: (a / jnp.where(e > 0, e, jnp.inf))[1:].reshape(-1), state, error)
        return jnp.concatenate(jax.tree.leaves(both))

    middle = jax.tree.map(lambda a: jnp.broadcast_to(jnp.mean(a, axis=(0, 1)), a.shape), flow.seen.state)
    miss = scaled(jax.tree.map(jnp.subtract, predicted, flow.seen.state))
    size = jnp.sum(scaled(jax.tree.map(jnp.subtract, flow.seen.state, middle)) ** 2)
    total = jnp.sum(miss**2)
    return Comparison(
        predicted, float(jnp.sqrt(total / size)), float(jnp.sqrt(miss.size / size)), float(total / miss.size)
    )


def predict(flow: Flow, seen: State1D, eos, closure, steps: int) -> State1D:
    """The continuum at the times of a flow, from the first of the states (T, Y); `steps` in each interval."""
    first = jax.tree.map(lambda a: a[0], seen)
    guess = jnp.mean(flow.seen.temperature)
    return solve(first, flow.time, eos, closure, dx=flow.dx, steps=steps, limiter="none", guess=guess)


def _miss(flow, seen, eos, closure, steps, error):
    """(predicted − seen) in standard errors, of all frames after the first."""
    predicted = predict(flow, seen, eos, closure, steps)
    parts = jax.tree.map(
        lambda a, b, e: ((a - b) / jnp.where(e > 0, e, jnp.inf))[1:].reshape(-1), predicted, seen, error
    )
    return jnp.concatenate(jax.tree.leaves(parts))


def _steps(flow: Flow, eos, closure) -> int:
    """Steps in the longest interval, with room for coefficients that grow on the way."""
    state = jax.tree.map(lambda a: a[0], flow.seen.state)
    step = float(safe_step(state, eos, closure, flow.dx, 0.25))
    must(bool(np.isfinite(step)), "flows", "be of a fluid that is mechanically stable", f"`{flow.name}` is not")
    return max(1, int(np.ceil(float(jnp.max(jnp.diff(flow.time))) / step)))


def _together(points: Sequence[StatePoints]) -> StatePoints:
    parts = [(p.density, p.temperature, p.pressure, p.energy, p.covariance) for p in points]
    return StatePoints(*(jnp.concatenate(column) for column in zip(*parts, strict=True)))


@seldom
def _fitted_series(empty: FreeEnergySeries, points: StatePoints) -> tuple[FreeEnergySeries, Array]:
    """The series of least χ², which is linear in its coefficients, and its misses."""

    def misses(c):
        return normalised_residuals(eqx.tree_at(lambda m: m.coefficients, empty, c), points)

    zero = jnp.zeros_like(empty.coefficients)
    at_zero, slope = misses(zero), jax.jacfwd(misses)(zero)
    best = -jnp.linalg.lstsq(slope, at_zero)[0]
    return eqx.tree_at(lambda m: m.coefficients, empty, best), at_zero + slope @ best


def train(
    flows: Sequence[Flow],
    eos: AbstractEquationOfState,
    closure: AbstractClosure,
    *,
    steps: int = 60,
    rate: float = 3e-3,
) -> tuple[Any, list[float]]:
    """A closure with its arrays moved by Adam to meet flows, as for a `LearnedClosure`, and the losses on the way.

    Args:
        flows, eos: as in `compare`.
        closure: where to begin.
        steps: of Adam.
        rate: its learning rate.

    Returns:
        The closure of the least loss that was seen, and the mean square of the misses in standard errors at each step.
    """
    import optax

    free, fixed = eqx.partition(closure, eqx.is_inexact_array)
    counts, errors = [2 * _steps(f, eos, closure) for f in flows], [f.error() for f in flows]
    solver = optax.adam(rate)

    def loss(free):
        model = eqx.combine(free, fixed)
        parts = [_miss(f, f.seen.state, eos, model, n, e) for f, n, e in zip(flows, counts, errors, strict=True)]
        return jnp.mean(jnp.concatenate(parts) ** 2)

    @eqx.filter_jit
    def step(free, state):
        value, slope = jax.value_and_grad(loss)(free)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = solver.update(slope, state, free)
            return eqx.apply_updates(free, updates), state, value

    state, losses, best = solver.init(free), [], (np.inf, free)
    for _ in range(steps):
        now = free
        free, state, value = step(free, state)
        losses.append(float(value))
        if losses[-1] < best[0]:
            best = losses[-1], now
    return eqx.combine(best[1], fixed), losses
