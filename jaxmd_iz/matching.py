"""Natural parameters θ of the local Gibbs density from the macroscopic fields ρ, m and E (or T), (6.2) and section 8.

θ minimises the convex dual Φ(θ) = log Z(θ) − θ·data of `dual`. Newton's method runs on one set of samples while their
weights are even; fresh samples then test the result, which was not fitted to them, in units of their own Monte Carlo
error, and are what Newton's method goes on with. On fixed samples `solve` is differentiable.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float

from jaxmd_iz import dual
from jaxmd_iz.checks import fail, must, must_traced
from jaxmd_iz.dual import Configurations
from jaxmd_iz.local_gibbs import Cells, Natural

LOST = 0.01  # largest residual in directions that θ does not move, in thermal spreads of one configuration
PATIENCE = 3  # rounds in succession in which data must recede to be called out of reach


class Data(eqx.Module):
    """ρ, m and E or T at K points: densities per volume, averages of the moments of section 6 with the same η.

    Args:
        rho: (K,) mass density.
        momentum: (K, D) momentum density.
        energy: (K,) energy density, without V_b; or None.
        temperature: (K,) k_B T, an energy, which fixes β_k = 1/T_k; or None.
    """

    rho: Float[Array, " K"]
    momentum: Float[Array, "K D"]
    energy: Float[Array, " K"] | None = None
    temperature: Float[Array, " K"] | None = None


class Round(NamedTuple):
    """One round: the test of θ on fresh samples, then Newton's method on them."""

    theta: Natural
    chi2: float
    dof: float
    steps: int
    effective: float


class Matched(eqx.Module):
    """θ with its residual on samples that it was not fitted to."""

    theta: Natural
    theta_error: Natural  # √diag H⁺ΣH⁺/S, from the samples, not from the data; of ν with its mean fixed
    residual: Data  # averages − data; no energy where T was given
    error: Data  # Monte Carlo standard errors of the averages
    chi2: float  # rᵀ(Σ/S)⁺r
    dof: float  # number of directions with Monte Carlo noise, the mean of χ² at the exact θ
    effective: float  # number of equal samples that θ was fitted to; 0 if it is the start
    iterations: int  # Newton steps
    rounds: int  # sets of samples
    converged: bool
    history: tuple[Round, ...]


