"""Finite volumes for the balance laws (3.4)–(3.13) in one dimension, conservative and differentiable.

    ∂ρ + ∂_x(ρu_x) = 0,   ∂(ρu) + ∂_x(ρu_x u − σ_x) = 0,   ∂E + ∂_x(E u_x − σ_x·u + q_x) = 0,   σ = −p I + τ

Linear reconstruction, a Riemann solver, central viscous fluxes and a strong-stability preserving Runge–Kutta method of
third order: C.-W. Shu, S. Osher, J. Comput. Phys. 77, 439 (1988).
"""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from jaxmd_iz.checks import must, must_traced, one_of
from jaxmd_iz.closures import AbstractClosure
from jaxmd_iz.continuum.fluxes import FLUXES, LIMITERS, faces, ideal_flux, viscous_flux
from jaxmd_iz.continuum.state import GHOSTS, Primitive, State1D, boundaries, extended
from jaxmd_iz.equation_of_state.base import AbstractEquationOfState, Values

Source = Callable[[Array, Array], State1D]
_TOO_LONG = (
    "The time step is too long for the flow as it has become, or ρ or T is out of range: give `solve` more `steps`."
)


def rates(
    state: State1D,
    eos: AbstractEquationOfState,
    closure: AbstractClosure | None,
    dx: float | int | Float[Array, ""],
    boundary: str | tuple[str, str] = "periodic",
    limiter: str = "van_albada",
    flux: str = "hllc",
    guess: Values = 1.0,
) -> tuple[State1D, Float[Array, " N"]]:
    """∂/∂t of the cell means, and T, which is a good `guess` for the next step. Arguments as of `solve`."""
    ends = boundaries(boundary)
    t = state.temperature(eos, guess)
    cells = extended(Primitive(state.rho, state.velocity, t), ends)
    through = ideal_flux(*faces(cells, limiter), eos, flux)
    if closure is not None:
        inner = Primitive(*(a[GHOSTS - 1 : len(a) - GHOSTS + 1] for a in cells))
        through = through + viscous_flux(inner, closure, dx)
    change = -(through[1:] - through[:-1]) / dx
    return State1D(change[:, 0], change[:, 1:-1], change[:, -1]), t


def _fastest(state: State1D, eos, t) -> Array:
    """The fastest wave, |u_x| + c."""
    return jnp.max(jnp.abs(state.velocity[..., 0]) + eos.sound_speed(state.rho, t))


def _diffusion(state: State1D, eos, closure, t) -> Array:
    """The largest diffusivity of momentum and heat."""

    def one(rho, temperature):
        momentum, heat = closure.diffusivities(rho, temperature, state.momentum.shape[-1])
        return jnp.maximum(momentum / rho, heat / (rho * eos.heat_capacity_volume(rho, temperature)))

    return jnp.max(jax.vmap(one)(state.rho, t))


@eqx.filter_jit
def safe_step(
    state: State1D,
    eos: AbstractEquationOfState,
    closure: AbstractClosure | None,
    dx: float | int | Float[Array, ""],
    cfl: float | int = 0.4,
) -> Float[Array, ""]:
    """A stable time step for this state: `cfl` / [(|u_x| + c)/dx + 2ν/dx²] with the larger diffusivity ν of the two.

    Waves that steepen, or a shock that is still to form, can be faster: take a smaller `cfl` then.

    Args:
        state, eos, closure, dx: as of `solve`.
        cfl: 0.4 is good; above 1 the scheme is unstable.

    Returns:
        The step, time.

    Raises:
        InputError: a `cfl` out of (0, 1].
    """
    must(0 < cfl <= 1, "cfl", "lie above 0 and not above 1", f"it is {cfl}")
    t = state.temperature(eos)
    diffusion = 0.0 if closure is None else _diffusion(state, eos, closure, t)
    return cfl / (_fastest(state, eos, t) / dx + 2 * diffusion / dx**2)


