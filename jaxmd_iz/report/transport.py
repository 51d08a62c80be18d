"""Pictures of a transport coefficient: the spectrum with its smooth part, and the running integral beside the value."""

import numpy as np

from jaxmd_iz.report.figures import COLOURS, Image, as_image, axis_label, drawing, new_figure
from jaxmd_iz.transport import Coefficient


def transport_images(found: Coefficient, name: str, unit: str = "", time_unit: str = "") -> list[Image]:
    """Two pictures of what a coefficient was read from.

    Args:
        found: of `transport.coefficient`, `viscosity`, ….
        name: of the coefficient, for labels.
        unit, time_unit: of the coefficient and of time.

    Returns:
        The spectrum, whose value at frequency 0 is the coefficient; the running integral with its band.
    """
    with drawing():
        return [_spectrum(found, name, unit, time_unit), _running(found, name, unit, time_unit)]


def _spectrum(found: Coefficient, name: str, unit: str, time_unit: str) -> Image:
    value, err = float(found.value), float(found.err)
    frequency, noisy, smooth = (np.asarray(a) for a in (found.frequency, found.spectrum, found.smooth))
    figure, axes = new_figure()
    axes.semilogy(frequency, noisy, color="#b6bec7", lw=0.7, label="periodogram")
    axes.semilogy(frequency, smooth, color=COLOURS[0], label=f"{int(found.cut)} cepstral coefficients")
    axes.errorbar([0], [value], yerr=[2 * err], fmt="o", ms=4, color=COLOURS[1], capsize=3, label="value ± 2 errors")
    axes.set(xlabel=axis_label("frequency", f"1/{time_unit}" if time_unit else ""), ylabel=axis_label(name, unit))
    axes.legend()
    return as_image(figure, f"Spectrum of the flux of the {name}; at frequency 0 it is {value:.4g} ± {err:.2g}.")


def _running(found: Coefficient, name: str, unit: str, time_unit: str) -> Image:
    value, err, cut = float(found.value), float(found.err), float(found.cut_time)
    time, running, band = (np.asarray(a) for a in (found.time, found.running, found.running_err))
    figure, axes = new_figure()
    axes.axhspan(value - 2 * err, value + 2 * err, color=COLOURS[1], alpha=0.25, lw=0, label="value ± 2 errors")
    axes.plot(time, running, color=COLOURS[0], label="running integral")
    known = np.isfinite(band)
    low, high = running - 2 * band, running + 2 * band
    axes.fill_between(time[known], low[known], high[known], color=COLOURS[0], alpha=0.2, lw=0)
    axes.axvline(cut, color="#8a94a0", ls="--", lw=1.0, label="cut")
    top = 1.4 * max(value, float(running[time <= 2 * cut].max()))
    axes.set(xlabel=axis_label("time", time_unit), ylabel=axis_label(name, unit), xlim=(0, time[-1]), ylim=(0, top))
    axes.legend(loc="lower right")
    caption = f"Running integral of the {name}, ± 2 standard errors; correlations beyond {cut:.3g} are taken as noise."
    return as_image(figure, caption)