def match(
    data: Data,
    cells: Cells,
    beta_0: float | Float[Array, ""],
    masses: Float[Array, " n"],
    draw: Callable[[Natural, int], Configurations],
    start: Natural,
    *,
    tolerance: float = 2.0,
    rounds: int = 8,
    fraction: float = 0.5,
    lowest: float | Float[Array, " K"] | None = None,
    cut: float = 1e-8,
) -> Matched:
    """θ with ⟨(E, m, ρ)⟩_θ = data at every point, to Monte Carlo error.

    Converged means χ² ≤ tolerance²·max(dof, 1) on fresh samples. χ²/dof is 1 on average for the exact θ and 2 for one
    fitted to as many samples. Good values: S ten times the number K(D + 2) of moments or more.

    Args:
        data: ρ, m and E or T.
        cells: macroscopic points.
        beta_0: β₀ of the density, 1/energy.
        masses: (n,) M_n.
        draw: (θ, round from 0) ↦ S independent samples of the density of θ; the round is there to derive keys from.
        start: first θ; its mean ν is kept where a shift of ν changes nothing.
        tolerance: see above.
        rounds: sets of samples at most.
        fraction: fresh samples are drawn when the effective number of samples falls below this share of S.
        lowest: a lower bound of λ̄ⁿ/M_n, energy/mass, at the points, if one is known: data below it are refused before
            anything is drawn.
        cut: directions whose variance is below this share of the largest, each kind of moment in its own unit, are
            null: θ does not move the averages along them.

    Returns:
        Matched; `converged` may be False.

    Raises:
        InputError: data that are not finite, of the wrong shape or out of reach of every density of this form: ρ ≤ 0,
            T ≤ 0, another total mass than that of the particles, an energy below that of the mean flow and the least
            potential energy, a density above packing (these two where three rounds make it plain, otherwise θ is not
            `converged`). Samples of the wrong shape, too few or not finite.
    """
    theta, target, first = _problem(data, cells, start)
    must(rounds >= 1, "rounds", "be 1 or more", f"it is {rounds}")
    if lowest is not None and data.energy is not None:
        _check_energy(data, cells, np.broadcast_to(np.asarray(lowest), data.rho.shape))
    beta_0, masses = jnp.asarray(beta_0, theta.dtype), jnp.asarray(masses, theta.dtype)
    kept = jnp.asarray(first), jnp.asarray(cut, theta.dtype)
    patience = jnp.asarray(fraction, theta.dtype), jnp.asarray(8)
    tests, history, way, effective = [], [], None, 0.0
    for number in range(rounds):
        samples = draw(dual.unpack(theta), number)
        empty = _check_samples(samples, theta, masses, data, cells, number)
        if empty is not None and (way is None or number == rounds - 1):
            _refuse_empty(data, cells, empty, number)
        test = dual.assess(theta, target, samples, beta_0, masses, *kept)
        chi2, dof = float(test.chi2), float(test.dof)
        must(np.isfinite(chi2), "draw", "return finite samples", f"in round {number} their averages are not finite")
        converged = empty is None and float(test.lost) < LOST and chi2 <= tolerance**2 * max(dof, 1.0)
        here, steps, fitted = dual.unpack(theta), 0, effective
        back = None if way is None else _back(way, test.residual, empty is not None)
        if converged or number == rounds - 1:
            pass
        elif back is not None:
            way, theta, tests = back, back.origin + back.move, []
        else:
            tests.append(test)
            _check_reach(data, cells, tests)
            reference = dual.log_densities(theta, samples, beta_0, masses)
            found = dual.descend(theta, target, samples, beta_0, masses, reference, *kept, *patience)
            move, steps, effective = found.theta - theta, int(found.steps), float(found.effective)
            slope = float(jnp.sum(test.residual * move))
            way = _Way(theta, move, slope, effective < fraction * samples.shares.shape[0])
            theta = found.theta
        history.append(Round(here, chi2, dof, steps, effective))
        if converged:
            break
    return Matched(
        theta=dual.unpack(theta),
        theta_error=dual.unpack(test.theta_error),
        residual=_as_data(test.residual, cells, first, -1),
        error=_as_data(test.error, cells, first, 1),
        chi2=chi2,
        dof=dof,
        effective=fitted,
        iterations=sum(r.steps for r in history),
        rounds=len(history),
        converged=converged,
        history=tuple(history),
    )


class _Way(NamedTuple):
    """How θ came from where samples were drawn last."""

    origin: Array
    move: Array
    slope: float  # of Φ along the move at its origin, negative
    far: bool  # the weights of the samples at the origin did not reach


def _back(way, residual, empty):
    """Part of the way, to where its slope vanishes if it is linear; None unless Φ, convex, rises steeply at its end."""
    slope = float(jnp.sum(residual * way.move))
    if not (empty or (way.far and slope > -0.5 * way.slope)):
        return None
    part = 0.5 if empty else max(0.25, way.slope / (way.slope - slope))
    return way._replace(move=part * way.move, slope=part * way.slope)


