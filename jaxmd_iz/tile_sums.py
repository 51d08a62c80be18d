"""Σ η and Σ B over a grid that is cut into tiles: section 6, in time and memory linear in items and points.

Items (particles, or bonds at their midpoints) are sorted by box and tested in words of 32, a bit each, against the
tiles that their box can reach. A tile's list is the set bits of its words; cut into rows, it is summed row by row in
one product [channels × items] · [items × points]. What is left out is exactly zero, so these are the sums of the dense
form in another order. Lists are expanded block by block of rows, and blocks beyond the last row passed over, so nothing
depends on a capacity that could be too small, and nothing of points × bonds is stored, nor kept for a gradient.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt32

from jaxmd_iz.tiles import MOST, SLACK, Tiling, reaches

WORD = 32  # items tested together
BLOCKS = 16  # of the rows to be expected
TESTS = 1 << 18  # items × offsets tested at once
LEAST = 1 << 15  # slots of a block, if there are so many


def on_tiles(
    tiles: Tiling,
    origin: Float[Array, " D"],
    middle: Float[Array, "P D"],
    along: Float[Array, "P D"] | None,
    density: Float[Array, "P C"],
    live: Bool[Array, " P"] | None = None,
) -> Float[Array, "Y C"] | Float[Array, "Y D C"]:
    """Σ η(y − middle) density, or Σ B along ⊗ density for bonds, over every image that reaches y.

    Under `vmap` blocks without rows are computed too; loop over systems instead.

    Args:
        tiles: the grid, cut for these items.
        origin: (D,) its first point.
        middle: (P, D) particles or midpoints of bonds, anywhere in or out of the cell.
        along: (P, D) bonds, or None for particles; those longer than `tiles.reach` are left out.
        density: (P, C) what they carry.
        live: (P,) False for items to be left out.

    Returns:
        (Y, C), or (Y, D, C) for bonds; NaN if a position is not finite.
    """
    tensor = 0 if along is None else along.shape[1]
    live = jnp.ones(middle.shape[:1], bool) if live is None else live
    finite = jnp.all(jnp.isfinite(middle))  # such an item would be in no box
    held, short = [density], along
    if along is not None:
        finite = finite & jnp.all(jnp.isfinite(along))
        live = live & (jnp.sum(along**2, axis=1) <= (tiles.reach * (1 + SLACK)) ** 2)
        held = [along, density]
    if tiles.window is not None:  # a slab: the coordinate along its normal
        normal = jnp.asarray(tiles.window.direction, middle.dtype)
        origin, middle = jnp.sum(origin * normal)[None], jnp.sum(middle * normal[None, :], axis=1)[:, None]
        short = None if along is None else jnp.sum(along * normal[None, :], axis=1)[:, None]
    key, rel = _boxes(tiles, origin, middle)
    key = jnp.where(live, key, int(np.prod(tiles.boxes)))
    key, order = lax.sort((key, jnp.arange(key.shape[0], dtype=jnp.int32)), num_keys=1)
    table = jnp.concatenate([rel, *([] if short is None else [short]), *held], axis=1)[order]
    table = jnp.concatenate([table, jnp.zeros_like(table[:1])])  # what an empty slot holds
    found = _assemble(tiles, _sum(tiles, key, table, short is not None, tensor))
    found = found if tiles.window is None else found / tiles.window.area
    found = found + jnp.where(finite, 0.0, jnp.nan).astype(found.dtype)
    return found.reshape(found.shape[0], tensor, -1) if tensor else found


def _boxes(tiles: Tiling, origin, middle):
    """Number of the box of each item, the last for none, and where in the box the item is."""
    dtype, steps = middle.dtype, np.array(tiles.grid.steps)
    corner = (origin - jnp.asarray(steps.sum(axis=0) / 2, dtype))[None, :]
    edges, inverse = jnp.asarray(tiles.edges, dtype), jnp.asarray(np.linalg.inv(tiles.edges), dtype)
    exact = lax.Precision.HIGHEST
    cell = jnp.floor(jnp.matmul(lax.stop_gradient(middle - corner), inverse, precision=exact))
    rel = middle - (corner + jnp.matmul(cell + 0.5, edges, precision=exact))
    boxes, pad = (jnp.asarray(a, dtype)[None, :] for a in (tiles.boxes, tiles.pad))
    cell = cell - boxes * jnp.floor(cell / boxes) if tiles.periodic else cell + pad
    inside = jnp.all((cell >= 0) & (cell < boxes), axis=1)
    index = jnp.where(inside[:, None], cell, 0.0).astype(jnp.int32)
    return jnp.where(inside, _flat(list(index.T), tiles.boxes), int(np.prod(tiles.boxes))), rel


def _flat(index, shape):
    total = index[0]
    for i, m in zip(index[1:], shape[1:], strict=True):
        total = total * int(m) + i
    return total


def _shifted(tiles: Tiling, forwards: bool) -> Int[Array, "here offsets"]:
    """From every box to the tiles at the offsets, or from every tile back to the boxes; −1 where none is."""
    here, there = (tiles.boxes, tiles.counts) if forwards else (tiles.counts, tiles.boxes)
    sign = 1 if forwards else -1
    index = jnp.unravel_index(jnp.arange(int(np.prod(here)), dtype=jnp.int32), tuple(int(m) for m in here))
    to, inside = [], jnp.ones((int(np.prod(here)), len(tiles.offsets)), bool)
    for a, (i, m) in enumerate(zip(index, there, strict=True)):
        k = i.astype(jnp.int32)[:, None] + jnp.asarray(sign * (tiles.offsets[:, a] - tiles.pad[a]), jnp.int32)[None, :]
        k = k % int(m) if tiles.periodic else k
        inside = inside & (k >= 0) & (k < int(m))
        to.append(k)
    return jnp.where(inside, _flat(to, there), -1)


def _hits(tiles: Tiling, table, item, lanes, bonds: bool) -> UInt32[Array, "words offsets"]:
    """Which of the items `item` + 0, 1, … (`lanes` of them) reach the tile at an offset, a bit each."""
    dim, dtype = len(tiles.counts), table.dtype
    middles = [jnp.asarray(m, dtype)[None, None, :] for m in tiles.middles.T]
    lane = jnp.arange(WORD, dtype=jnp.int32)[None, :]
    bit = jnp.asarray(1 << np.arange(WORD, dtype=np.uint64), jnp.uint32)[None, :, None]

    def test(word):
        start, count = word
        rows = table[jnp.minimum(start[:, None] + lane, table.shape[0] - 1)]
        part = [rows[:, :, c, None] for c in range(2 * dim if bonds else dim)]
        q = [m - r for m, r in zip(middles, part[:dim], strict=True)]
        hit = reaches(jnp, q, part[dim:] if bonds else None, tiles.halves, tiles.radius)
        hit = hit & (lane < count[:, None])[:, :, None]
        return jnp.sum(jnp.where(hit, bit, jnp.uint32(0)), axis=1, dtype=jnp.uint32)

    words = item.shape[0]
    together = max(1, min(words, TESTS // (WORD * len(tiles.offsets))))
    rounds = -(-words // together)
    cut = [jnp.pad(a, (0, rounds * together - words)).reshape(rounds, together) for a in (item, lanes)]
    return lax.map(test, tuple(cut)).reshape(rounds * together, -1)[:words]


def _words(tiles: Tiling, key, table, bonds: bool, row: int):
    """The lists of all tiles: for words × offsets bits and first slot, each word's first item, each tile's last row.

    Slots are numbered tile by tile, offset by offset, word by word. A row is `row` slots, and of one tile.
    """
    items, boxes = key.shape[0], int(np.prod(tiles.boxes))
    start = jnp.searchsorted(key, jnp.arange(boxes + 1, dtype=jnp.int32)).astype(jnp.int32)
    last = jnp.cumsum((start[1:] - start[:-1] + WORD - 1) // WORD, dtype=jnp.int32)  # words up to this box
    begin = jnp.concatenate([jnp.zeros(1, jnp.int32), last])
    word = jnp.arange(items // WORD + min(items, boxes), dtype=jnp.int32)
    box = jnp.minimum(jnp.searchsorted(last, word, side="right").astype(jnp.int32), boxes - 1)
    item = start[box] + (word - begin[box]) * WORD
    lanes = jnp.where(word < last[-1], jnp.clip(start[box + 1] - item, 0, WORD), 0)
    bits = _hits(tiles, table, item, lanes, bonds)
    number = lax.population_count(bits).astype(jnp.int32)
    up_to = jnp.concatenate([jnp.zeros_like(number[:1]), jnp.cumsum(number, axis=0, dtype=jnp.int32)])
    of_box = up_to[begin[1:]] - up_to[begin[:-1]]
    source, offset = _shifted(tiles, False), jnp.arange(number.shape[1], dtype=jnp.int32)[None, :]
    taken = jnp.where(source >= 0, of_box[jnp.maximum(source, 0), offset], 0)  # (tiles, offsets)
    rows = (jnp.sum(taken, axis=1, dtype=jnp.int32) + row - 1) // row
    end = jnp.cumsum(rows, dtype=jnp.int32)
    base = (end - rows)[:, None] * row + jnp.cumsum(taken, axis=1, dtype=jnp.int32) - taken
    to = _shifted(tiles, True)[box]
    slot = base[jnp.maximum(to, 0), offset] + up_to[:-1] - up_to[begin[box]]
    return bits, jnp.where((to >= 0) & (number > 0), slot, MOST), item, end


def _slots(bits, slot, item, low, count: int, empty: int) -> tuple[Int[Array, " S"], Int[Array, " S"]]:
    """Item and offset of `count` slots from `low`: of the word that begins last up to a slot, the bit of its rank."""
    offsets, before = bits.shape[1], WORD - 1
    bits, slot = bits.reshape(-1), slot.reshape(-1)
    local = slot - (low - before)
    local = jnp.where((slot >= low - before) & (slot < low + count), local, count + before)
    which = jnp.full(count + before, -1, jnp.int32)
    which = which.at[local].set(jnp.arange(slot.shape[0], dtype=jnp.int32), mode="drop")
    where = jnp.arange(count + before, dtype=jnp.int32)
    begin = jnp.where(which >= 0, where, -1)
    for k in (1, 2, 4, 8, 16):
        begin = jnp.maximum(begin, jnp.pad(begin, (k, 0), constant_values=-1)[: count + before])
    begin, where = begin[before:], where[before:]
    word = jnp.maximum(which[jnp.maximum(begin, 0)], 0)
    mask, rank = bits[word], where - begin
    real = (begin >= 0) & (rank < lax.population_count(mask).astype(jnp.int32))
    bit = jnp.zeros_like(rank)
    for k in (16, 8, 4, 2, 1):  # halve the mask: is the bit of this rank in the upper part?
        lower = lax.population_count(mask & jnp.uint32((1 << k) - 1)).astype(jnp.int32)
        upper = rank >= lower
        rank, bit = jnp.where(upper, rank - lower, rank), jnp.where(upper, bit + k, bit)
        mask = jnp.where(upper, mask >> jnp.uint32(k), mask)
    return jnp.where(real, item[word // offsets] + bit, empty), word % offsets


def _sum(tiles: Tiling, key, table, bonds: bool, tensor: int) -> Float[Array, "tiles channels points"]:
    """The sums over what reaches each tile; of what is carried, the first `tensor` columns times the others."""
    dim, dtype, items = len(tiles.counts), table.dtype, key.shape[0]
    carried = table.shape[1] - (2 * dim if bonds else dim)
    channels = tensor * (carried - tensor) if tensor else carried
    count, inside, steps = int(np.prod(tiles.counts)), int(np.prod(tiles.points)), np.array(tiles.grid.steps)
    row = 2 ** int(np.clip(np.round(np.log2(items * tiles.slots / count / 4 + 1)), 4, 8))
    bits, slot, item, end = _words(tiles, *lax.stop_gradient((key, table)), bonds, row)
    most = items * len(tiles.offsets)
    capacity = most // row + min(count, most)  # no configuration has more rows
    together = max(int(items * tiles.slots) // (BLOCKS * row), min(capacity, LEAST // row))
    index = jnp.unravel_index(jnp.arange(count, dtype=jnp.int32), tuple(int(c) for c in tiles.counts))
    begin = jnp.zeros((count, dim), dtype)  # from the middle of the box to the first point
    for s, i, v in zip(tiles.shift, index, steps, strict=True):
        begin = begin + jnp.asarray(s, dtype)[i][:, None] * jnp.asarray(v, dtype)[None, :]
    lattice = np.stack(np.meshgrid(*map(np.arange, tiles.points), indexing="ij"), -1).reshape(-1, dim) @ steps
    points = [jnp.asarray(c, dtype)[None, :] for c in lattice.T]
    boxes = jnp.asarray(tiles.offsets @ tiles.edges, dtype)

    @jax.checkpoint
    def one(u, here):  # (D, row) from the items to the first point of the tile, and what they hold
        y = jnp.stack([a[:, None] + b for a, b in zip(u, points, strict=True)])  # points last: long vectors
        value = tiles.profile.bond(y, here[:dim, :, None]) if bonds else tiles.profile.density(y)
        load = here[dim:] if bonds else here
        if tensor:
            load = (load[:tensor, None, :] * load[None, tensor:, :]).reshape(channels, row)
        return jnp.matmul(load, value, precision=lax.Precision.HIGHEST)

    @jax.checkpoint  # around the branch, or the branch would keep the table of every block
    def block(low, table):
        def some():
            tile = jnp.searchsorted(end, low + jnp.arange(together, dtype=jnp.int32), side="right").astype(jnp.int32)
            which, offset = _slots(bits, slot, item, low * row, together * row, items)
            here = table[which].T.reshape(-1, together, row)
            u = boxes[offset].T.reshape(dim, together, row) - here[:dim]
            u = u + begin[jnp.minimum(tile, count - 1)].T[:, :, None]
            return tile, lax.map(lambda a: one(*a), (jnp.swapaxes(u, 0, 1), jnp.swapaxes(here[dim:], 0, 1)))

        def none():
            return jnp.full(together, count, jnp.int32), jnp.zeros((together, channels, inside), dtype)

        return lax.cond(low < end[-1], some, none)

    def add(total, k):
        tile, values = block(k * together, table)
        return total.at[tile].add(values, mode="drop"), None  # a row beyond the last is of no tile

    zero = jnp.zeros((count, channels, inside), dtype)
    return lax.scan(add, zero, jnp.arange(-(-capacity // together), dtype=jnp.int32))[0]


def _assemble(tiles: Tiling, sums) -> Float[Array, "Y channels"]:
    """The sums in the order of the grid."""
    dim, channels = len(tiles.counts), sums.shape[1]
    sums = sums.reshape(*(int(m) for m in tiles.counts), channels, *(int(m) for m in tiles.points))
    sums = jnp.transpose(sums, [a + (dim + 1) * b for a in range(dim) for b in range(2)] + [dim])
    sums = sums.reshape(*(int(a * b) for a, b in zip(tiles.counts, tiles.points, strict=True)), channels)
    for a, (first, many) in enumerate(zip(tiles.first, tiles.points, strict=True)):
        several = np.diff(first, append=tiles.grid.shape[a])
        index = np.concatenate([t * many + np.arange(m) for t, m in enumerate(several)])
        sums = sums if len(index) == sums.shape[a] else jnp.take(sums, jnp.asarray(index), axis=a)
    return sums.reshape(-1, channels)