def solve(
    state: State1D,
    times: Float[Array, " S"] | np.ndarray,
    eos: AbstractEquationOfState,
    closure: AbstractClosure | None = None,
    *,
    dx: float | int | Float[Array, ""],
    boundary: str | tuple[str, str] = "periodic",
    steps: int | None = None,
    cfl: float | int = 0.4,
    limiter: str = "van_albada",
    flux: str = "hllc",
    source: Source | None = None,
    guess: Values = 1.0,
) -> State1D:
    """States at the times asked for, from `state` at time 0; second order in dx, third in the time step.

    Sums over a periodic line of ρ, ρu and E are kept to rounding. Gradients go through everything: state, the arrays
    of `eos` and `closure`, dx; they keep one state per step.

    Args:
        state: cell means at time 0, of N cells of width `dx`.
        times: (S,) rising, from 0 on.
        eos: equation of state.
        closure: τ and q, or None for ideal flow.
        dx: width of a cell, length.
        boundary: `periodic`, `wall` (reflecting: no passage, heat or friction) or `outflow`; or one for each end.
        steps: in each interval between times; by default from `safe_step` of `state`. Needed under `jit` or `grad`.
        cfl: of `safe_step`; unused where `steps` is given.
        limiter: `van_albada`, or `none` for flows that are smooth.
        flux: `hllc` or `rusanov`, which is more dissipative.
        source: (t, x) → State1D of densities per time that are added, at cell centres x (N,) = (i + ½) dx.
        guess: of T at the start.

    Returns:
        State1D with a leading axis S.

    Raises:
        InputError: an unknown name, times that do not rise from 0, fewer than 4 cells, a default of `steps` for values
            that are traced.
        equinox.EquinoxRuntimeError: where the flow became too fast for the steps, or no T was found.
    """
    one_of(limiter, "limiter", LIMITERS)
    one_of(flux, "flux", FLUXES)
    boundaries(boundary)
    count = state.rho.shape[0]
    must(state.rho.ndim == 1 and count >= 4, "state", "have 4 cells or more on one axis",
         f"its shape is {state.rho.shape}")  # fmt: skip
    times = times if isinstance(times, Tracer) else np.asarray(times)
    if not isinstance(dx, Tracer):
        must(0 < float(dx) < math.inf, "dx", "be positive and finite", f"it is {dx}")
    must(times.ndim == 1 and times.shape[0] > 0, "times", "have shape (S,)", f"it is {times.shape}")
    if not isinstance(times, Tracer):
        rises = bool(np.all(np.diff(times, prepend=0.0) >= 0))
        must(rises, "times", "rise from 0 on", f"they are {times}")
    steps = _steps(state, times, eos, closure, dx, cfl) if steps is None else steps
    must(steps >= 1, "steps", "be 1 or more", f"it is {steps}")
    at = jnp.asarray(times, state.rho.dtype)
    first = jnp.broadcast_to(jnp.asarray(guess, state.rho.dtype), state.rho.shape)
    return _run(state, at, first, eos, closure, dx, boundary, steps, limiter, flux, source)


def _steps(state, times, eos, closure, dx, cfl) -> int:
    """Steps for the longest of the intervals."""
    step = safe_step(state, eos, closure, dx, cfl)
    known = not isinstance(step, Tracer) and not isinstance(times, Tracer)
    must(known, "steps", "be given inside `jit`, `grad` or `vmap`", "it is None",
         "Their number cannot depend on a traced value: take interval / `safe_step` beforehand.")  # fmt: skip
    good = bool(jnp.isfinite(step))
    must(good, "state", "be one that `eos` describes", "it has no temperature or no sound speed somewhere")
    return max(1, math.ceil(float(np.max(np.diff(times, prepend=0.0))) / float(step) - 1e-9))


@eqx.filter_jit
def _run(state, times, guess, eos, closure, dx, boundary, steps, limiter, flux, source):
    x = (jnp.arange(state.rho.shape[0], dtype=state.rho.dtype) + 0.5) * dx

    # u ← a u_n + (1 − a)(u + h ∂u) three times, each from time t + c h
    stages = tuple(jnp.array(v, state.rho.dtype) for v in ((0.0, 0.75, 1 / 3), (0.0, 1.0, 0.5)))

    def step(begin, t, h):
        def stage(carry, coefficients):
            now, guess = carry
            a, c = coefficients
            change, warm = rates(now, eos, closure, dx, boundary, limiter, flux, guess)
            if source is not None:
                change = jax.tree.map(jnp.add, change, source(t + c * h, x))
            mixed = jax.tree.map(lambda p, q, r: a * p + (1 - a) * (q + h * r), begin[0], now, change)
            return (mixed, jax.lax.stop_gradient(warm)), None

        return jax.lax.scan(jax.checkpoint(stage), begin, stages)[0]

    def interval(carry, ends):
        begin, end = ends
        h = (end - begin) / steps
        carry, _ = jax.lax.scan(lambda c, i: (step(c, begin + i * h, h), None), carry, jnp.arange(steps, dtype=h.dtype))
        now, guess = carry
        wave = jax.lax.stop_gradient(_fastest(now, eos, guess))  # T of the last stage: near enough
        return carry, (now, wave * h / dx)

    begins = jnp.concatenate([jnp.zeros(1, times.dtype), times[:-1]])
    _, (states, courant) = jax.lax.scan(interval, (state, guess), (begins, times))
    bad = ~(courant <= 1) | ~jnp.isfinite(states.energy[:, 0])
    return must_traced(states, bad, _TOO_LONG)
