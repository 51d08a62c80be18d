"""Frames of H5MD files: P. de Buyl, P. H. Colberg and F. Höfling, Comput. Phys. Commun. 185 (2014) 1546; version 1.1.

Read: `/particles/<the only group>/` with `position`, `velocity`, `mass`, `species` and `box`, of constant or of
time-dependent kind. ASE has no reader of this format, MDAnalysis's wants topologies beside it.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from jaxmd_iz.checks import fail, must
from jaxmd_iz.snapshots.files import Frame

_MAGIC = b"\x89HDF\r\n\x1a\n"
#: Units that H5MD's unit module may name, as (dimension, in Å, ps or amu).
_UNITS = {
    **{name: ("length", 1.0) for name in ("Angstrom", "angstrom", "Å", "A")},
    **{"nm": ("length", 10.0), "pm": ("length", 0.01), "um": ("length", 1e4)},
    **{"fs": ("time", 1e-3), "ps": ("time", 1.0), "ns": ("time", 1e3), "us": ("time", 1e6)},
    **{name: ("mass", 1.0) for name in ("u", "amu", "Da")},
}
_POWERS = {"length": {"length": 1}, "time": {"time": 1}, "mass": {"mass": 1}, "velocity": {"length": 1, "time": -1}}


def is_h5md(path: Path) -> bool:
    """Whether a file is HDF5 with `particles` in it.

    Args:
        path: a file or folder.

    Raises:
        OSError: HDF5 that is damaged.
    """
    if not path.is_file():
        return False
    with open(path, "rb") as stream:
        if stream.read(8) != _MAGIC:
            return False
    import h5py

    with h5py.File(path, "r") as file:
        return "particles" in file


def read_h5md(path: Path, frames: slice) -> tuple[list[Frame], str | None, bool]:
    """Reads frames of an H5MD file.

    Args:
        path: the file.
        frames: which of them.

    Returns:
        Frames; `metal` if the file has units, to which numbers are converted, else None; and True, for plain numbers.

    Raises:
        InputError: not one group of particles, no positions, shapes that do not fit, elements sampled at different
            steps, units known for some elements only or not understood.
    """
    import h5py

    with h5py.File(path, "r") as file:
        root: Any = file["particles"]
        groups = [name for name in root if isinstance(root[name], h5py.Group)]
        must(len(groups) == 1, "path", "hold one group of `/particles`", f"`{path}` has {groups}")
        group: Any = root[groups[0]]
        must("position" in group, "path", "hold positions", f"`/particles/{groups[0]}` has none")
        x, moments, steps, unit = _element(group, "position", frames)
        must(x.ndim == 3 and x.shape[2] in (1, 2, 3), "path", "hold positions (F, n, D)", f"their shape is {x.shape}")
        shapes = {"velocity": x.shape[1:], "mass": x.shape[1:2], "species": x.shape[1:2]}
        values, units = {"position": x}, {"position": unit}
        for name, shape in shapes.items():
            if name in group:
                value, _, own, units[name] = _element(group, name, frames)
                if value.ndim == len(shape):  # constant in time
                    value = np.broadcast_to(value, (len(x), *value.shape))
                fits = value.shape == (len(x), *shape)
                must(fits, "path", f"hold `{name}` of shape (F, {', '.join(map(str, shape))})", f"it is {value.shape}")
                same = own is None or steps is None or np.array_equal(own, steps)
                must(same, "path", f"hold `{name}` at the steps of `position`", "it is sampled at others")
                values[name] = value
        cells, periodic, units["box"] = _box(group, frames, *x.shape[::2])
        times, units["time"] = moments if moments is not None else (None, None)
    units.pop("species", None)
    factor = _factors(
        {k: u for k, u in units.items() if (k != "time" or times is not None) and (k != "box" or cells.any())}
    )
    dim = x.shape[2]

    def padded(name: str) -> np.ndarray:
        return np.pad(np.asarray(values[name], float) * factor.get(name, 1.0), ((0, 0), (0, 0), (0, 3 - dim)))

    x, v = padded("position"), padded("velocity") if "velocity" in values else None
    found = [
        Frame(
            names=_names(values["species"][f]) if "species" in values else ["1"] * x.shape[1],
            x=x[f],
            v=None if v is None else v[f],
            p=None,
            masses=np.asarray(values["mass"][f], float) * factor.get("mass", 1.0) if "mass" in values else None,
            cell=cells[f] * factor.get("box", 1.0),
            periodic=periodic,
            time=None if times is None else float(times[f]) * factor.get("time", 1.0),
        )
        for f in range(len(x))
    ]
    return found, "metal" if factor else None, True


def _element(group: Any, name: str, frames: slice):
    """An element: its value at the frames (or constant), (times, their unit), steps, and the unit of the value."""
    import h5py

    item = group[name]
    if isinstance(item, h5py.Dataset):
        return _decoded(item, item[()]), None, None, item.attrs.get("unit")
    must("value" in item, "path", f"hold a dataset `value` in `{name}`", "there is none")
    value = item["value"]
    rows = list(range(*frames.indices(len(value))))
    backwards = frames.step is not None and frames.step < 0
    part = _decoded(value, value[sorted(rows)][::-1] if backwards else value[rows])

    def along(key: str) -> np.ndarray | None:  # given for each frame, or as an increment with an offset
        if key not in item:
            return None
        data = item[key]
        if data.shape == ():
            return float(data[()]) * np.array(rows, float) + float(data.attrs.get("offset", 0.0))
        must(len(data) == len(value), "path", f"hold one `{key}` a frame", f"`{name}` has {len(data)}")
        return np.asarray(data[()])[rows]

    time = along("time")
    return (
        part,
        None if time is None else (time, item["time"].attrs.get("unit")),
        along("step"),
        value.attrs.get("unit"),
    )


def _decoded(data: Any, value: np.ndarray) -> np.ndarray:
    """Names for the numbers of an enumeration, text for bytes."""
    import h5py

    value = np.asarray(value)
    names = h5py.check_enum_dtype(data.dtype)
    if names and data.dtype != bool:
        back = {number: name for name, number in names.items()}
        return np.array([back.get(v, str(v)) for v in value.ravel().tolist()], object).reshape(value.shape)
    if value.dtype.kind in "SO":
        texts = [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in value.ravel().tolist()]
        return np.array(texts, object).reshape(value.shape)
    return value


def _names(species: np.ndarray) -> list[str]:
    return [str(s) for s in species.tolist()]


def _box(group: Any, frames: slice, count: int, dim: int) -> tuple[np.ndarray, np.ndarray, Any]:
    """Cell vectors (F, 3, 3) in rows, periodicity (3,) and the unit of the edges."""
    cells, periodic, unit = np.zeros((count, 3, 3)), np.zeros(3, bool), None
    if "box" not in group:
        return cells, periodic, unit
    box = group["box"]
    must("boundary" in box.attrs, "path", "say the `boundary` of its box", "it does not")
    said = np.broadcast_to(np.atleast_1d(box.attrs["boundary"]), (dim,))
    periodic[:dim] = [(b.decode() if isinstance(b, bytes) else str(b)) == "periodic" for b in said]
    if "edges" in box:
        edges, _, _, unit = _element(box, "edges", frames)
        fixed = not hasattr(box["edges"], "keys")
        edges = np.broadcast_to(edges, (count, *edges.shape)) if fixed else edges
        good = edges.shape in ((count, dim), (count, dim, dim))
        must(good, "path", f"hold box edges of shape ({dim},) or ({dim}, {dim})", f"it is {edges.shape[1:]}")
        cells[:, :dim, :dim] = edges if edges.ndim == 3 else edges[:, :, None] * np.eye(dim)
    must("edges" in box or not periodic.any(), "path", "hold the edges of its periodic box", "it has none")
    return cells, periodic, unit


def _factors(units: dict[str, Any]) -> dict[str, float]:
    """What makes Å, ps and amu of each element; empty if the file names no units."""
    lacking = [name for name, unit in units.items() if unit is None]
    if len(lacking) == len(units):
        return {}
    but = f"`{lacking[0]}` has none" if lacking else ""
    must(not lacking, "path", "name the units of every element or of none", but)
    kinds = {"position": "length", "box": "length"}
    return {name: _factor(unit, kinds.get(name, name)) for name, unit in units.items()}


def _factor(unit: Any, kind: str) -> float:
    """One unit of H5MD's unit module, `nm+1 ps-1`, in Å, ps and amu."""
    text = unit.decode() if isinstance(unit, bytes) else str(unit)
    factor, powers = 1.0, dict.fromkeys(_POWERS[kind], 0)
    for word in text.split():
        match = re.fullmatch(r"(\D*?)([+-]?\d+)?", word)
        name, power = (match[1], int(match[2] or 1)) if match else ("", 1)
        if name not in _UNITS:
            fail("path", f"have units of {kind} made of {', '.join(_UNITS)}", f"it names `{text}`")
        dimension, size = _UNITS[name]
        powers[dimension] = powers.get(dimension, 0) + power
        factor *= size**power
    must(powers == _POWERS[kind], "path", f"have units of {kind} where they belong", f"it names `{text}`")
    return factor
