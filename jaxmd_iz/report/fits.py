"""Pictures of a fit: what molecular dynamics saw and what the continuum says, side by side, and what is left."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxmd_iz.report.figures import COLOURS, Image, as_image, axis_label, new_figure

_SYMBOLS = {"rho": "ρ", "u": "u", "E": "E"}


def flow_images(seen: Mapping[str, Any], predicted: Mapping[str, np.ndarray], note: str) -> list[Image]:
    """Profiles of ρ, of every component of u that moves, and of E at four times: bands seen, lines predicted.

    Args:
        seen: `time`, `s`, `seen` and `error` by field, `units`, `name`.
        predicted: by field, of the same shapes.
        note: for the captions.
    """
    time = seen["time"]
    frames = sorted({int(k) for k in np.linspace(0, len(time) - 1, 4).round()})
    images = []
    for name, value, error, line in _panels(seen, predicted):
        figure, axes = new_figure()
        for k, colour in zip(frames, ("#440154", "#31688e", "#35b779", "#c8a200"), strict=False):
            low, high = value[k] - error[k], value[k] + error[k]
            axes.fill_between(seen["s"], low, high, color=colour, alpha=0.35, linewidth=0)
            axes.plot(seen["s"], line[k], color=colour, label=f"t = {time[k]:.3g} {seen['units']['time']}")
        unit = seen["units"][name.split("_")[0]]
        symbol = _SYMBOLS.get(name, name.replace("_", " "))
        axes.set(xlabel=axis_label("distance along the line", seen["units"]["s"]), ylabel=axis_label(symbol, unit))
        figure.legend(loc="outside upper center", ncols=2)
        images.append(
            as_image(figure, f"{symbol} of `{seen['name']}`, {note}: bands seen (one error), lines continuum")
        )
    return images


def miss_image(seen: Mapping[str, Any], predicted: Mapping[str, np.ndarray]) -> Image:
    """Root mean square of predicted − seen in standard errors against time, for each field."""
    figure, axes = new_figure()
    for colour, (name, value, error, line) in zip(COLOURS * 2, _panels(seen, predicted), strict=False):
        ratio = (line - value)[1:] / np.where(error > 0, error, np.inf)[1:]
        symbol = _SYMBOLS.get(name, name.replace("_", " "))
        axes.plot(seen["time"][1:], np.sqrt(np.mean(ratio**2, axis=1)), color=colour, label=symbol)
    axes.axhline(1.0, color="#8a94a0", lw=1, ls="--")
    axes.set(xlabel=axis_label("time", seen["units"]["time"]), ylabel="miss / standard error", ylim=(0, None))
    figure.legend(loc="outside upper center", ncols=3)
    return as_image(figure, f"Misses of `{seen['name']}` in standard errors; 1 is noise alone")


def loss_image(losses: Sequence[float]) -> Image:
    """The loss of a training."""
    figure, axes = new_figure()
    axes.semilogy(losses, color=COLOURS[0])
    axes.set(xlabel="step", ylabel="mean square of the misses in standard errors")
    return as_image(figure, "Training of the learned closure")


def _panels(seen, predicted):
    """(name, seen, error, predicted) of (T, Y) of each field that is drawn."""
    panels = [("rho", *(of["rho"] for of in (seen["seen"], seen["error"], predicted)))]
    for k, axis in enumerate(("x", "y", "z")[: seen["seen"]["u"].shape[-1]]):
        value, error, line = (of["u"][..., k] for of in (seen["seen"], seen["error"], predicted))
        if np.max(np.abs(value[0])) > 4 * np.median(error[-1]):
            panels.append((f"u_{'along' if k == 0 else axis}", value, error, line))
    panels.append(("E", *(of["E"] for of in (seen["seen"], seen["error"], predicted))))
    return panels
