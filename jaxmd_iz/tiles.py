"""How a regular grid is cut into tiles, so that Σ η and Σ B take time linear in particles, bonds and points: section 6.

The grid lies on a lattice of boxes that fills the cell; the points in a box are a tile. A particle, or the midpoint
of a bond, is in one box and reaches the tiles of a few boxes around it: their offsets are the same for every box, and
an image is a box a whole cell further on. The sums themselves are in `tile_sums`.
"""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmd_iz.checks import must
from jaxmd_iz.mollifiers import AbstractMollifier
from jaxmd_iz.space import AbstractSpace, Free, Periodic
from jaxmd_iz.windows import Slab

SLACK = 1e-4  # of a reach: rounding, of float32 too, never leaves anything out
SIZES = {1: (8, 16, 32), 2: (4, 6, 8, 12), 3: (2, 3, 4, 5, 6, 8)}  # points of a tile along each axis that are tried
OFFSETS = 5000  # no more than these
MOST = 2**31 - 1  # slots and words are numbered by 32 bits


class RegularGrid(eqx.Module):
    """Points origin + Σ_a i_a steps_a, 0 ≤ i_a < shape_a, the last index fastest.

    Args:
        shape: numbers of points along the axes of the grid.
        steps: (axes, D) vector from a point to the next along each axis, length.

    Raises:
        InputError: a shape that is not positive, or another number of steps.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    steps: tuple[tuple[float, ...], ...] = eqx.field(static=True)

    def __init__(self, shape, steps):
        self.shape = tuple(int(m) for m in shape)
        self.steps = tuple(tuple(float(c) for c in step) for step in steps)
        must(min(self.shape, default=0) > 0, "shape", "be positive numbers of points", f"it is {self.shape}")
        same = len(self.steps) == len(self.shape)
        must(same, "steps", f"be {len(self.shape)} vectors", f"there are {len(self.steps)}")

    def points(self, origin: Float[Array, " D"]) -> Float[Array, "Y D"]:
        """The points y, (Y, D), of the grid that begins at `origin`."""
        index = np.stack(np.meshgrid(*map(np.arange, self.shape), indexing="ij"), axis=-1)
        away = index.reshape(-1, len(self.shape)) @ np.array(self.steps)
        return origin[None, :] + jnp.asarray(away, origin.dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Tiling:
    """A grid cut into tiles, for items of one reach. Everything is known before anything is traced.

    Lengths along an axis are in units of its step; vectors are in rows.
    """

    grid: RegularGrid  # in the dimensions that are cut: one for a slab
    profile: AbstractMollifier  # in as many
    window: Slab | None  # the slab, if it is one
    periodic: bool
    reach: float  # longer bonds carry nothing
    radius: float  # of the support, with some slack
    counts: np.ndarray  # tiles along each axis
    points: np.ndarray  # points of a tile along each axis
    first: list[np.ndarray]  # number of the first point of each tile
    shift: list[np.ndarray]  # from the middle of a box to the first point of its tile
    pad: np.ndarray  # boxes beyond the tiles on each side, in free space
    edges: np.ndarray  # of a box
    offsets: np.ndarray  # from a box to those whose tiles its items can reach
    middles: np.ndarray  # from the middle of a box to those of these tiles
    halves: np.ndarray  # half the edges of a tile
    slots: float  # tiles that an item reaches, on average

    @property
    def boxes(self) -> np.ndarray:
        """Boxes along each axis."""
        return self.counts + 2 * self.pad

    @property
    def cost(self) -> float:
        """Of one item, in units of one value of B, as measured on a CPU: a slot costs gathers, an offset a test."""
        return self.slots * (int(np.prod(self.points)) + 45.0) + len(self.offsets) + 100.0


def tiling(
    regular: RegularGrid | None, mollifier: AbstractMollifier, space: AbstractSpace, reach: float, items: int
) -> Tiling | None:
    """The cheapest way to cut a grid into tiles, or None where there is none or the dense form is cheaper.

    Args:
        regular: the grid, or None for points that are anywhere.
        mollifier: η; only one with compact support can be cut.
        space: a grid in a periodic one must fill the cell.
        reach: bound on the lengths of bonds; 0 for particles.
        items: number of bonds or particles.
    """
    if regular is None or items == 0:
        return None
    several = [cut(regular, mollifier, space, reach, size) for size in SIZES.get(len(regular.shape), ())]
    best = min((t for t in several if t is not None), key=lambda t: t.cost, default=None)
    if best is None or items * len(best.offsets) > MOST // 2:
        return None
    dense = 2.0 * math.prod(regular.shape) * len(mollifier.images(space, reach))
    return best if best.cost < dense else None


def _cut_dimensions(regular: RegularGrid, mollifier: AbstractMollifier, space: AbstractSpace):
    """(grid, mollifier, whether periodic) in the dimensions in which tiles are cut, or None."""
    dim, steps = mollifier.dimensions, np.array(regular.steps)
    if isinstance(mollifier, Slab):  # one coordinate, along the normal
        line = RegularGrid(regular.shape, [[float(step @ np.array(mollifier.direction))] for step in steps])
        inner = Periodic([float(space.heights[mollifier.axis])]) if isinstance(space, Periodic) else Free(1)
        return _cut_dimensions(line, mollifier.profile, inner) if len(regular.shape) == 1 else None
    if not math.isfinite(mollifier.radius) or steps.shape != (dim, dim) or not np.linalg.det(steps):
        return None
    if isinstance(space, Periodic):  # the grid must fill the cell
        whole = np.array(regular.shape)[:, None] * steps
        return (regular, mollifier, True) if np.allclose(whole, space.matrix, rtol=1e-9) else None
    return (regular, mollifier, False) if isinstance(space, Free) else None


def cut(
    regular: RegularGrid, mollifier: AbstractMollifier, space: AbstractSpace, reach: float, points: int
) -> Tiling | None:
    """Tiles of about `points` points along each axis, whether they pay or not; None if an item reaches too many.

    Args:
        regular, mollifier, space, reach: as in `tiling`; None too if the grid cannot be cut at all.
        points: wanted.
    """
    found = _cut_dimensions(regular, mollifier, space) if math.isfinite(reach) else None
    if found is None:
        return None
    grid, profile, periodic = found
    window = mollifier if isinstance(mollifier, Slab) else None
    shape, steps = np.array(grid.shape), np.array(grid.steps)
    dim, size = len(shape), np.minimum(points, shape)
    # in a cell the boxes fill it, and tiles may differ by a point; in free space the last tile sticks out
    counts = np.maximum(1, np.round(shape / size).astype(int)) if periodic else -(-shape // size)
    width = shape / counts if periodic else size.astype(float)  # of a box
    first = [np.ceil(np.arange(c) * w - 0.5).astype(int) for c, w in zip(counts, width, strict=True)]
    most = size
    if periodic:
        most = np.array([int(np.diff(f, append=m).max()) for f, m in zip(first, shape, strict=True)])
    shift = [f + 0.5 - (np.arange(c) + 0.5) * w for f, c, w in zip(first, counts, width, strict=True)]
    low = np.array([s.min() for s in shift])
    high = np.array([s.max() for s in shift]) + most - 1
    middle, half = (low + high) / 2, (high - low) / 2
    offsets = _offsets(steps, width, middle, half, (profile.radius + reach / 2) * (1 + SLACK))
    if offsets is None:
        return None
    pad = np.zeros(dim, int) if periodic else np.abs(offsets).max(axis=0)
    middles, halves = (offsets * width + middle) @ steps, half[:, None] * steps
    radius = profile.radius * (1 + SLACK)
    # how many tiles an item reaches, from some that lie anywhere in a box, of usual lengths and any direction
    rng = np.random.default_rng(0)
    at = ((rng.random((128, dim)) - 0.5) * width) @ steps
    along = rng.normal(size=(128, dim))
    along *= reach * rng.random((128, 1)) ** (1 / 3) / np.linalg.norm(along, axis=1, keepdims=True)
    q = [middles[None, :, c] - at[:, None, c] for c in range(dim)]
    hits = reaches(np, q, [d[:, None] for d in along.T] if reach else None, halves, radius)
    slots, edges = float(np.mean(np.sum(hits, axis=1))), width[:, None] * steps
    return Tiling(
        grid, profile, window, periodic, reach, radius, counts, most,
        first, shift, pad, edges, offsets, middles, halves, slots,
    )  # fmt: skip


def _offsets(steps, width, middle, half, far: float) -> np.ndarray | None:
    """Where the least distance between an item of a box and a point of the tile there is below `far`."""
    heights = 1 / np.linalg.norm(np.linalg.inv(steps), axis=0)
    gram = steps @ steps.T
    square = np.allclose(gram, np.diag(np.diag(gram)))
    most = 2 + np.ceil((far / heights + half + np.abs(middle)) / width).astype(int)
    if np.prod(2.0 * most + 1) > 8 * OFFSETS:
        return None
    axes = [np.arange(-m, m + 1) for m in most]
    near = [
        np.maximum(0, np.abs(k * w + m) - h - w / 2) * height
        for k, w, m, h, height in zip(axes, width, middle, half, heights, strict=True)
    ]
    gaps, numbers = (np.stack(np.meshgrid(*a, indexing="ij"), -1).reshape(-1, len(width)) for a in (near, axes))
    within = (np.linalg.norm(gaps, axis=1) if square else gaps.max(axis=1)) < far
    return numbers[within].astype(np.int32) if np.count_nonzero(within) <= OFFSETS else None


def reaches(xp: Any, q: list, along: list | None, halves: np.ndarray, radius: float):
    """False only where the segment of vector `along` about the origin stays `radius` away from the box about q.

    δ from the nearest point of the segment to q separates them: in its direction the segment ends before δ, and the
    box begins Σ_k |δ·h_k|/|δ| before q. Components come first; they broadcast.
    """
    if along is not None:
        a = sum(d * d for d in along)
        b = sum(c * d for c, d in zip(q, along, strict=True))
        t = xp.clip(b / xp.where(a > 0, a, 1.0), -0.5, 0.5)
        q = [c - t * d for c, d in zip(q, along, strict=True)]
    square = sum(c * c for c in q)
    extent = 0 * square
    for row in halves:
        parts = [float(h) * c for h, c in zip(row, q, strict=True) if h]
        extent = extent + abs(sum(parts)) if parts else extent
    return square - extent <= radius * xp.sqrt(square)
