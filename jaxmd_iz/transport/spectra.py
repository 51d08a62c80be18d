"""A transport coefficient from the fluctuations of a flux: the spectrum at zero frequency by cepstral analysis.

L = factor · ∫₀^∞ ⟨J(0)J(t)⟩ dt = factor · S(0)/2. The logarithm of the periodogram is log S plus white noise of known
mean and variance; its cosine transform, the cepstrum, is cut after P terms (Ercole, Marcolongo & Baroni, Sci. Rep. 7
(2017) 15835; Bertossa, Grasselli, Ercole & Baroni, Phys. Rev. Lett. 122 (2019) 255901). Beside it the running integral.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.special import digamma, polygamma
from jaxtyping import Array, Float, Int

from jaxmd_iz.checks import must
from jaxmd_iz.compiled import seldom
from jaxmd_iz.statistics import GROUPS, group_of, jackknife

POWER = 0.9  # share of the power below the highest frequency that is used


class Coefficient(eqx.Module):
    """A transport coefficient with its error, and what it was read from.

    Spectra are in units of the coefficient, factor · S/2, so that their value at frequency 0 is the coefficient.
    """

    value: Float[Array, ""]
    err: Float[Array, ""]  # standard error in closed form, √(ψ′(ℓ)(4P − 2)/2K) · value
    err_replicas: Float[Array, ""]  # by jackknife over groups of trajectories, at the same cut; inf with fewer than two
    cut: Int[Array, ""]  # P, the number of cepstral coefficients kept
    cut_time: Float[Array, ""]  # P / (2 · highest frequency): correlations beyond it are taken as noise
    freedom: Float[Array, ""]  # 2ℓ, degrees of freedom of each entry of the spectrum
    frequency: Float[Array, " K"]  # 1/time
    spectrum: Float[Array, " K"]
    smooth: Float[Array, " K"]  # from the cepstral coefficients that are kept
    time: Float[Array, " N"]
    running: Float[Array, " N"]  # factor · ∫₀ᵗ of the correlation function
    running_err: Float[Array, " N"]  # jackknife over groups of trajectories


def coefficient(
    flux: Float[Array, "B N C"] | Float[np.ndarray, "B N C"],
    spacing: float | Float[Array, ""],
    factor: float | Float[Array, ""] = 1.0,
    weight: Float[Array, " B"] | None = None,
    *,
    samples: int | None = None,
    centre: bool = False,
    highest: float | None = None,
    widen: float = 2.0,
    lags: int | None = None,
) -> Coefficient:
    """factor · ∫₀^∞ ⟨J(0)J(t)⟩ dt of a flux with C independent, equally distributed components.

    The cut P is `widen` times the largest one that Akaike's criterion allows within 2 of its least. The least itself
    balances bias against noise, so that error bars, which know of noise alone, are too small: for sums of one and two
    Ornstein–Uhlenbeck processes the mean square of (value − exact)/err was 1.6 to 6 there, and 0.97 to 1.47 here. The
    value does not depend on `highest` but within its error: it only has to hold what is slow.

    Args:
        flux: B trajectories of N times; the mean of J is zero, or see `centre`.
        spacing: time between two of them.
        factor: of the integral, for instance 1/(V T).
        weight: (B,) of each trajectory, 1 by default.
        samples: how many independent samples the trajectories come from, those of a sample next to each other; B by
            default.
        centre: subtract the mean of each trajectory, for a flux whose mean is not zero; the running integral is
            corrected for what that takes from it.
        highest: highest frequency to use, 1/time; by default 90 % of the power lies below it.
        widen: see above, 1 or more.
        lags: length of the running integral, in spacings; by default those of six cut times.

    Returns:
        Coefficient; `value` is differentiable in the flux, at a fixed cut, if `highest` and `lags` are given.

    Raises:
        InputError: too short a series, a flux that is not finite or does not change, numbers out of range.
    """
    flux = jnp.asarray(flux, float)
    count, length, components = flux.shape
    samples = count if samples is None else samples
    must(length >= 16 and components > 0, "flux", "hold 16 times or more of a component", f"its shape is {flux.shape}")
    must(count > 0 and count % samples == 0, "samples", f"divide the {count} trajectories", f"it is {samples}")
    must(widen >= 1, "widen", "be 1 or more", f"it is {widen}")
    w = jnp.ones(count, flux.dtype) if weight is None else jnp.asarray(weight, flux.dtype)
    flux = flux - jnp.mean(flux, axis=1, keepdims=True) if centre else flux
    must(not isinstance(spacing, Tracer), "spacing", "be a number that is known", "it is traced")
    step, factor = float(spacing), jnp.asarray(factor, flux.dtype)

    part = jnp.asarray(np.arange(count) * samples // count)
    spectral = _spectral(flux, w, part, step, samples)
    _check(flux, spectral[0])
    keep = _kept(spectral[0], step, length, highest)
    half, p, value, relative, err_replicas, smooth = _cepstral(*spectral, w, samples, components, keep, float(widen))
    highest_used = keep / (step * length)
    cut_time = p.astype(flux.dtype) / (2 * highest_used)
    if lags is None:
        must(not isinstance(p, Tracer), "lags", "be given where the flux is traced", "it is None")
        lags = int(np.clip(np.ceil(6 * float(cut_time) / step), 8, length // 2))
    running, running_err = _running(flux, w, part, step, samples, min(lags, length - 1))
    time = jnp.arange(running.shape[0], dtype=flux.dtype) * step
    if centre:  # a mean over the length of a trajectory takes S(0)/length from each correlation
        running = running + value * time / (step * length)
    level = factor / 2
    return Coefficient(
        value=level * value,
        err=jnp.abs(level) * relative * value,
        err_replicas=jnp.abs(level) * err_replicas,
        cut=p,
        cut_time=cut_time,
        freedom=2 * half,
        frequency=jnp.arange(keep + 1, dtype=flux.dtype) / (step * length),
        spectrum=level * spectral[0][jnp.maximum(jnp.arange(keep + 1), 1)],
        smooth=level * smooth,
        time=time,
        running=factor * running,
        running_err=jnp.abs(factor) * running_err,
    )


@seldom
def _spectral(flux, w, part, step, samples: int):
    """S at all frequencies, and its weighted sums over groups of samples with their sizes."""
    square = jnp.abs(jnp.fft.rfft(flux, axis=1)) ** 2
    each = jnp.mean(square, axis=2) * step / flux.shape[1]  # periodogram: its mean is S
    total, size = _grouped(each, w, part, samples), _grouped(jnp.ones_like(w)[:, None], w, part, samples)
    return jnp.sum(total, axis=0) / jnp.sum(size), total, size


@seldom
def _cepstral(s, total, size, w, samples: int, components: int, keep: int, widen: float):
    """ℓ, P, S(0), its relative error, its error by jackknife, and the smooth spectrum."""
    half = (jnp.sum(w) ** 2 / jnp.sum(w**2) * components).astype(s.dtype)  # ℓ
    kept = jnp.arange(keep + 1)

    def cosines(average):
        # log S at frequencies 0 … K, less its bias; frequency 0 knows the mean, so the next one serves for it
        l = jnp.log(average[1 : keep + 1]) - digamma(half) + jnp.log(half)
        # C_n of log S = C_0 + 2 Σ_n C_n cos(…), continued evenly with period 2K
        return jnp.fft.irfft(jnp.concatenate([l[:1], l]), 2 * keep)[: keep + 1]

    def at_zero(c):
        return jnp.exp(c[0] + 2 * jnp.sum(jnp.where(kept[1:] < p, c[1:], 0.0)))

    c = cosines(s)
    p = _cut(c, half, widen)
    relative = jnp.sqrt(polygamma(1, half) * (4 * p.astype(s.dtype) - 2) / (2 * keep))
    err = jackknife(lambda a: at_zero(cosines(a[0] / a[1])), (total, size), _members(samples, s.dtype))[1]
    smooth = jnp.exp(jnp.fft.hfft(jnp.where(kept < p, c, 0.0), 2 * keep)[: keep + 1])
    return half, p, at_zero(c), relative, err, smooth


@seldom
def _running(flux, w, part, step, samples: int, lags: int):
    """∫₀ᵗ ⟨J(0)J(t)⟩ by trapezes, and its error."""
    length = flux.shape[1]
    padded = jnp.fft.rfft(flux, 2 * length, axis=1)
    correlation = jnp.mean(jnp.fft.irfft(jnp.abs(padded) ** 2, 2 * length, axis=1)[:, : lags + 1], axis=2)
    correlation = correlation / (length - jnp.arange(lags + 1, dtype=flux.dtype))[None, :]
    steps = jnp.concatenate([jnp.zeros_like(correlation[:, :1]), (correlation[:, 1:] + correlation[:, :-1]) / 2], 1)
    sums = _grouped(jnp.cumsum(steps, axis=1) * step, w, part, samples)
    size = _grouped(jnp.ones_like(w)[:, None], w, part, samples)
    return jackknife(lambda a: a[0] / a[1], (sums, size), _members(samples, flux.dtype))


def _grouped(each, w, part, samples: int):
    """Weighted sums over the trajectories of each group of samples, (G, …); `part` is the sample of a trajectory."""
    group = group_of(samples)[part]
    return jnp.zeros((GROUPS, *each.shape[1:]), each.dtype).at[group].add(w[:, None] * each)


def _members(samples: int, dtype):
    """How many samples each group holds."""
    return jnp.bincount(group_of(samples), length=GROUPS).astype(dtype)


def _check(flux, s) -> None:
    if not isinstance(s, Tracer):
        must(bool(jnp.all(jnp.isfinite(flux))), "flux", "be finite", "it has NaN or infinite entries")
        must(bool(jnp.all(s[1:] > 0)), "flux", "change in time", "its spectrum vanishes somewhere")


def _kept(s, step: float, length: int, highest: float | None) -> int:
    """K, the number of frequencies above 0 that are used; the last one that an even length has is left out."""
    most = (length - 1) // 2
    if highest is None:
        must(not isinstance(s, Tracer), "highest", "be given where the flux is traced", "it is None")
        power = np.cumsum(np.asarray(s)[1 : most + 1])
        return int(np.clip(np.searchsorted(power, POWER * power[-1]) + 1, min(64, most), most))
    keep = round(float(highest) * step * length)
    nyquist = 0.5 / step
    must(8 <= keep, "highest", f"be {8 / (step * length):.3g} or more here", f"it is {highest:g}")
    must(highest <= nyquist, "highest", f"be at most 1/(2 spacing) = {nyquist:.3g}", f"it is {highest:g}")
    return min(keep, most)


def _cut(c, half, widen: float):
    """P: `widen` times the largest one whose criterion 2K/ψ′(ℓ) Σ_{n≥P} C_n² + 2P is within 2 of the least."""
    keep = c.shape[0] - 1
    c = jax.lax.stop_gradient(c)
    rest = jnp.cumsum(c[::-1] ** 2)[::-1][1:]  # Σ_{n≥P}, P = 1 … K
    number = jnp.arange(1, keep + 1, dtype=c.dtype)
    criterion = 2 * keep / polygamma(1, half) * rest + 2 * number
    p = jnp.max(jnp.where(criterion <= jnp.min(criterion) + 2, number, 1.0))
    return jnp.minimum(jnp.ceil(widen * p).astype(int), keep)
