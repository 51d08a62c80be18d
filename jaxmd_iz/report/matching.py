"""Pictures of the matching: T(y) and μ(y) of the local Gibbs density, and what its samples miss of the data."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxmd_iz.report.figures import COLOURS, Image, as_image, axis_label, new_figure


def matching_images(matched: Mapping[str, Any]) -> list[Image]:
    """T and μ against s, and residuals in standard errors.

    Args:
        matched: the entry `matching` of the summary.

    Returns:
        The pictures.
    """
    s, along = np.asarray(matched["s"]), axis_label("distance along the axis", matched["s_unit"])
    figure, axes = new_figure()
    axes.plot(s, matched["T"], marker="o", ms=3.5, color=COLOURS[1], label="T")
    axes.set(xlabel=along, ylabel=axis_label("T", matched["T_unit"]))
    other = axes.twinx()
    other.plot(s, matched["mu"], marker="s", ms=3.5, color=COLOURS[0], label="μ")
    other.set(ylabel="μ − its mean, per mass")
    other.grid(False)
    figure.legend(loc="outside upper center", ncols=2)
    first = as_image(figure, "Temperature and chemical potential of the local Gibbs density at t = 0")
    figure, axes = new_figure()
    names = (("rho", "ρ"), ("momentum", "ρu"), ("energy", "E"))
    for (name, symbol), colour in zip(names, COLOURS, strict=False):
        if matched[f"{name}_residual"] is None:
            continue
        residual, error = (np.asarray(matched[f"{name}_{k}"], float) for k in ("residual", "err"))
        noisy = error > 1e-9 * np.max(matched["rho_err"])  # a momentum that is 0 by symmetry has rounding alone
        ratio = np.where(noisy, residual / np.where(noisy, error, 1.0), np.nan).reshape(len(s), -1)
        ratio = ratio[:, ~np.all(np.isnan(ratio), axis=0)]
        for k, column in enumerate(ratio.T):
            axes.plot(s, column, "o", ms=3.5, color=colour, label=symbol if k == 0 else None)
    axes.axhspan(-2, 2, color="#e3e7ec", zorder=0)
    axes.set(xlabel=along, ylabel="residual / standard error")
    figure.legend(loc="outside upper center", ncols=3)
    return [first, as_image(figure, "What fresh samples miss of the data, in Monte Carlo standard errors; band: ±2")]
