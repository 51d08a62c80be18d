"""Macroscopic data of a configuration: points y_k along an axis with ρ, ρu and T or E, from profiles or a file."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxmd_iz.build.names import keys_of
from jaxmd_iz.checks import fail, must
from jaxmd_iz.config import AXES, Config, MacroscopicTable, ProfileTable
from jaxmd_iz.local_gibbs import Cells
from jaxmd_iz.matching import Data
from jaxmd_iz.mollifiers import Cubic
from jaxmd_iz.sampling import Sampling
from jaxmd_iz.space import AbstractSpace, Periodic
from jaxmd_iz.units import units
from jaxmd_iz.windows import slab


class Line(NamedTuple):
    """K equidistant points along an axis: where they are, how far apart, and where they begin."""

    s: np.ndarray  # (K,) coordinate along the axis, internal units
    spacing: float
    length: float
    axis: int


def cells_of(config: Config, space: AbstractSpace) -> tuple[Cells, Line]:
    """Macroscopic points with the cubic slab mollifier whose ε is the spacing, so that its shares sum to 1.

    Args:
        config: tables `macroscopic` and, in free space, `grid` for the corners and the area.
        space: of `space_of`.

    Raises:
        InputError: what the mollifier refuses.
    """
    table, dim = config.macroscopic, space.dimensions
    axis = AXES.index(table.axis) if table.axis else dim - 1
    count = table.points if table.data is None else len(_table(config)[0])
    if isinstance(space, Periodic):
        origin, way = np.zeros(dim), space.matrix[axis]
        length, area = float(space.heights[axis]), space.volume / float(space.heights[axis])
    else:
        for name in ("lower", "upper"):
            must(getattr(config.grid, name) is not None, f"grid.{name}", "be given in free space", "it is missing")
        origin = np.asarray(config.grid.lower, float)
        length = float(np.asarray(config.grid.upper)[axis] - origin[axis])
        way, area = length * np.eye(dim)[axis], config.grid.area or 1.0
    spacing = length / count
    middle = (np.arange(count) + 0.5) / count
    with keys_of("macroscopic", area="grid.area"):
        window = slab(Cubic(spacing, 1), space, axis, area)
    dtype = config.output.dtype
    y = jnp.asarray(np.asarray(origin + middle[:, None] * way, dtype))
    begin = float(origin[axis])
    volume = jnp.full(count, spacing * area, dtype)
    return Cells(y, volume, window), Line(begin + middle * length, spacing, length, axis)


def data_of(config: Config, cells: Cells, line: Line, masses: np.ndarray) -> Data:
    """ρ, ρu and T or E at the points, in internal units; ρ is scaled so that it holds the mass of the particles.

    Raises:
        InputError: a file that cannot be read or that does not fit, fields that are not possible.
    """
    unit, dim, dtype = units(config.units.system), cells.y.shape[1], config.output.dtype
    u = np.zeros((len(line.s), dim))
    table = config.macroscopic
    mean = float(np.sum(masses) / np.sum(np.asarray(cells.volume)))
    if table.data is not None:
        s, columns = _table(config)
        s = unit.to_internal(s, "length")
        even = np.allclose(s, line.s, rtol=0, atol=1e-4 * line.spacing)
        wanted = f"{line.s[0]:g}, {line.s[1]:g}, …, {line.s[-1]:g}"
        must(even, "macroscopic.data", f"have the points s = {wanted} in the middle of equal cells", f"it has {s}")
        rho = unit.to_internal(columns["rho"], "density")
        for i in range(dim):
            u[:, i] = unit.to_internal(columns.get(f"u_{AXES[i]}", 0.0), "velocity")
        hot, energy = columns.get("T"), columns.get("E")
    else:
        rho = _profile(table.rho, line, mean if table.rho.value is None else table.rho.value, unit, "density")
        u[:, AXES.index(table.u.component)] = _profile(table.u, line, table.u.value, unit, "velocity")
        warm = config.density.temperature if table.T.value is None else table.T.value
        energy = None if table.E.value is None else _profile(table.E, line, table.E.value, None, "")
        hot = None if energy is not None else _profile(table.T, line, warm or 0.0, None, "")
    low = float(np.min(rho))
    must(low > 0, "macroscopic.rho", "be positive everywhere", f"its lowest value is {low:g}")
    whole = float(np.sum(rho) * np.sum(np.asarray(cells.volume)) / len(rho))
    close = table.data is None or abs(whole / np.sum(masses) - 1) < 0.02
    but = f"its ρ integrates to {whole:g}"
    must(
        close, "macroscopic.data", f"hold the mass {np.sum(masses):g} of the particles", but, "Change `density.number`."
    )
    rho = rho * np.sum(masses) / whole
    if hot is not None:
        cold = float(np.min(hot))
        must(cold > 0, "macroscopic.T", "be positive everywhere", f"its lowest value is {cold:g}")

    def array(value, quantity):
        return None if value is None else jnp.asarray(np.asarray(unit.to_internal(value, quantity), dtype))

    return Data(
        rho=jnp.asarray(np.asarray(rho, dtype)),
        momentum=jnp.asarray(np.asarray(rho[:, None] * u, dtype)),
        energy=array(energy, "energy_density"),
        temperature=array(hot, "temperature"),
    )


def sampling_of(table: MacroscopicTable, sampling: Sampling) -> Sampling:
    """How the matching samples: as the run does, with its own number of chains and proposals."""
    return dataclasses.replace(sampling, samples=table.chains, burn_in=table.burn_in, states="together")


def _profile(table: ProfileTable, line: Line, value: float, unit, quantity: str) -> np.ndarray:
    """value + amplitude · shape at the points; `value` of a density may be in internal units already, as they agree."""
    begin = line.s[0] - line.spacing / 2
    s, length = line.s - begin, line.length
    if table.kind == "step":
        width = table.width or length / 32
        shape = (np.tanh((s - length / 4) / width) - np.tanh((s - 3 * length / 4) / width)) / 2
    elif table.kind == "sine":
        shape = np.sin(2 * np.pi * table.mode * s / length)
    elif table.kind == "gaussian":
        width, centre = table.width or length / 8, length / 2 if table.centre is None else table.centre - begin
        shape = sum(np.exp(-((s - centre + m * length) ** 2) / (2 * width**2)) for m in (-1, 0, 1))
    else:
        shape = np.zeros_like(s)
    total = np.asarray(value + table.amplitude * shape)
    return total if unit is None else np.asarray(unit.to_internal(total, quantity))


def _table(config: Config) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """s and the columns of the data file, in the units of the configuration."""
    path = Path(str(config.macroscopic.data))
    try:
        columns = _netcdf(path) if path.suffix in (".nc", ".h5") else _csv(path)
    except (OSError, ValueError, KeyError, UnicodeDecodeError) as error:
        fail("macroscopic.data", "name a CSV file or a `fields.nc`", f"`{path}` cannot be read: {error}")
    for name in ("s", "rho"):
        must(name in columns, "macroscopic.data", f"have a column `{name}`", f"it has {sorted(columns)}")
    one = ("T" in columns) != ("E" in columns)
    must(one, "macroscopic.data", "have a column `T` or a column `E`", f"it has {sorted(columns)}")
    count = len(columns["s"])
    good = count >= 3 and all(np.all(np.isfinite(v)) for v in columns.values())
    must(good, "macroscopic.data", "have three or more rows of finite numbers", f"it has {count} rows, or gaps")
    return columns.pop("s"), columns


def _csv(path: Path) -> dict[str, np.ndarray]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.split("#")[0].strip()]
    names = [name.strip() for name in lines[0].split(",")] if lines else []
    rows = np.loadtxt(lines[1:], delimiter=",", ndmin=2) if len(lines) > 1 else np.zeros((0, len(names)))
    if rows.shape[1] != len(names):
        raise ValueError(f"{len(names)} names and {rows.shape[1]} columns")
    return dict(zip(names, rows.T, strict=True))


def _netcdf(path: Path) -> dict[str, np.ndarray]:
    import xarray as xr

    with xr.open_dataset(path, engine="h5netcdf") as dataset:
        last = dataset.isel(time=-1) if "time" in dataset.dims else dataset
        found = {name: last[name].values for name in ("s", "rho", "T") if name in last.variables}
        found |= {f"u_{AXES[i]}": last["u"].values[:, i] for i in range(last.sizes.get("i", 0)) if "u" in last}
        return found
