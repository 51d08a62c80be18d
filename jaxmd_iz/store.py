"""Fields as xarray datasets in the user's units, and files that are written whole or not at all."""

import io
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from jaxmd_iz.checks import InputError, fail, must
from jaxmd_iz.statistics import FieldSeries
from jaxmd_iz.units import Units
from jaxmd_iz.units import units as system

_AXES = ("x", "y", "z")
_Q = "(3.12), the sign of its last term mended"

#: Each field: its quantity, dimensions after (time, y), meaning and equation of the paper.
FIELDS: dict[str, tuple[str, tuple[str, ...], str, str]] = {
    "rho": ("density", (), "mass density ρ", "(2.17), (3.4)"),
    "number_density": ("number_density", ("species",), "number density of each species", "(2.17), without masses"),
    "momentum": ("momentum_density", ("i",), "momentum density ρu", "(3.4)"),
    "u": ("velocity", ("i",), "velocity u", "(3.4)"),
    "E": ("energy_density", (), "energy density E", "(3.10)"),
    "T": ("temperature", (), "temperature T = (tr K − ρ|u|²)/(D k_B N)", "from the kinetic part of (3.8)"),
    "sigma": ("stress", ("i", "j"), "stress σ, tension positive, contracted by ∇ over i", "(3.8)"),
    "sigma_kinetic": ("stress", ("i", "j"), "kinetic part of σ", "(3.8)"),
    "sigma_potential": ("stress", ("i", "j"), "potential part of σ", "(3.8)"),
    "q": ("heat_flux", ("i",), "heat flux q in the centre-of-mass frame", _Q),
    "q_kinetic": ("heat_flux", ("i",), "kinetic part of q", _Q),
    "q_potential": ("heat_flux", ("i",), "potential part of q", _Q),
    "F": ("force_density", ("i",), "external force density F", "(3.9)"),
    "P": ("power_density", (), "external power density P", "(3.13)"),
}
#: Fields that divide by ρ or N and mean nothing in vacuum.
QUOTIENTS = ("u", "T", "q", "q_kinetic", "q_potential")

#: Each raw moment: its quantity and dimensions after (time, group, y).
MOMENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "rho": ("density", ()),
    "number": ("number_density", ("species",)),
    "momentum": ("momentum_density", ("i",)),
    "energy_kinetic": ("energy_density", ()),
    "energy_potential": ("energy_density", ()),
    "k": ("stress", ("i", "j")),
    "s": ("stress", ("i", "j")),
    "j_kinetic": ("heat_flux", ("i",)),
    "j_potential": ("heat_flux", ("i",)),
    "r": ("stress", ("i", "j")),
    "force": ("force_density", ("i",)),
    "power": ("power_density", ()),
}


