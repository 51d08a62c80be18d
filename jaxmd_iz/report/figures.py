"""The report's pictures: profiles with error bands, and maps of pressure and heat flux, as PNG."""

import base64
import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxmd_iz.statistics import student_factor

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
_TIMES = 3  # at most as many are drawn
_STYLE = {
    **{"font.size": 10, "axes.grid": True, "grid.color": "#e3e7ec", "grid.linewidth": 0.7, "axes.axisbelow": True},
    **{"axes.edgecolor": "#8a94a0", "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.6},
    **{"xtick.color": "#3b4550", "ytick.color": "#3b4550", "axes.labelcolor": "#1d242b", "legend.frameon": False},
    **{"axes.formatter.useoffset": False, "axes.formatter.limits": (-6, 6), "legend.fontsize": 9},
    **{"legend.handlelength": 1.4, "legend.columnspacing": 1.2, "axes.unicode_minus": True, "text.usetex": False},
}


@dataclass(frozen=True)
class Image:
    """A PNG in base64 and what it shows, in plain text."""

    base64: str
    caption: str


@contextmanager
def drawing() -> Iterator[None]:
    """The style of all pictures, whatever the user's settings; no window, no global figure."""
    import matplotlib

    style: dict[Any, Any] = {**matplotlib.rcParamsDefault, **_STYLE, "backend": "agg"}
    with matplotlib.rc_context(style):
        yield


def dataset_images(dataset: Any) -> list[list[Image]]:
    """Rows of pictures of one dataset: profiles of points on a line, maps of a plane of a grid, else a scatter.

    Args:
        dataset: xarray.Dataset as `store.to_dataset` makes it.

    Returns:
        Rows of pictures; at most three times are drawn: the first, the middle and the last.
    """
    y = np.stack([dataset[f"y_{a}"].values for a in dataset["i"].values], axis=1)
    shape = dataset.attrs.get("grid_shape")
    shape = tuple(int(n) for n in np.atleast_1d(shape)) if shape is not None else None
    if "s" in dataset.coords:
        return _profiles(dataset, dataset["s"].values, dataset["s"].attrs.get("long_name", "distance"))
    if y.shape[1] == 1 or (shape and sum(n > 1 for n in shape) == 1):
        way = np.linalg.norm(y - y[0], axis=1) if y.shape[1] > 1 else y[:, 0]
        return _profiles(dataset, way, "y" if y.shape[1] == 1 else "distance along the line")
    return _maps(dataset, y, shape if shape and sum(n > 1 for n in shape) > 1 else None)


def new_figure(width: float = 4.3, height: float = 3.1):
    """A figure with one axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def as_image(figure: Any, caption: str) -> Image:
    """The figure as a PNG."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=160, facecolor="white")
    return Image(base64.b64encode(data.getvalue()).decode(), caption)


def plain_text(text: str) -> str:
    """Text that matplotlib shows as it stands."""
    return str(text).replace("$", r"\$")


def axis_label(symbol: str, unit: str, power: str = "") -> str:
    """An axis label such as "σ  [10⁻³ eV/Å³]"."""
    unit = "" if unit == "1" else unit
    return plain_text(f"{symbol}  [{power}{unit}]" if power or unit else symbol)


def _scale(*arrays: np.ndarray) -> tuple[float, str]:
    """A power of ten to divide by, and how to write it before the unit."""
    top = max((float(np.max(np.abs(a[np.isfinite(a)]), initial=0.0)) for a in arrays), default=0.0)
    power = math.floor(math.log10(top)) if top > 0 else 0
    if -2 <= power <= 4:
        return 1.0, ""
    return 10.0**power, "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")) + " "


def _range(*arrays: np.ndarray, pad: float = 0.06) -> tuple[float, float]:
    """Limits that hold the finite values, but do not blow rounding errors up."""
    finite = np.concatenate([a[np.isfinite(a)].ravel() for a in arrays])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    size = max(abs(low), abs(high))
    if high - low <= 1e-6 * size or size == 0:
        half = 0.05 * size or 1.0
        return (low + high) / 2 - half, (low + high) / 2 + half
    return low - pad * (high - low), high + pad * (high - low)


