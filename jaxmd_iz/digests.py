"""What a run depends on, by name: digests of arguments and files, and what differs between two runs in plain words."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

_DIGEST = "sha256 "
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def digests(values: Mapping[str, Any]) -> dict[str, str]:
    """Each value as text: plain ones as they are, of arrays a digest of their bytes, of the rest of what they print.

    Args:
        values: trees of arrays, numbers and text, by name.
    """
    return {name: _digest(value) for name, value in values.items()}


def digest_of_file(path: Path) -> str:
    """A digest of the content of a file, `unreadable` if there is none."""
    try:
        return _DIGEST + hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "unreadable"


def difference(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """What differs first between two runs, as in "`a.b` was 1 and is 2 now, and 3 more differ"; "" if nothing does.

    Args:
        old, new: values or digests by name.
    """
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if not names:
        return ""
    before, now = old.get(names[0], "not set"), new.get(names[0], "not set")
    same_kind = before.startswith(_DIGEST) and now.startswith(_DIGEST)
    said = "was another" if same_kind else f"was {before} and is {now} now"
    more = f", and {len(names) - 1} more differ" if len(names) > 1 else ""
    return f"`{names[0]}` {said}{more}"


def _digest(tree: Any) -> str:
    if tree is None or isinstance(tree, bool | int | float | str):
        return str(tree)
    leaves, structure = jax.tree.flatten(tree)
    total = hashlib.sha256(_ADDRESS.sub("", str(structure)).encode())
    for leaf in leaves:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if eqx.is_array_like(leaf):
            leaf = np.asarray(leaf)
            total.update(f"{leaf.dtype}{leaf.shape}".encode() + leaf.tobytes())
        else:
            total.update(_ADDRESS.sub("", repr(leaf)).encode())
    return _DIGEST + total.hexdigest()
