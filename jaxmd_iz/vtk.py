"""Fields as VTK XML files for ParaView, without VTK: regular grids as images, other points as lines or points.

Format: VTK File Formats, XML section (vtk.org): arrays inline in base64 behind a UInt64 length.
"""

import base64
import math
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from jaxmd_iz.checks import must
from jaxmd_iz.store import FIELDS, write_text

_TYPES = {"f8": "Float64", "f4": "Float32", "i8": "Int64", "i4": "Int32", "i1": "Int8", "u1": "UInt8"}
_SUFFIX = {"ImageData": ".vti", "StructuredGrid": ".vts", "PolyData": ".vtp"}


def write_vtk(dataset: Any, path: str | Path, errors: bool = True) -> Path:
    """Writes fields for ParaView, VisIt or PyVista: one file, or one for each time and a `.pvd` that lists them.

    A grid whose points lie along the axes at equal steps is an image (`.vti`), one in a triclinic cell a structured
    grid (`.vts`); a profile along a line is a polyline, and any other points are points (`.vtp`). Grids are known by
    `grid_shape` among the attributes, or by their points. Vectors and tensors
    have 3 and 9 components, missing ones 0; σ has its components row by row, the first index contracted by ∇.

    Args:
        dataset: fields, of `Fields.to_xarray` or `store.read_fields`; one time of it (`isel(time=0)`) will do.
        path: where to. A suffix may be left out; it has to be the right one if given.
        errors: write the standard errors too, as `rho_err`, ….

    Returns:
        The file to open: with the suffix, `.pvd` if there are several times.

    Raises:
        InputError: a dataset that holds no fields or no points, a wrong suffix, or a file that cannot be written.
    """
    path = Path(path)
    must(hasattr(dataset, "dims") and hasattr(dataset, "data_vars"), "dataset", "be an xarray.Dataset", _kind(dataset))
    if "time" not in dataset.dims:
        dataset = dataset.expand_dims("time")
    axes = [f"y_{a}" for a in "xyz" if f"y_{a}" in dataset.coords]
    must(bool(axes) and dataset.sizes.get("y", 0) > 0, "dataset", "have points `y` with `y_x`, …", "it has none")
    here = [name for name in FIELDS if name in dataset and "y" in dataset[name].dims]
    must(len(here) > 0, "dataset", "hold fields, such as `rho`", f"it holds {sorted(map(str, dataset.data_vars))}")
    names = [full for name in here for full in (name, f"{name}_err") if full in dataset and (errors or full == name)]
    names += ["valid"] if "valid" in dataset else []
    points = np.stack([np.asarray(dataset[a], float) for a in axes], axis=-1)
    must(bool(np.isfinite(points).all()), "dataset", "have finite points", "some are NaN or infinite")
    shape = dataset.attrs.get("grid_shape")
    at = _places(points, _lattice(points) if shape is None else shape, "s" in dataset.coords)
    times = np.atleast_1d(np.asarray(dataset.coords["time"], float)) if "time" in dataset.coords else np.zeros(1)
    several = len(times) > 1
    right = ".pvd" if several else _SUFFIX[at.kind]
    but = f"it is `{path.suffix}`"
    must(path.suffix in ("", right), "path", f"end in `{right}` for these points and times", but, "Or leave it out.")
    path = path.with_suffix(right)
    entries = []
    for t, time in enumerate(times):
        now = dataset.isel(time=t)
        arrays = "".join(_field(now[name], len(points), at.order) for name in names)
        moment = f"<FieldData>\n{_array('TimeValue', np.array([time]), tuples=1)}</FieldData>\n"
        piece = f"<Piece{at.piece}>\n<PointData>\n{arrays}</PointData>\n{at.body}</Piece>"
        file = (
            path if not several else path.with_name(f"{path.stem}_{t:0{len(str(len(times) - 1))}d}{_SUFFIX[at.kind]}")
        )
        write_text(_document(at.kind, f"<{at.kind}{at.whole}>\n{moment}{piece}"), file)
        entries.append(f'<DataSet timestep="{float(time)!r}" file={quoteattr(file.name)}/>\n')
    if several:
        write_text(_document("Collection", "<Collection>\n" + "".join(entries)), path)
    return path


def _kind(value: Any) -> str:
    return f"it is a {type(value).__name__}"


class _Places(NamedTuple):
    """Where the points are: kind of data set, attributes of it and of its piece, order of the points, elements."""

    kind: str
    whole: str
    piece: str
    order: np.ndarray
    body: str


