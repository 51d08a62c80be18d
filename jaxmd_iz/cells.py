"""Pairs of particles closer than a radius, found on the device by sorting them into cells: O(n), fixed shapes.

Cells stand in columns along the last axis; a column is contiguous once the particles are sorted by cell. Whatever is
within reach of a particle lies in one window of each of a few columns. Periodic space is cut along its cell vectors.
Free space is folded into a periodic table of cells, as a hash: what does not belong there fails the test of distance,
so a cloud may expand without end. A window is scanned into words of 32 bits, and the bits are read off afterwards:
n words are written where n list entries would have to be, one by one.
"""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float, Int

from jaxmd_iz.space import AbstractSpace, Periodic

WORD = 32  # bits
SLACK = 1e-3  # of a cell, for rounding of the cell coordinate: float32 has it up to some 10⁴ cells away
FINE = 8  # cells along a column in one radius


@dataclasses.dataclass(frozen=True)
class Table:
    """The cells of a space, for one radius: static numbers."""

    counts: tuple[int, ...]  # cells along each axis
    rates: np.ndarray  # (D, D): x @ rates are cell coordinates, to be taken modulo `counts`
    columns: np.ndarray  # (O, D − 1) columns in reach, as steps of 0 … counts − 1, each once
    half: np.ndarray  # (O,) cells in reach up and down the column
    shifts: np.ndarray  # (I, D) lattice vectors that can bring an image found by rounding nearer