def _chosen(dataset: Any) -> list[tuple[int, str]]:
    """Indices of the times that are drawn, with their labels."""
    times = dataset["time"].values
    index = sorted({0, len(times) // 2, len(times) - 1}) if len(times) > _TIMES else range(len(times))
    unit = dataset["time"].attrs.get("units", "")
    return [(int(k), f"t = {times[k]:.4g} {unit}".strip()) for k in index]


# --- profiles ---------------------------------------------------------------------------------------------------------

_Line = tuple[str, str, str, np.ndarray, np.ndarray]  # label, colour, style, values, errors


def _profiles(dataset: Any, s: np.ndarray, along: str) -> list[list[Image]]:
    """Panels along a line: scalars with one colour per time, components with one panel per time."""
    times, axes = _chosen(dataset), [str(a) for a in dataset["i"].values]
    unit = next(dataset[c].attrs.get("units", "") for c in ("s", "y_x") if c in dataset.coords)
    order, wide = np.argsort(s, kind="stable"), confidence(dataset)

    def data(name: str, *component: int) -> tuple[np.ndarray, np.ndarray]:
        pick = (slice(None), order, *component)
        error = dataset[f"{name}_err"].values if f"{name}_err" in dataset else np.full(dataset[name].shape, np.nan)
        return dataset[name].values[pick], error[pick]

    def panels(title: str, symbol: str, name: str, lines: list[list[_Line]], captions: list[str]) -> list[Image]:
        edges = [e for line in lines for _, _, _, v, d in line for e in (v, v - wide * _known(d), v + wide * _known(d))]
        factor, power = _scale(*edges)
        limits = _range(*(e / factor for e in edges))
        label = axis_label(symbol, dataset[name].attrs.get("units", ""), power)
        where = axis_label(along, unit)
        return [
            as_image(_panel(s[order], group, factor, limits, where, label, wide), f"{title}{caption}")
            for group, caption in zip(lines, captions, strict=True)
        ]

    shades = _shades(len(times))
    scalars = []
    for name, symbol, title in (("rho", "ρ", "Density ρ"), ("T", "T", "Temperature T"), ("E", "E", "Energy density E")):
        value, error = data(name)
        lines = [(text, shades[n], "-", value[k], error[k]) for n, (k, text) in enumerate(times)]
        scalars += panels(title, symbol, name, [lines], [f" at {times[0][1]}" if len(times) == 1 else ""])
    if dataset.sizes.get("species", 1) > 1:
        k, text = times[-1]
        value, error = dataset["number_density"].values[k][order], dataset["number_density_err"].values[k][order]
        kinds = enumerate(dataset["species"].values)
        lines = [(str(a), COLOURS[c % 6], "-", value[:, c], error[:, c]) for c, a in kinds]
        scalars += panels("Number densities", "n", "number_density", [lines], [f" at {text}"])

    rows = [scalars]
    every, pairs = range(len(axes)), [(a, b) for a in range(len(axes)) for b in range(a + 1, len(axes))]
    sigma = dataset["sigma"].values
    skew = np.nanmax(np.abs(sigma - np.swapaxes(sigma, 2, 3)), initial=0.0)
    lopsided = skew > 1e-9 * np.nanmax(np.abs(sigma), initial=0.0)
    mixed = [part for a, b in pairs for part in ((a, b, "-"), (b, a, ":"))[: 2 if lopsided else 1]]
    vectors = [("u", "u", "Velocity u"), ("q", "q", "Heat flux q")]
    if np.any(np.nan_to_num(dataset["F"].values)):
        vectors.append(("F", "F", "External force F"))
    groups: list[tuple[str, str, str, list[Any]]]
    groups = [(n, s_, t, [((a,), axes[a], a, "-") for a in every]) for n, s_, t in vectors]
    groups[1:1] = [("sigma", "σ", "Stress σ, diagonal", [((a, a), axes[a] * 2, a, "-") for a in every])]
    if pairs:
        colour = {pair: n for n, pair in enumerate(pairs)}
        parts = [((a, b), axes[a] + axes[b], colour[min(a, b), max(a, b)], style) for a, b, style in mixed]
        groups[2:2] = [("sigma", "σ", "Stress σ, off the diagonal", parts)]
    for name, symbol, title, parts in groups:
        found = [(data(name, *index), text, colour, style) for index, text, colour, style in parts]
        lines = [[(t, COLOURS[c % 6], style, v[k], e[k]) for (v, e), t, c, style in found] for k, _ in times]
        rows.append(panels(title, symbol, name, lines, [f" at {text}" for _, text in times]))
    return rows if len(times) > 1 else [[image for row in rows for image in row]]


def _known(errors: np.ndarray) -> np.ndarray:
    """Errors with 0 for those that are not known."""
    return np.where(np.isfinite(errors), errors, 0.0)


def _shades(count: int) -> list[str]:
    """One colour per time, dark to light."""
    return {1: [COLOURS[0]], 2: ["#440154", "#5ec962"]}.get(count, ["#440154", "#31688e", "#5ec962"])


def confidence(dataset: Any) -> float:
    """Standard errors in half a 95 % band: Student's t for the groups that hold samples; 2 where they are not known."""
    if "group_weight" not in dataset:
        return 2.0
    found = float(student_factor(int(np.min(np.sum(dataset["group_weight"].values > 0, axis=1)))))
    return found if math.isfinite(found) else 0.0


def _panel(s: np.ndarray, lines: Sequence[_Line], factor: float, limits, along: str, label: str, wide: float):
    """One panel with bands of one standard error, and of 95 %."""
    figure, axes = new_figure()
    for text, colour, style, value, error in lines:
        value, error = value / factor, error / factor
        axes.plot(s, value, style, color=colour, label=plain_text(text), marker="" if len(s) > 1 else "o")
        for width, alpha in ((1, 0.28), (wide, 0.13)):
            axes.fill_between(s, value - width * error, value + width * error, color=colour, alpha=alpha, linewidth=0)
    axes.set(xlabel=along, ylabel=label, ylim=limits, xlim=_range(s, pad=0.0))
    if len(lines) > 1:
        longest = max(len(text) for text, *_ in lines)
        figure.legend(loc="outside upper center", ncols=3 if longest <= 14 else 2 if longest <= 24 else 1)
    return figure


# --- maps -------------------------------------------------------------------------------------------------------------


def _maps(dataset: Any, y: np.ndarray, shape: tuple[int, ...] | None) -> list[list[Image]]:
    """Pressure and |q| with arrows, one row per time: on a plane through the middle of a grid, else at all points."""
    names = [str(a) for a in dataset["i"].values]
    plane, across, where = _plane(y, shape, names)
    pressure = -np.trace(dataset["sigma"].values[:, plane], axis1=-2, axis2=-1) / len(names)
    flux = dataset["q"].values[:, plane]
    size = np.linalg.norm(flux, axis=-1)
    points = y[plane][..., across]
    unit = dataset["y_x"].attrs.get("units", "")
    labels = tuple(axis_label(names[a], unit) for a in across)
    error = dataset["q_err"].values if "q_err" in dataset else np.array(np.nan)
    known = error[np.isfinite(error)]
    rows = []
    for k, text in _chosen(dataset):
        row = []
        for title, symbol, name, value, arrows in (
            ("Pressure −tr σ/" + str(len(names)), "−tr σ/" + str(len(names)), "sigma", pressure, None),
            ("Heat flux |q|, arrows: its components in the plane", "|q|", "q", size, flux[k][..., across]),
        ):
            factor, power = _scale(value)
            label = axis_label(symbol, dataset[name].attrs.get("units", ""), power)
            caption = f"{title}, {where} at {text}."
            if name == "q" and known.size:
                caption += (
                    f" Median standard error of a component: {np.median(known):.2g} {dataset['q'].attrs['units']}."
                )
            limits = _range(value / factor, pad=0.0)
            row.append(as_image(_map(points, value[k] / factor, limits, label, labels, arrows, shape is None), caption))
        rows.append(row)
    return rows


def _plane(y: np.ndarray, shape: tuple[int, ...] | None, names: list[str]):
    """Indices of the points to draw, (a, b) or (Y,); the two axes that they are drawn on; and words for it."""
    if shape is None:
        return np.arange(len(y)), [0, 1], "all points" if len(names) == 2 else "all points, seen along z"
    wide = [a for a, n in enumerate(shape) if n > 1][:2]
    index = tuple(slice(None) if a in wide else n // 2 for a, n in enumerate(shape))
    plane = np.arange(len(y)).reshape(shape)[index]
    rest = [a for a in range(len(shape)) if a not in wide]
    middle = ", ".join(f"{names[a]} = {np.mean(y[plane][..., a]):.4g}" for a in rest)
    return plane, wide, f"plane {middle}" if middle else "all points"


def _map(points: np.ndarray, value: np.ndarray, limits, label: str, labels, arrows, scatter: bool):
    """One map with its colour bar."""
    figure, axes = new_figure(4.3, 3.7)
    across, up = points[..., 0], points[..., 1]
    options = {"cmap": "viridis" if arrows is None else "cividis", "vmin": limits[0], "vmax": limits[1]}
    if not scatter:
        drawn = axes.pcolormesh(across, up, value, shading="nearest", **options)
    else:
        drawn = axes.scatter(across, up, c=value, s=28 if arrows is None else 14, **options)
    figure.colorbar(drawn, ax=axes, label=label, shrink=0.9)
    if arrows is not None:
        step = tuple(slice(None, None, 1 if scatter else max(1, math.ceil(n / 16))) for n in value.shape)
        longest = np.max(np.linalg.norm(np.nan_to_num(arrows[step]), axis=-1), initial=0.0)
        if longest > 0:
            area = np.ptp(across) * np.ptp(up) or 1.0
            spacing = math.sqrt(area / value[step].size)
            axes.quiver(
                *(a[step] for a in (across, up, arrows[..., 0], arrows[..., 1])),
                **{"angles": "xy", "scale_units": "xy", "scale": longest / (0.95 * spacing)},
                **({"color": "#56616c", "width": 0.005} if scatter else {"color": "white", "width": 0.009}),
                **({} if scatter else {"edgecolor": "#20262c", "linewidth": 0.4, "pivot": "mid"}),
            )
    axes.set(xlabel=labels[0], ylabel=labels[1], aspect="equal")
    axes.grid(False)
    return figure
