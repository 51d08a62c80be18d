"""Trees of arrays, numbers and a few classes of ours as one .npz file, which can be read without running anything.

The arrays lie in the file as they are; an entry of JSON text says how the tree is made of them. Reading makes arrays,
plain Python values and the classes listed here, and nothing else: neither pickle nor eval is involved.
"""

import io
import json
import struct
import zipfile
import zlib
from dataclasses import fields
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxmd_iz.ensemble import Walkers
from jaxmd_iz.integrators import Phase
from jaxmd_iz.local_gibbs import Natural
from jaxmd_iz.moments import Moments, Totals
from jaxmd_iz.neighbours import Neighbours
from jaxmd_iz.proposals import Point, Spread, Step
from jaxmd_iz.sampling import Chain
from jaxmd_iz.statistics import GroupSums
from jaxmd_iz.tempering import Ladder, Replica

CLASSES = {
    made.__name__: made
    for made in (
        *(Chain, GroupSums, Ladder, Moments, Natural, Neighbours, Phase, Point, Replica, Spread, Step, Totals),
        Walkers,
    )
}
_TEXT = "tree"  # the entry with the JSON text
#: What reading a file that is damaged, or no such file at all, may raise.
_DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError, RuntimeError, MemoryError),
    *(RecursionError, NotImplementedError, zipfile.BadZipFile, zlib.error, struct.error),
)


class Unreadable(Exception):
    """A file that is damaged, with the reason."""


def dump(tree: Any, stream: io.BufferedIOBase) -> None:
    """Writes a tree.

    Args:
        tree: dictionaries with names as keys, lists, tuples, the classes of `CLASSES`, arrays, PRNG keys, numbers,
            text, truth values and None.
        stream: a file open for writing.

    Raises:
        TypeError: anything else in the tree.
    """
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_packed(tree, arrays))
    np.savez(stream, allow_pickle=False, **{_TEXT: np.frombuffer(text.encode(), np.uint8)}, **arrays)


def load(data: bytes) -> Any:
    """The tree that `dump` wrote, with arrays of JAX.

    Args:
        data: what is in the file.

    Raises:
        Unreadable: if it is truncated, damaged or something else.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}  # every byte is checked by the sums in the file
        return _unpacked(json.loads(arrays[_TEXT].tobytes().decode()), arrays)
    except _DAMAGED as error:
        raise Unreadable((str(error).splitlines() or [type(error).__name__])[0].rstrip(".")) from None


def _packed(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """JSON of a tree, whose arrays are put into `arrays`."""

    def inside(items):
        return {name: _packed(value, arrays) for name, value in items}

    def array(value, **more):
        name = f"a{len(arrays)}"
        arrays[name] = np.asarray(value)
        return {"array": name, **more}

    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    if isinstance(tree, jax.Array) and jnp.issubdtype(tree.dtype, jax.dtypes.prng_key):
        return array(jax.random.key_data(tree), key=str(jax.random.key_impl(tree)))
    if isinstance(tree, jax.Array | np.ndarray | np.generic):
        return array(tree)
    if isinstance(tree, dict):
        return {"dict": inside(tree.items())}
    name = type(tree).__name__
    if CLASSES.get(name) is type(tree):
        return {"class": name, "fields": inside((field, getattr(tree, field)) for field in _fields(type(tree)))}
    if type(tree) in (list, tuple):
        return {name: [_packed(value, arrays) for value in tree]}
    raise TypeError(f"{name} cannot be packed")


def _unpacked(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The inverse of `_packed`."""
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        value = jnp.asarray(arrays[tree["array"]])
        return jax.random.wrap_key_data(value, impl=tree["key"]) if "key" in tree else value
    if "list" in tree or "tuple" in tree:
        made = list if "list" in tree else tuple
        return made(_unpacked(value, arrays) for value in tree[made.__name__])
    if "class" in tree:
        made = CLASSES[tree["class"]]
        return made(**{field: _unpacked(tree["fields"][field], arrays) for field in _fields(made)})
    return {name: _unpacked(value, arrays) for name, value in tree["dict"].items()}


def _fields(made: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(made)) if issubclass(made, eqx.Module) else made._fields  # type: ignore