def solve(
    samples: Configurations,
    data: Data,
    cells: Cells,
    beta_0: float | Float[Array, ""],
    masses: Float[Array, " n"],
    start: Natural,
    *,
    reference: Float[Array, " S"] | None = None,
    cut: float = 1e-8,
    steps: int = 50,
) -> Natural:
    """θ that matches the data on fixed samples, F(θ, data, λ̄, …) = 0, differentiable by the implicit function theorem.

    dθ = −H⁺ dF, first derivatives, in the data, β₀, the masses, the levels and the shares of the samples: the levels
    also move the weights, g/g_ref with g_ref held, so that this is the derivative of θ of the whole ensemble to Monte
    Carlo error.

    Args:
        samples: S sampled positions.
        data, cells, beta_0, masses, cut: as in `match`.
        start: θ that the samples were drawn at, unless `reference` says otherwise.
        reference: (S,) log g_ref of the density they were drawn from, as by `dual.log_densities`.
        steps: of Newton's method, at most.

    Returns:
        θ.

    Raises:
        InputError: data as in `match`.
        equinox.EquinoxRuntimeError: no θ found: the data are out of reach of these samples.
    """
    theta, target, first = _problem(data, cells, start)
    beta_0, masses = jnp.asarray(beta_0, theta.dtype), jnp.asarray(masses, theta.dtype)
    if reference is None:
        reference = dual.log_densities(theta, samples, beta_0, masses)
    reference = lax.stop_gradient(reference)
    fixed = lax.stop_gradient((theta, target, samples, beta_0, masses))
    kept = jnp.asarray(first), jnp.asarray(cut, theta.dtype)
    found = dual.descend(*fixed, reference, *kept, jnp.zeros((), theta.dtype), jnp.asarray(steps))
    hessian = dual.estimate(found.theta, *fixed[2:], reference).hessian
    at = jnp.concatenate([theta[:, :first], found.theta[:, first:]], axis=1)  # β = 1/T moves with T
    residual = dual.mean_slope(at, samples, beta_0, masses, reference)[0].reshape(at.shape) - target
    # one more step of Newton's method, with H held: its derivative is that of the implicit function
    at = at + dual.newton(residual, hessian, *kept)[0]
    lost = ~(found.decrement < jnp.finfo(at.dtype).eps ** 0.5)
    at = must_traced(at, lost, "Newton's method found no θ: the data are out of reach of these samples.")
    return dual.unpack(at)


# --- what is asked of the arguments -------------------------------------------------------------------------------


def _problem(data, cells, start):
    """θ (K, D + 2), the averages v(−E, m, ρ) to reach and the first column that is matched, from checked data."""
    points, dim = cells.y.shape
    given = [name for name in ("energy", "temperature") if getattr(data, name) is not None]
    must(len(given) == 1, "data", "have either `energy` or `temperature`", f"it has {' and '.join(given) or 'neither'}")
    for name in ("rho", "momentum", *given):
        value = getattr(data, name)
        shape = (points, dim) if name == "momentum" else (points,)
        must(value.shape == shape, name, f"have shape {shape}, as the points of `cells`", f"it is {value.shape}")
        if isinstance(value, Tracer):
            continue
        value = np.asarray(value)
        _must_at_all(np.isfinite(value), cells, name, "be finite", value)
        if name in ("rho", "temperature"):
            remedy = "No density of this form is empty there: leave such points out." if name == "rho" else ""
            _must_at_all(value > 0, cells, name, "be positive", value, remedy)
    must(start.beta.shape == (points,), "start", f"have {points} points as `cells`", f"it has {start.beta.shape[0]}")
    theta, first = dual.pack(start), int(data.temperature is not None)
    if data.temperature is not None:
        theta = theta.at[:, 0].set(1 / data.temperature.astype(theta.dtype))
    if not isinstance(theta, Tracer):
        least = float(np.min(np.asarray(theta)[:, 0]))
        must(least > 0, "start", "have positive β everywhere", f"the smallest is {least:g}")
    energy = jnp.zeros_like(data.rho) if data.energy is None else data.energy
    rows = dual.pack(Natural(-energy, data.momentum, data.rho)).astype(theta.dtype)
    return theta, rows * cells.volume.astype(theta.dtype)[:, None], first


def _must_at_all(good, cells, name, requirement, value, remedy=""):
    """`must` for values at points; the sentence names the first bad one."""
    if not np.all(good):
        k = int(np.argwhere(~good)[0][0])
        fail(name, requirement, f"it is {value[k]} at {_point(cells, k)}", remedy)


def _point(cells, k):
    return f"point {k}, y = {np.asarray(cells.y[k])}"


