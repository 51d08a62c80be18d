"""Decay of imposed waves, read from the fields themselves: ν from shear, D_T from heat, c and Γ from sound.

A wave of length 2π/k small in amplitude obeys ∂u = −νk²u; with memory τ of the stress (Maxwell) a″ + a′/τ + νk²a/τ = 0;
at constant pressure ∂T = −D_T k²T, D_T = κ/(ρc_p); density makes both a part e^{−D_T k²t} and sound e^{−Γk²t} cos ωt.
Fits are weighted least squares; their errors come from refits without each group (`statistics.jackknife`).
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Complex, Float

from jaxmd_iz.checks import must, one_of
from jaxmd_iz.compiled import seldom
from jaxmd_iz.statistics import FieldSeries, jackknife

FIELDS = ("u", "rho", "E", "T")


class Profiles(eqx.Module):
    """What waves are read from: weighted sums of G groups at T times on Y even points of a periodic line."""

    time: Float[Array, " T"]
    s: Float[Array, " Y"]  # distance along the line
    rho: Float[Array, "G T Y"]
    momentum: Float[Array, "G T Y D"]
    energy: Float[Array, "G T Y"]
    k: Float[Array, "G T Y D D"]  # Σ η p⊗p/M
    number: Float[Array, "G T Y"]
    weight: Float[Array, " G"]

    @property
    def length(self) -> Float[Array, ""]:
        """Period of the line."""
        return (self.s[1] - self.s[0]) * self.s.shape[0]


class Wave(eqx.Module):
    """The amplitude of one mode in time, of f = a cos(k s − φ): of all groups, and its error."""

    time: Float[Array, " T"]
    amplitude: Float[Array, " T"]
    err: Float[Array, " T"]
    wave_number: Float[Array, ""]  # k
    profiles: Profiles
    projection: Complex[Array, " Y"]  # 2/Y e^{−i(ks − φ)}
    field: str = eqx.field(static=True)
    component: int = eqx.field(static=True)

    def of(self, average: Any) -> Float[Array, " T"]:
        """The amplitude in averaged moments (ρ, m, E, K, N)."""
        return _project(_field(average, self.field, self.component), self.projection)


class Decay(eqx.Module):
    """A fitted decay: parameters by name, their standard errors, the curve, and χ² of its residuals.

    χ² uses the errors of each time alone. Times are correlated, so that it tells a bad fit, but not a probability.
    """

    parameters: dict[str, Float[Array, ""]]
    errors: dict[str, Float[Array, ""]]
    curve: Float[Array, " T"]
    chi2: Float[Array, ""]
    freedom: int = eqx.field(static=True)


def profiles(source: Any) -> Profiles:
    """The profiles of a series in internal units, or of a dataset (`store.read_fields`) in its own.

    Args:
        source: FieldSeries or xarray.Dataset of a profile: points on one line, evenly over one period of the cell.

    Raises:
        InputError: points that are not such a profile; groups whose weights change in time.
    """
    if isinstance(source, FieldSeries):
        must(source.axis is not None, "source", "be a profile along an axis", "it has points in space")
        y, m, weight = source.y, source.moments, source.weight
        way = y[-1] - y[0]
        s = y @ (way / jnp.linalg.norm(way))
        energy, number = m.energy_kinetic + m.energy_potential, jnp.sum(m.number, axis=-1)
        several = m.rho, m.momentum, energy, m.k, number
        time = source.time
    else:
        must("s" in source.coords, "source", "be a profile along an axis", "it has no coordinate `s`")
        s, time = jnp.asarray(source["s"].values), jnp.asarray(source["time"].values)
        raw = {name: jnp.asarray(source[f"moment_{name}"].values) for name in ("rho", "momentum", "k")}
        energy = jnp.asarray((source["moment_energy_kinetic"] + source["moment_energy_potential"]).values)
        number = jnp.asarray(source["moment_number"].values.sum(axis=-1))
        several = raw["rho"], raw["momentum"], energy, raw["k"], number
        weight = jnp.asarray(source["group_weight"].values)
    step = jnp.diff(s)
    must(s.shape[0] > 2, "source", "have three points or more", f"it has {s.shape[0]}")
    even = bool(jnp.all(jnp.abs(step - step[0]) < 1e-4 * jnp.abs(step[0])))
    must(even, "source", "have points at even distances", "they are not")
    constant = bool(jnp.all(weight == weight[:1]))
    must(constant, "source", "have groups of the same weight at all times", "their weights change")
    return Profiles(time, s, *(jnp.swapaxes(a, 0, 1) for a in several), weight[0])


def wave(source: Any, field: str = "u", mode: int = 1, component: int = 0, phase: float | None = None) -> Wave:
    """The amplitude of one mode of a field, 2/Y Σ_y f(y, t) cos(k s − φ).

    Args:
        source: FieldSeries, dataset, or Profiles.
        field: `u`, `rho`, `E` or `T` (as k_B T if from a series).
        mode: number of waves in the cell.
        component: of u.
        phase: φ; by default that of the mode at the first time.

    Returns:
        Wave.

    Raises:
        InputError: an unknown field, a mode that the points do not resolve; what `profiles` refuses.
    """
    one_of(field, "field", FIELDS)
    of = source if isinstance(source, Profiles) else profiles(source)
    count = of.s.shape[0]
    must(1 <= mode <= (count - 1) // 2, "mode", f"lie between 1 and {(count - 1) // 2}", f"it is {mode}")
    dim = of.momentum.shape[-1]
    must(0 <= component < dim, "component", f"be below {dim}", f"it is {component}")
    k = 2 * jnp.pi * mode / of.length
    projection = jax.lax.complex(jnp.cos(k * of.s), -jnp.sin(k * of.s)) * (2 / count)
    total = jax.tree.map(lambda a: jnp.sum(a, axis=0) / jnp.sum(of.weight), _sums(of))
    if phase is None:
        first = _field(total, field, component)[0].astype(projection.dtype) @ projection
        phase_there = -jnp.angle(first)
    else:
        phase_there = jnp.asarray(phase, of.s.dtype)
    turn = jax.lax.complex(jnp.cos(phase_there), jnp.sin(phase_there))
    projection = projection * turn
    value, err = _amplitude(_sums(of), of.weight, projection, field, component)
    return Wave(of.time, value, err, k, of, projection, field, component)


@seldom
def _amplitude(sums, weight, projection, field: str, component: int):
    return jackknife(lambda average: _project(_field(average, field, component), projection), sums, weight)


def _project(f, projection):
    return jnp.real(f.astype(projection.dtype) @ projection)


def _sums(of: Profiles):
    return of.rho, of.momentum, of.energy, of.k, of.number


def _field(average, field: str, component: int):
    """(T, Y) of averaged moments."""
    rho, momentum, energy, k, number = average
    if field == "rho":
        return rho
    if field == "E":
        return energy
    u = momentum / rho[..., None]
    if field == "u":
        return u[..., component]
    thermal = jnp.trace(k, axis1=-2, axis2=-1) - rho * jnp.sum(u**2, axis=-1)
    return thermal / (u.shape[-1] * number)


def shear_decay(found: Wave, memory: bool = False) -> Decay:
    """ν of a(t) = A e^{−νk²t}, or with `memory` also Maxwell's τ of the stress, with a′(0) = 0.

    Args:
        found: wave of a velocity across its direction.
        memory: of one time τ; needed where νk²τ is not small: the wave starts flat, then decays.

    Returns:
        Decay with `viscosity` ν = η/ρ (length²/time), `amplitude`, and `memory`.
    """
    rate = _rate(found)
    guess = {"amplitude": found.amplitude[0], "log_viscosity": jnp.log(rate / found.wave_number**2)}
    if memory:
        guess["log_memory"] = jnp.log(0.1 / rate)
    return _fitted(found, _shear, guess)


def _shear(q, t, k):
    rate = jnp.exp(q["log_viscosity"]) * k**2
    if "log_memory" not in q:
        return q["amplitude"] * jnp.exp(-rate * t)
    tau = jnp.exp(q["log_memory"])
    square = (1 - 4 * rate * tau) / (4 * tau**2)  # Ω²: overdamped above 0
    cosh, sinhc = _hyperbolic(square, t)
    return q["amplitude"] * jnp.exp(-t / (2 * tau)) * (cosh + sinhc / (2 * tau))


def heat_decay(found: Wave) -> Decay:
    """D_T of a(t) = A e^{−D_T k²t}, for a wave of T (or E) that was made at constant pressure and without flow.

    Returns:
        Decay with `diffusivity` D_T = κ/(ρc_p) (length²/time) and `amplitude`.
    """
    guess = {"amplitude": found.amplitude[0], "log_diffusivity": jnp.log(_rate(found) / found.wave_number**2)}
    return _fitted(found, _heat, guess)


def _heat(q, t, k):
    return q["amplitude"] * jnp.exp(-jnp.exp(q["log_diffusivity"]) * k**2 * t)


def sound_decay(found: Wave, speed: float, attenuation: float, diffusivity: float | None = None) -> Decay:
    """c and Γ of a(t) = e^{−Γk²t}(A cos ckt + B sin ckt) + H e^{−D_T k²t}.

    Args:
        found: wave of ρ, E, T or of the velocity along its direction.
        speed, attenuation: c (length/time) and Γ (length²/time) to start from.
        diffusivity: D_T to start from; None for a wave without a part of heat.

    Returns:
        Decay with `speed`, `attenuation`, `amplitude`, `sine`, and `heat`, `diffusivity` where asked.

    Raises:
        InputError: starting values that are not positive.
    """
    for name, value in (("speed", speed), ("attenuation", attenuation), ("diffusivity", diffusivity)):
        must(value is None or value > 0, name, "be positive", f"it is {value}")
    zero = jnp.zeros_like(found.wave_number)
    guess = {
        "amplitude": found.amplitude[0],
        "sine": zero,
        "log_speed": zero + np.log(speed),
        "log_attenuation": zero + np.log(attenuation),
    }
    if diffusivity is not None:
        guess |= {"amplitude": found.amplitude[0] / 2, "heat": found.amplitude[0] / 2}
        guess["log_diffusivity"] = zero + np.log(diffusivity)
    return _fitted(found, _sound, guess)


def _sound(q, t, k):
    phase = jnp.exp(q["log_speed"]) * k * t
    wave_part = q["amplitude"] * jnp.cos(phase) + q["sine"] * jnp.sin(phase)
    total = jnp.exp(-jnp.exp(q["log_attenuation"]) * k**2 * t) * wave_part
    if "log_diffusivity" not in q:
        return total
    return total + q["heat"] * jnp.exp(-jnp.exp(q["log_diffusivity"]) * k**2 * t)


def _rate(found: Wave):
    """A first guess of the decay rate, from the time at which half of the amplitude is gone."""
    a = jax.lax.stop_gradient(found.amplitude / found.amplitude[0])
    last = jnp.where(jnp.any(a < 0.5), jnp.argmax(a < 0.5), a.shape[0] - 1)
    gone = -jnp.log(jnp.clip(a[last], 0.05, 0.98))
    return gone / (found.time[last] - found.time[0])


def _hyperbolic(square, t):
    """cosh Ωt and sinh(Ωt)/Ω of Ω², also where it is negative, smooth through 0."""
    z = square * t**2
    near, above = jnp.abs(z) < 1e-4, z > 0
    safe = jnp.where(near, 1.0, z)
    root = jnp.sqrt(jnp.abs(safe))
    cosh = jnp.where(above, jnp.cosh(jnp.where(above, root, 0.0)), jnp.cos(root))
    sinhc = jnp.where(above, jnp.sinh(jnp.where(above, root, 0.0)), jnp.sin(root)) / root
    return jnp.where(near, 1 + z / 2, cosh), t * jnp.where(near, 1 + z / 6, sinhc)


def _fitted(found: Wave, curve: Callable, guess: dict[str, Array]) -> Decay:
    freedom = found.time.shape[0] - len(guess)
    must(freedom >= 0, "found", f"have {len(guess)} times or more for this fit", f"it has {found.time.shape[0]}")
    return Decay(*_fit(found, curve, guess), freedom)


@seldom
def _fit(found: Wave, curve: Callable, guess: dict[str, Array]):
    """Least squares with weights 1/err², again without each group for the errors."""
    time = found.time - found.time[0]
    sure = jnp.isfinite(found.err) & (found.err > 0)
    err = jnp.where(sure, found.err, 1.0)
    solver = optx.LevenbergMarquardt(rtol=1e-8, atol=1e-8)

    def solve(average):
        target = found.of(average)

        def misfit(q, _):
            return (curve(q, time, found.wave_number) - target) / err

        return optx.least_squares(misfit, solver, guess, max_steps=256, throw=False).value

    def named(q):
        return {n.removeprefix("log_"): jnp.exp(v) if n.startswith("log_") else v for n, v in q.items()}

    sums, weight = _sums(found.profiles), found.profiles.weight
    with jax.numpy_dtype_promotion("standard"):
        values, errors = jackknife(lambda average: named(solve(average)), sums, weight)
        best = {n: jnp.log(values[n.removeprefix("log_")]) if n.startswith("log_") else values[n] for n in guess}
        fitted = curve(best, time, found.wave_number)
    return values, errors, fitted, jnp.sum(((fitted - found.amplitude) / err) ** 2)