def table(space: AbstractSpace, radius: float, n: int) -> Table:
    """The cells for n particles: a column is at least `radius` wide, and there are not many more cells than particles.

    Args:
        space: free or periodic.
        radius: length.
        n: number of particles.

    Returns:
        Table.
    """
    dim = space.dimensions
    wide, tall = radius * (1 + 2 * SLACK), radius / FINE
    most = max(3, math.ceil(2 * n ** (1 / dim)))
    shifts, upright = np.zeros((1, dim)), True
    if isinstance(space, Periodic):
        heights = space.heights
        across = [min(most, max(1, int(h / wide))) for h in heights[:-1]]
        along = max(1, min(int(heights[-1] / tall), 4 * n // math.prod(across)))
        sides = heights / np.array([*across, along])
        rates = np.linalg.inv(space.matrix) * np.array([*across, along])
        gram = space.matrix @ space.matrix.T
        upright = np.allclose(gram, np.diag(np.diag(gram)))
        if not space.orthorhombic and radius > space.largest_cutoff():
            shifts = space.images(radius)
    else:
        across = [max(3, math.ceil((n / FINE) ** (1 / dim)))] * (dim - 1)
        along = max(2 * FINE + 2, min(FINE * most, 4 * n // math.prod(across)))
        sides = np.array([wide] * (dim - 1) + [tall])
        rates = np.diag(1 / sides)
    columns, half = [], []
    for step in itertools.product(*(range(m) for m in across)):
        gaps = [max(min(r, m - r) - 1 - SLACK, 0.0) * s for r, m, s in zip(step, across, sides[:-1], strict=True)]
        gap = math.hypot(*gaps) if upright else max(gaps, default=0.0)
        if gap < radius:
            columns.append(step)
            half.append(math.ceil((math.sqrt(radius**2 - gap**2) if upright else radius) / sides[-1] + SLACK))
    columns = np.array(columns, np.int32).reshape(len(half), dim - 1)
    return Table((*across, along), rates, columns, np.array(half, np.int32), shifts)


def cell_order(space: AbstractSpace, x: Float[Array, "n D"], radius: float) -> Int[Array, " n"]:
    """The particles in the order of their cells, so that neighbours lie next to each other in memory.

    Args:
        space: free or periodic.
        x: (n, D) positions, length.
        radius: length of the order of the cells.

    Returns:
        (n,) numbers of particles.
    """
    return jnp.argsort(_codes(table(space, radius, x.shape[0]), x)[0]).astype(jnp.int32)


def _codes(of: Table, x):
    """The number of every particle's cell, with columns contiguous, and its D coordinates."""
    dim = x.shape[1]
    cells = []
    for axis, count in enumerate(of.counts):
        u = sum(x[:, a] * float(of.rates[a, axis]) for a in range(dim) if of.rates[a, axis] != 0)
        u = jnp.floor(u)
        u = u - count * jnp.floor(u / count)
        cells.append(jnp.clip(u.astype(jnp.int32), 0, count - 1))  # also what is not finite
    code = cells[0]
    for axis in range(1, dim):
        code = code * of.counts[axis] + cells[axis]
    return code, cells


def pairs_within(
    space: AbstractSpace, x: Float[Array, "n D"], radius: float, capacity: int
) -> tuple[Int[Array, "K n"], Int[Array, ""]]:
    """For every particle the numbers of those whose nearest image is closer than `radius`.

    Args:
        space: free or periodic.
        x: (n, D) positions, anywhere in or out of the cell, length.
        radius: length.
        capacity: slots K a particle.

    Returns:
        (K, n) particles; an empty slot holds the particle itself. And the largest number of neighbours, which is
        above K if the list does not hold them all.
    """
    of = table(space, radius, x.shape[0])

    @custom_vmap
    def one(x):
        return _pairs(of, space, x, radius, capacity, None)

    @one.def_vmap
    def _rule(size, batched, x):
        def mapped(x):
            return lax.map(one, x)

        def joint(x):  # loops of one length for all
            return jax.vmap(lambda a: _pairs(of, space, a, radius, capacity, "systems"), axis_name="systems")(x)

        return lax.platform_dependent(x, cpu=mapped, default=joint), (True, True)

    return one(x)


def _pairs(of: Table, space, x, radius, capacity, axis):
    n, dim = x.shape
    code, cells = _codes(of, x)
    order = jnp.argsort(code).astype(jnp.int32)
    total, along = math.prod(of.counts), of.counts[-1]
    start = jnp.searchsorted(_take(code, order), jnp.arange(total + 1, dtype=jnp.int32)).astype(jnp.int32)
    cells = [_take(c, order) for c in cells]
    # every column twice in a row, 2n places: a window that leaves a column at its end goes on in the copy
    own = _take(code, order) // along * along
    begin, size = _take(start, own), _take(start, own + along) - _take(start, own)
    of_place, size_there = jnp.repeat(begin, 2), jnp.repeat(size, 2)
    past = jnp.arange(2 * n, dtype=jnp.int32) - 2 * of_place
    real = of_place + jnp.where(past >= size_there, past - size_there, past)
    here = [_take(x[:, a], order) for a in range(dim)]
    there = [_take(p, real) for p in here]
    itself = jnp.arange(n, dtype=jnp.int32) + begin  # and once more, `size` further on
    columns, half, shifts = jnp.asarray(of.columns), jnp.asarray(of.half), jnp.asarray(of.shifts, x.dtype)

    def window(o):
        """The first place of the window of column o and its length."""
        column = jnp.zeros(n, jnp.int32)
        for axis in range(dim - 1):
            c = cells[axis] + columns[o, axis]
            column = column * of.counts[axis] + jnp.where(c >= of.counts[axis], c - of.counts[axis], c)
        base = column * along
        first = _take(start, base)
        length = _take(start, base + along) - first
        low, high = cells[-1] - half[o], cells[-1] + half[o] + 1
        under, over = low < 0, high > along
        bottom = _take(start, base + jnp.where(under, low + along, low)) - first
        top = _take(start, base + jnp.where(over, high - along, high)) - first
        count = top - bottom + jnp.where(under, length, 0) + jnp.where(over, length, 0)
        whole = 2 * half[o] + 1 >= along
        return 2 * first + jnp.where(whole, 0, bottom), jnp.where(whole, length, count)

    def near(j):
        d = space.wrap(tuple(a - _take(b, j) for a, b in zip(here, there, strict=True)))
        r2 = sum(c * c for c in d)
        if len(of.shifts) > 1:
            r2 = jnp.min(sum((d[a][None, :] + shifts[:, a, None]) ** 2 for a in range(dim)), axis=0)
        return (r2 < radius**2) & (j != itself) & (j != itself + size)

    def column(o, carry):
        first, count = window(o)
        longest = _largest(count, axis)

        def word(w, carry):
            words, places, used, found = carry
            offset = w * WORD

            def bit(t, bits):
                hit = near(first + (offset + t)) & (offset + t < count)
                return bits | (hit.astype(jnp.uint32) << t.astype(jnp.uint32))

            bits = lax.fori_loop(0, jnp.minimum(longest - offset, WORD), bit, jnp.zeros(n, jnp.uint32))
            row, i = jnp.minimum(used, capacity), jnp.arange(n, dtype=jnp.int32)
            words = words.at[row, i].set(bits, mode="promise_in_bounds", unique_indices=True)
            places = places.at[row, i].set(first + offset, mode="promise_in_bounds", unique_indices=True)
            hits = lax.population_count(bits).astype(jnp.int32)
            return words, places, used + (bits != 0).astype(jnp.int32), found + hits

        return lax.fori_loop(0, (longest + (WORD - 1)) // WORD, word, carry)

    nothing = jnp.zeros(n, jnp.int32)
    rows = (jnp.zeros((capacity + 1, n), jnp.uint32), jnp.zeros((capacity + 1, n), jnp.int32))
    words, places, used, found = lax.fori_loop(0, len(of.half), column, (*rows, nothing, nothing))
    rank = jnp.zeros(n, jnp.int32).at[order].set(jnp.arange(n, dtype=jnp.int32), unique_indices=True)
    return _read(words, places, _take(used, rank), _take(order, real), rank, capacity), jnp.max(found)


def _read(words, places, used, name, rank, capacity):
    """The set bits of the words of every particle, one after the other, as numbers of particles."""
    i = jnp.arange(rank.shape[0], dtype=jnp.int32)

    def slot(k, carry):
        out, at, bits = carry
        at = at + (bits == 0).astype(jnp.int32)
        row = jnp.minimum(at, capacity)
        fresh = jnp.where(at < used, _take(words, (row, rank)), jnp.uint32(0))
        bits = jnp.where(bits == 0, fresh, bits)
        lowest = bits & (~bits + jnp.uint32(1))
        number = lax.population_count(lowest - jnp.uint32(1)).astype(jnp.int32)
        j = _take(name, _take(places, (row, rank)) + number)
        return out.at[k].set(jnp.where(bits != 0, j, i)), at, bits ^ lowest

    out = jnp.zeros((capacity, i.shape[0]), jnp.int32)
    return lax.fori_loop(0, capacity, slot, (out, jnp.full_like(i, -1), jnp.zeros_like(i, jnp.uint32)))[0]


def _take(values, at):
    """values[at], the nearest end where `at` is beyond one: negative numbers do not count from the end."""
    return values.at[at].get(mode="clip", wrap_negative_indices=False)


def _largest(count, axis):
    """The largest count, of all systems of a batch together if `axis` names it."""
    most = jnp.max(count)
    return most if axis is None else lax.pmax(most, axis)