def to_dataset(series: FieldSeries, units: str | Units, species: tuple[str, ...] | None = None, **attributes: Any):
    """The fields, their errors and the raw group moments as a dataset.

    Dimensions are `time, y, i, j, group, species`. Quotients are NaN where `valid` is false, and so are errors that are
    not known. `moment_*` are weighted sums: divide their sum over groups by that of `group_weight`.

    Args:
        series: fields in internal units.
        units: unit system to convert to.
        species: names of the species; "0", "1", … if None.
        attributes: further attributes of the dataset, such as `config` (text), `seed`, `grid_shape` (numbers of points
            of a regular grid, the last index running fastest); None is left out.

    Returns:
        xarray.Dataset whose variables have the attributes `units`, `long_name` and `equation`.

    Raises:
        InputError: if the number of names is not that of the species, or a `grid_shape` is not that of the points.
    """
    import xarray

    to = system(units) if isinstance(units, str) else units
    y = np.asarray(series.y)
    dim, kinds = y.shape[1], series.fields.number_density.shape[-1]
    names = tuple(str(k) for k in range(kinds)) if species is None else tuple(species)
    must(len(names) == kinds, "species", f"name {kinds} species", f"there are {len(names)} names")
    shape = attributes.get("grid_shape")
    if shape is not None:
        must(math.prod(shape) == len(y), "grid_shape", f"multiply to {len(y)} points", f"it is {list(shape)}")

    def convert(value: Any, quantity: str) -> np.ndarray:
        return np.asarray(to.from_internal(np.asarray(value), quantity))

    def about(quantity: str, long_name: str, **more: str) -> dict[str, str]:
        return {"units": to.label(quantity, dim), "long_name": long_name, **more}

    valid = np.asarray(series.fields.valid)
    data: dict[str, Any] = {}
    for name, (quantity, dims, meaning, equation) in FIELDS.items():
        value = convert(getattr(series.fields, name), quantity)
        error = convert(getattr(series.errors, name), quantity)
        here = valid.reshape(valid.shape + (1,) * len(dims))
        if name in QUOTIENTS:
            value, error = np.where(here, value, np.nan), np.where(here, error, np.nan)
        error = np.where(np.isfinite(error), error, np.nan)
        data[name] = (("time", "y", *dims), value, about(quantity, meaning, equation=equation))
        note = about(quantity, f"standard error of {name}", equation=f"{equation}; jackknife over groups")
        data[f"{name}_err"] = (("time", "y", *dims), error, note)
    mass = {"units": "1", "long_name": "whether there is mass, so that quotients exist", "equation": "(3.4)"}
    data["valid"] = (("time", "y"), valid, mass)
    frame = about("velocity", "velocity w of the centre of mass, used in q", equation=_Q)
    data["w"] = (("time", "i"), convert(series.w, "velocity"), frame)
    for name, (quantity, dims) in MOMENTS.items():
        value = convert(getattr(series.moments, name), quantity)
        note = about(quantity, f"raw moment {name}: weighted sum over the samples of a group", equation="(3.4)–(3.13)")
        data[f"moment_{name}"] = (("time", "group", "y", *dims), value, note)
    weight = {"units": "1", "long_name": "weight of each group: its number of samples", "equation": "(5.21)"}
    data["group_weight"] = (("time", "group"), np.asarray(series.weight), weight)

    coordinates: dict[str, Any] = {
        "time": ("time", convert(series.time, "time"), about("time", "time")),
        "i": ("i", list(_AXES[:dim])),
        "j": ("j", list(_AXES[:dim])),
        "species": ("species", list(names)),
    }
    for k, axis in enumerate(_AXES[:dim]):
        coordinates[f"y_{axis}"] = ("y", convert(y[:, k], "length"), about("length", f"{axis} of the field point"))
    if series.axis is not None:
        note = about("length", f"distance along the cell vector {'abc'[series.axis]}")
        coordinates["s"] = ("y", convert(_along(y, series.axis), "length"), note)
    fixed = {
        "title": "Conservation-law fields of molecular dynamics",
        "created_by": f"jaxmd-iz {_version('jaxmd-iz')}",
        "version": _version("jaxmd-iz"),
        "jax_version": _version("jax"),
        "dtype": str(np.asarray(series.fields.rho).dtype),
        "unit_system": to.name,
    }
    named = {k: _attribute(v) for k, v in attributes.items() if v is not None}
    return xarray.Dataset(data, coordinates, {**fixed, **named})


def _along(y: np.ndarray, axis: int) -> np.ndarray:
    """Distance of points on one line along it, growing with coordinate `axis`."""
    way = y[-1] - y[0] if len(y) > 1 else np.eye(y.shape[1])[axis]
    way = way / (np.linalg.norm(way) or 1.0)
    return y @ (-way if way[axis] < 0 else way)


def _version(package: str) -> str:
    """Installed version of a package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _attribute(value: Any) -> Any:
    """A value that NetCDF stores: number, text or list of numbers; JSON text of anything else."""
    if isinstance(value, bool | np.bool_):
        return int(value)
    if isinstance(value, int) and abs(value) >= 2**63:
        return str(value)
    if isinstance(value, str | int | float | np.number):
        return value
    if isinstance(value, list | tuple | np.ndarray) and np.asarray(value).dtype.kind in "iuf" and len(value):
        return np.asarray(value)
    return str(value) if isinstance(value, Path) else json.dumps(_strict(value), ensure_ascii=False)


def _strict(value: Any) -> Any:
    """The same with JSON's own types, NaN and infinity as None."""
    if isinstance(value, dict):
        return {str(k): _strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_strict(v) for v in value]
    if isinstance(value, str | bool | int | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "__array__"):
        return _strict(np.asarray(value).tolist())
    return str(value)


