"""An ensemble in pieces: its leading axis is cut evenly, and one program takes piece after piece, on any device.

Each device is given the same program for pieces of the same shape by the host, and sums are added in the order of the
pieces: so the numbers depend on how many pieces there are, in their last bits, and not on the number of devices. (One
program for all devices, as of `shard_map`, is compiled differently for each number of them.) Every sample has its own
key. How it is cut is a context, which `each` and `summed` look up; without one they are the plain function.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxmd_iz.checks import must
from jaxmd_iz.compiled import seldom
from jaxmd_iz.distributed import everywhere


@dataclass
class _Cut:
    """The devices, and the number of pieces, which a run that goes on from a checkpoint takes from there."""

    sharding: NamedSharding  # of a leading axis over all devices
    pieces: int

    @property
    def devices(self) -> list:
        return self.sharding.mesh.devices.ravel().tolist()  # type: ignore[union-attr]

    @property
    def per_device(self) -> int:
        return -(-self.pieces // len(self.devices))


_CUT: contextvars.ContextVar[_Cut | None] = contextvars.ContextVar("cut", default=None)


def over_devices(devices: int | None = None, pieces: int | None = None) -> contextlib.AbstractContextManager[None]:
    """The context in which ensembles are spread over devices: those of all processes, or the first `devices` of them.

    Without an effect inside another such context.

    Args:
        devices: how many; all by default.
        pieces: into which an ensemble is cut; by default as many as devices. The result is the same bit for bit for the
            same number of pieces on any number of devices of one kind. Best a multiple of the number of devices, and
            the number of samples a multiple of it.

    Raises:
        InputError: more devices than there are, fewer pieces than 1.
    """
    there = jax.device_count()
    count = there if devices is None else devices
    must(1 <= count <= there, "devices", f"lie between 1 and {there}, the number of devices", f"it is {count}")
    must(pieces is None or pieces >= 1, "pieces", "be 1 or more", f"it is {pieces}")
    return _spread(count, count if pieces is None else pieces)


@contextlib.contextmanager
def _spread(count: int, pieces: int) -> Iterator[None]:
    if _CUT.get() is not None:
        yield
        return
    mesh = jax.make_mesh((count,), ("samples",), (AxisType.Auto,), devices=jax.devices()[:count])
    token = _CUT.set(_Cut(NamedSharding(mesh, PartitionSpec("samples")), pieces))
    try:
        yield
    finally:
        _CUT.reset(token)


def on_all_devices(function: Callable) -> Callable:
    """`function`, with ensembles spread over all devices unless the caller has chosen them by `over_devices`."""

    @functools.wraps(function)
    def spread(*arguments, **options):
        with over_devices():
            return function(*arguments, **options)

    return spread


def number() -> int:
    """Of pieces in this context; 1 without one."""
    cut = _CUT.get()
    return 1 if cut is None else cut.pieces


def go_on_with(pieces: int) -> None:
    """Cut into so many pieces from now on in this context, as a run was before it was interrupted.

    Args:
        pieces: what `number` has told it.
    """
    cut = _CUT.get()
    if cut is not None:
        cut.pieces = pieces


def each(function: Callable, *same: Any, once: bool = False) -> Callable:
    """A compiled `function` of arrays with one leading axis, run on one piece of it after another; so are its results.

    Inside another program it is the plain function: it should be the outermost.

    Args:
        function: of `same` and, behind them, of those arrays. It stays the same object in all calls, or is compiled
            again.
        same: trees that are the same for all members; what is no array in them is static.
        once: compile it sooner, at the price of speed.
    """
    program = _once if once else _often

    def call(*arguments):
        cut = _whole_or_cut(same, arguments)
        if cut is None:
            return program(function, same, arguments)
        size = _size(arguments)
        found, length = _run(cut, program, function, same, arguments)
        return jax.tree.map(lambda *blocks: _joined(cut, blocks, size, length), *found)

    return call


def summed(function: Callable, *same: Any) -> Callable:
    """A compiled `function` of arrays with one leading axis, run on one piece of it after another; results are added.

    A piece may end in repetitions of the last member: `function` gets an argument behind `same`, (B,) 1 or 0, to leave
    them out.

    Args:
        function, same: as in `each`.
    """

    def call(*arguments):
        cut, size = _whole_or_cut(same, arguments), _size(arguments)
        if cut is None:
            return _often(function, same, (jnp.ones(size, bool), *arguments))
        full = len(cut.devices) * cut.per_device * -(-size // cut.pieces)
        found, _ = _run(cut, _parts, function, same, (np.arange(full) < size, *arguments))
        return jax.tree.map(lambda *blocks: _added(cut, blocks), *found)

    return call


def _compiled(function, same, arguments):
    return function(*same, *arguments)


def _part(function, same, arguments):
    """As a row, to be joined with those of other pieces."""
    return jax.tree.map(lambda a: a[None], function(*same, *arguments))


_often, _once, _parts = eqx.filter_jit(_compiled), seldom(_compiled), eqx.filter_jit(_part)


def _whole_or_cut(same, arguments) -> _Cut | None:
    cut = _CUT.get()
    if cut is None or (cut.pieces == 1 and len(cut.devices) == 1):
        return None
    return None if any(isinstance(a, Tracer) for a in jax.tree.leaves((same, arguments))) else cut


def _size(arguments) -> int:
    return jax.tree.leaves(arguments)[0].shape[0]


def _run(cut: _Cut, program, function, same, arguments):
    """What each device of this process gives for its pieces, one behind the other, and the length of a piece."""
    size, per = min(a.shape[0] for a in jax.tree.leaves(arguments)), cut.per_device
    length = -(-size // cut.pieces)
    mine = [(k, d) for k, d in enumerate(cut.devices) if d.process_index == jax.process_index()]
    blocks = {d: jax.tree.map(lambda a, k=k, d=d: _block(cut, a, k, d, size, length), arguments) for k, d in mine}
    arrays, rest = eqx.partition(everywhere(same), eqx.is_array)
    shared = {d: eqx.combine(jax.device_put(arrays, d), rest) for _, d in mine}
    found: dict = {d: [] for _, d in mine}
    for i in range(per):
        for d in found:  # none waits for another
            here = blocks[d] if per == 1 else jax.tree.map(lambda a, i=i: _slice(a, i * length, length), blocks[d])
            found[d].append(program(function, shared[d], here))
    return [jax.tree.map(lambda *a: a[0] if per == 1 else jnp.concatenate(a), *found[d]) for d in found], length


def _block(cut: _Cut, a, k: int, device, size: int, length: int):
    """The members of the pieces of device k, on it; behind the last one it is repeated."""
    rows = cut.per_device * length
    if isinstance(a, jax.Array) and len(a.sharding.device_set) > 1:
        full = rows * len(cut.devices)
        if a.shape[0] == full and a.sharding.is_equivalent_to(cut.sharding, a.ndim):
            return next(s.data for s in a.addressable_shards if s.device == device)
        a = everywhere(a)
    first = k * rows
    if first + rows <= a.shape[0]:
        return jax.device_put(_slice(a, first, rows), device)
    return jax.device_put(a[np.minimum(np.arange(first, first + rows), size - 1)], device)


def _slice(a, first: int, rows: int):
    return lax.dynamic_slice_in_dim(a, first, rows) if isinstance(a, jax.Array) else a[first : first + rows]


def _joined(cut: _Cut, blocks, size: int, length: int):
    """One array over all devices, without repetitions."""
    full = len(cut.devices) * cut.per_device * length
    shape = (full, *blocks[0].shape[1:])
    found = jax.make_array_from_single_device_arrays(shape, cut.sharding, list(blocks))
    return found if full == size else everywhere(found)[:size]


def _added(cut: _Cut, blocks):
    """Σ over the pieces, in their order, whole in every process."""
    shape = (len(cut.devices) * cut.per_device, *blocks[0].shape[1:])
    rows = np.asarray(everywhere(jax.make_array_from_single_device_arrays(shape, cut.sharding, list(blocks))))
    return jnp.asarray(functools.reduce(np.add, rows[: cut.pieces]))