def _check_energy(data, cells, lowest, seen=""):
    """E > |m|²/2ρ + ρ min λ̄ⁿ/M_n: |Σηp|² ≤ Σ(ηM) Σ(η|p|²/M), and of the averages by Jensen's inequality."""
    energy, rho = np.asarray(data.energy), np.asarray(data.rho)
    flow, lowest = np.sum(np.asarray(data.momentum) ** 2, axis=1) / (2 * rho), rho * lowest
    for k in np.flatnonzero(energy <= flow + lowest)[:1]:
        least = f"{flow[k]:g} of the mean flow and {lowest[k]:g} of the lowest potential energy{seen}"
        fail("energy", f"exceed {least} at {_point(cells, k)}", f"it is {energy[k]:g}", "No temperature is so low.")


def _check_reach(data, cells, tests):
    """Names data that recede as θ is driven towards them for `PATIENCE` rounds."""
    recent = tests[-PATIENCE:]
    if len(recent) < PATIENCE:
        return
    growth = np.stack([np.asarray(t.growth) for t in recent])
    if data.energy is not None:
        # β more than doubles: by E as a linear function of T, exact for the kinetic energy, T would be negative
        lowest = np.min([np.asarray(t.low) for t in tests], axis=0)
        _check_energy(data, cells, np.where(np.all(growth > 1, axis=0), lowest, -np.inf), " seen")
    rho, volume = np.asarray(data.rho), np.asarray(cells.volume)
    most = np.max([np.asarray(t.high) for t in recent], axis=0) / volume
    missing = [-np.asarray(t.residual)[:, -1] for t in recent]
    # where β is settled, steps of Newton's method that no β cuts short gain less than a third of what is missing
    settled = (np.min(growth) > -0.75) & np.all(np.abs(growth) < 0.5, axis=0)
    stuck = settled & np.all([b > 0.7 * a for a, b in pairwise(missing)], axis=0)
    for k in np.flatnonzero((rho > most) & stuck)[:1]:
        reach = f"be a density that samples reach at {_point(cells, k)}"
        fail("rho", reach, f"it is {rho[k]:g} there and no sample has more than {most[k]:g}", "Is it above packing?")


def _check_samples(samples, theta, masses, data, cells, number):
    """Shapes, number and, in the first round, the total mass; the number of a point without particles, or None."""
    count, n, points = samples.shares.shape
    fits = points == theta.shape[0] and n == masses.shape[0] and samples.levels.shape[::2] == (count, n)
    shape = f"return shares (S, {masses.shape[0]}, {theta.shape[0]}) and levels (S, d, {masses.shape[0]})"
    must(fits, "draw", shape, f"their shapes are {samples.shares.shape} and {samples.levels.shape}")
    must(count > theta.size + 2, "draw", f"return more than {theta.size + 2} samples", f"there are {count}")
    short = float(jnp.max(jnp.abs(jnp.sum(samples.shares, axis=2) - 1)))
    if number == 0 and samples.alive is None and short < 1e-5:
        total, there = float(jnp.sum(data.rho * cells.volume)), float(jnp.sum(masses))
        whole = f"have the total mass Σ v ρ of the particles, {there:g}"
        must(abs(total - there) <= 1e-5 * there, "rho", whole, f"it is {total:g}")
    visited = np.asarray(jnp.max(samples.shares, axis=(0, 1))) > 0
    return None if np.all(visited) else int(np.argmin(visited))


def _refuse_empty(data, cells, k, number):
    """One sentence for a point that no particle reaches."""
    remedy = "Draw more samples, start nearer, or leave the point out if no particle can get there."
    empty = f"be 0 at {_point(cells, k)}, where no sample of round {number} has a particle"
    fail("rho", empty, f"it is {float(data.rho[k]):g}", remedy)


def _as_data(rows, cells, first, sign):
    """(K, D + 2) of averages v(−E, m, ρ) as densities."""
    rows = rows / cells.volume.astype(rows.dtype)[:, None]
    return Data(rows[:, -1], rows[:, 1:-1], None if first else sign * rows[:, 0])