def folder(out: Path | str) -> Path:
    """The output folder, made before anything is computed, so that a bad one costs no time.

    Raises:
        InputError: if it cannot be made or written.
    """
    path = Path(out)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".jaxmd_iz_probe"
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as error:
        fail("out", "be a folder that can be written", f"`{path}` cannot: {getattr(error, 'strerror', None) or error}")
    return path


def must_be_writable(path: Path | str | None, argument: str) -> None:
    """Refuses, with an InputError, a file to come (None: no file) that cannot be written, before any computing."""
    if path is None:
        return
    path = Path(path)
    must(bool(path.name) and not path.is_dir(), argument, "name a file", f"`{path}` is a folder")
    try:
        probe = path.with_name(f".{path.name}.{os.getpid()}.probe")
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        fail(argument, "name a file that can be written", f"`{path}` cannot: {reason}")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder, which replaces `path` if all goes well and vanishes if not.

    Args:
        path: an earlier file of this name stays intact until the new one is complete and on the disk.

    Raises:
        InputError: if it cannot be written.
    """
    must(bool(path.name) and not path.is_dir(), "path", "name a file", f"`{path}` is a folder")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with open(part, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError as error:
        reason = (error.strerror or str(error)).rstrip(".")
        message = f"Argument `path` must name a file that can be written, but `{path}` cannot: {reason}."
        raise InputError(message) from error
    finally:
        with suppress(OSError):
            part.unlink()


def _sync_folder(folder: Path) -> None:
    """Makes a rename lasting where the system can do that."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(text: str, path: str | Path) -> None:
    """Writes a UTF-8 text file, whole or not at all.

    Args:
        text: its content.
        path: where to; an earlier file stays intact until the new one is complete.

    Raises:
        InputError: if it cannot be written.
    """
    with whole(Path(path)) as part:
        part.write_text(text, encoding="utf-8")


def write_json(data: Any, path: str | Path) -> None:
    """Writes strict JSON, whole or not at all: NaN and infinity become null, arrays lists.

    Args:
        data: dictionaries, lists, numbers, arrays and text.
        path: where to; an earlier file stays intact until the new one is complete.

    Raises:
        InputError: if it cannot be written.
    """
    write_text(json.dumps(_strict(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n", path)


def write_netcdf(dataset: Any, path: str | Path) -> None:
    """Writes a dataset as NetCDF-4, whole or not at all.

    Args:
        dataset: xarray.Dataset.
        path: where to; an earlier file stays intact until the new one is complete.

    Raises:
        InputError: if it cannot be written.
    """
    import h5netcdf
    from xarray.backends import H5NetCDFStore

    with whole(Path(path)) as part:
        memory = io.BytesIO()  # HDF5 itself may crash where a disk is full
        with h5netcdf.File(memory, "w") as file:
            dataset.dump_to_store(H5NetCDFStore(file))
        part.write_bytes(memory.getvalue())


def read_fields(path: str | Path):
    """Reads what `write_netcdf` wrote, into memory.

    Args:
        path: the file.

    Returns:
        xarray.Dataset.

    Raises:
        InputError: if it is missing or holds no fields.
    """
    import h5py
    import xarray

    path = Path(path)
    must(path.is_file(), "path", "name a file of fields", f"`{path}` does not exist")
    try:
        with h5py.File(path, "r") as file:  # where this fails h5netcdf leaves half an object, which complains later
            file.attrs.get("_nc3_strict")
        dataset = xarray.load_dataset(path, engine="h5netcdf")
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = (str(error).splitlines() or [""])[0]
        fail("path", "name a NetCDF file", f"`{path}` cannot be read: {reason}")
    must("rho" in dataset and "time" in dataset.dims, "path", "hold fields", f"`{path}` has no `rho`")
    return dataset
