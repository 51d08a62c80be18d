"""Field points and mollifiers of a configuration: profiles, regular grids and points of a file."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from jaxmd_iz.build.names import keys_of
from jaxmd_iz.checks import fail, must
from jaxmd_iz.config import AXES, Config
from jaxmd_iz.mollifiers import AbstractMollifier, Bump, Cubic, Polynomial, Trapezoid
from jaxmd_iz.simulation import Grid
from jaxmd_iz.space import AbstractSpace, Periodic
from jaxmd_iz.tiles import RegularGrid
from jaxmd_iz.windows import Fourier, Separable, slab

_KINDS: dict[str, tuple[Callable[..., AbstractMollifier], tuple[str, ...]]] = {
    "polynomial": (Polynomial, ("exponent",)),
    "separable": (Separable, ("exponent",)),
    "bump": (Bump, ("nodes",)),
    "trapezoid": (Trapezoid, ()),
    "cubic": (Cubic, ()),
}


def mollifier_of(config: Config, cell: np.ndarray | None, dimensions: int) -> AbstractMollifier:
    """The mollifier in D dimensions; `cell`, (D, D), is that of `fourier`."""
    table = config.mollifier
    with keys_of("mollifier"):
        if table.kind == "fourier":
            return Fourier(cell, epsilon=table.epsilon, modes=table.modes)
        make, names = _KINDS[table.kind]
        return make(epsilon=table.epsilon, dimensions=dimensions, **{name: getattr(table, name) for name in names})


def grids_of(config: Config, space: AbstractSpace) -> list[Grid]:
    """Field points with their mollifiers: profile, regular grid, points of a file; the first is called `fields`.

    Args:
        config: tables `grid`, `mollifier`, `output`.
        space: of `space_of`.

    Returns:
        Grids named `fields`, then `grid` and `points` as far as there are more.

    Raises:
        InputError: a file of points that cannot be read, or what the Modules refuse.
    """
    table, dim = config.grid, space.dimensions
    if isinstance(space, Periodic):
        origin, box = np.zeros(dim), space.matrix
    else:
        origin = np.asarray(table.lower or (0.0,) * dim)
        box = np.diag(np.asarray(table.upper or (1.0,) * dim) - origin)
    whole = mollifier_of(config, box, dim)
    found: list[Grid] = []

    def add(name, y, mollifier, axis=None, shape=None, regular=None):
        points = jnp.asarray(np.asarray(y, config.output.dtype))
        found.append(Grid(points, mollifier, "fields" if not found else name, axis, shape, regular))

    if table.profile:
        axis = AXES.index(table.axis) if table.axis else dim - 1
        height = float(space.heights[axis]) if isinstance(space, Periodic) else 0.0
        line = mollifier_of(config, np.array([[height]]), 1)
        with keys_of("grid"):
            window = slab(line, space, axis, table.area)
        middle = (np.arange(table.profile) + 0.5) / table.profile
        regular = RegularGrid((table.profile,), box[[axis]] / table.profile)
        add("profile", origin + middle[:, None] * box[axis], window, axis=axis, regular=regular)
    if table.shape:
        middles = np.meshgrid(*((np.arange(m) + 0.5) / m for m in table.shape), indexing="ij")
        regular = RegularGrid(table.shape, box / np.array(table.shape)[:, None])
        y = origin + np.stack(middles, axis=-1).reshape(-1, dim) @ box
        add("grid", y, whole, shape=table.shape, regular=regular)
    if table.points:
        add("points", _points(table.points, dim), whole)
    return found


def _points(path: str, dim: int) -> np.ndarray:
    """(Y, D) points of a text file."""
    try:
        with open(path, encoding="utf-8") as stream:
            lines = [line for line in stream if line.split("#")[0].strip()]
        points = np.loadtxt(lines, ndmin=2) if lines else np.zeros((0, dim))
    except (OSError, ValueError) as error:
        fail("grid.points", "name a text file of numbers", f"`{path}` cannot be read: {error}")
    good = points.shape[0] > 0 and points.shape[1] == dim and bool(np.isfinite(points).all())
    must(good, "grid.points", f"name a file with {dim} finite numbers a line", f"`{path}` has shape {points.shape}")
    return points