def _lattice(points: np.ndarray) -> tuple[int, ...] | None:
    """Numbers of points of a regular grid along its D axes, the last running fastest; None if it is none."""
    n, dim = points.shape
    tiny, shape, steps, block = 1e-6 * np.ptp(points, axis=0).max(), (), [], 1
    while block < n and len(shape) < dim:
        step, first = points[block] - points[0], points[::block]
        off = np.abs(first - points[0] - np.arange(len(first))[:, None] * step).max(axis=1) > tiny
        count = int(off.argmax()) if off.any() else len(first)
        shape, steps, block = (count, *shape), [step, *steps], block * count
    if block != n or len(shape) != dim:
        return None
    ticks = np.stack(np.meshgrid(*[np.arange(s) for s in shape], indexing="ij"), axis=-1).reshape(n, dim)
    return shape if np.abs(points[0] + ticks @ np.array(steps) - points).max() <= tiny else None


def _places(points: np.ndarray, shape: Any, line: bool) -> _Places:
    """A regular grid if `shape` is given, else a line or points. VTK counts x fastest, the dataset its last index."""
    n, dim = points.shape
    xyz, plain = np.pad(points, ((0, 0), (0, 3 - dim))), np.arange(n)
    shape = tuple(int(s) for s in np.atleast_1d(shape)) if shape is not None else ()
    if len(shape) != dim or math.prod(shape) != n or n == 1:
        body, piece = f"<Points>\n{_array('Points', xyz)}</Points>\n", f' NumberOfPoints="{n}"'
        if line and n > 1:
            way = np.argsort(points @ (points[-1] - points[0]), kind="stable")
            cells, ends, name, count = way, np.array([n]), "Lines", 1
        else:
            cells, ends, name, count = plain, plain + 1, "Verts", n
        body += f"<{name}>\n{_array('connectivity', cells)}{_array('offsets', ends)}</{name}>\n"
        return _Places("PolyData", "", f'{piece} NumberOf{name}="{count}"', plain, body)
    order = plain.reshape(shape).transpose().ravel()
    extent = " ".join(f"0 {s - 1}" for s in (*shape, *[1] * (3 - dim)))
    steps, corner, far = np.ones(3), xyz[0], xyz[-1]
    for a, size in enumerate(shape):
        steps[a] = (far[a] - corner[a]) / (size - 1) if size > 1 else 1.0
    ticks = np.stack(np.meshgrid(*[np.arange(s) for s in shape], indexing="ij"), axis=-1).reshape(n, dim)
    image = corner + np.pad(ticks, ((0, 0), (0, 3 - dim))) * steps
    whole, piece = f' WholeExtent="{extent}"', f' Extent="{extent}"'
    if np.allclose(image, xyz, rtol=0, atol=1e-6 * np.ptp(xyz)) and (steps > 0).all():
        origin, spacing = (" ".join(repr(float(c)) for c in row) for row in (corner, steps))
        return _Places("ImageData", f'{whole} Origin="{origin}" Spacing="{spacing}"', piece, order, "")
    return _Places("StructuredGrid", whole, piece, order, f"<Points>\n{_array('Points', xyz[order])}</Points>\n")


def _field(value: Any, n: int, order: np.ndarray) -> str:
    """One field of the dataset as arrays: a vector or tensor as one, number densities one a species."""
    name, unit = str(value.name), str(value.attrs.get("units", ""))
    if "species" in value.dims:
        parts = [(f"{name}_{s}", value.isel(species=k)) for k, s in enumerate(value["species"].values)]
    else:
        parts = [(name, value)]
    text = ""
    for label, part in parts:
        dims = [d for d in ("i", "j") if d in part.dims]
        array = np.asarray(part.transpose("y", *dims))[order]
        array = array.astype(np.uint8) if array.dtype == bool else array
        array = np.pad(array, ((0, 0), *[(0, 3 - part.sizes[d]) for d in dims]))
        text += _array(label, array.reshape(n, -1), unit)
    return text


def _array(name: str, value: np.ndarray, unit: str = "", tuples: int | None = None) -> str:
    """An array (N, components) or (N,) as an element, little-endian in base64."""
    value = np.ascontiguousarray(value)
    value = value.astype(value.dtype.newbyteorder("<"))
    raw = value.tobytes()
    data = base64.b64encode(np.array([len(raw)], "<u8").tobytes() + raw).decode()
    columns = value.shape[1] if value.ndim == 2 else 1
    count = f' NumberOfTuples="{tuples}"' if tuples else ""
    about = ""
    if unit:
        key = '<InformationKey name="UNITS_LABEL" location="vtkDataArray">'
        about = f"{key}{escape(unit)}</InformationKey>\n"
    kind = _TYPES[f"{value.dtype.kind}{value.dtype.itemsize}"]
    head = f'<DataArray type="{kind}" Name={quoteattr(name)} NumberOfComponents="{columns}"{count} format="binary">'
    return f"{head}\n{data}\n{about}</DataArray>\n"  # VTK finds the data right behind the tag only


def _document(kind: str, body: str) -> str:
    """The whole file."""
    head = f'<VTKFile type="{kind}" version="1.0" byte_order="LittleEndian" header_type="UInt64">'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}\n{body}\n</{kind}>\n</VTKFile>\n'
