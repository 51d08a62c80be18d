"""The host's side of a run: chunks of steps with progress between them, neighbour lists built where walkers are."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmd_iz.checks import fail, one_of
from jaxmd_iz.neighbours import Neighbours, neighbour_list
from jaxmd_iz.system import System

CHUNK = 100  # steps between two looks at the host


def lists_for(system: System, x, cutoff: float, skin: float, capacity: int = 0) -> Neighbours:
    """Neighbour lists of many configurations, (B, n, D), with one capacity, stacked along a leading axis."""
    built = [neighbour_list(system.space, np.asarray(a), cutoff, skin, capacity or None) for a in x]
    slots = max(max(b.to.shape[1] for b in built), capacity)
    if any(bool(b.overflow) for b in built) or len({(b.to.shape, b.half.shape) for b in built}) > 1:
        return lists_for(system, x, cutoff, skin, math.ceil(1.15 * slots) + 1)
    dtype = x.dtype
    return jax.tree.map(
        lambda *a: jnp.stack(a).astype(dtype) if jnp.issubdtype(a[0].dtype, jnp.floating) else jnp.stack(a), *built
    )


def wants_list(system: System, particles: int, choice: str) -> bool:
    """Whether a neighbour list pays: never for several states, whose energy currents join all pairs."""
    one_of(choice, "neighbours", ("auto", "dense", "list"))
    if choice != "auto" or not math.isfinite(system.potential.cutoff):
        return choice == "list"
    triangles = getattr(system.potential, "triangles", False)
    return system.states == 1 and (particles > 600 or (triangles and particles > 24))


class ListKeeper:
    """Builds neighbour lists where the walkers are, and redoes a chunk of steps that outruns the skin.

    Args:
        system: gives space and cutoff.
        use: whether lists are used at all.
        skin: extra range, length.
    """

    def __init__(self, system: System, use: bool, skin: float):
        self.system, self.use, self.skin = system, use, skin

    def build(self, x: Float[Array, "B n D"]) -> Neighbours | None:
        """Lists of every configuration, or None if none are used."""
        return lists_for(self.system, x, self.system.potential.cutoff, self.skin) if self.use else None

    def advance(self, step: Callable, state: Any, where: Callable, total: int, progress: Callable) -> Any:
        """`total` steps of step(state, first, count, lists) → (state, stale) in chunks; stale chunks are redone."""
        done, chunk = 0, CHUNK
        lists = self.build(where(state)) if total else None
        while done < total:
            count = min(chunk, total - done)
            after, stale = step(state, jnp.asarray(done), count, lists)
            if bool(stale):  # discarded, and redone with a fresh list and a shorter chunk
                if chunk == 1:
                    fail("skin", "cover one step", f"particles move more than {self.skin / 2:g} in one step")
                chunk = max(1, chunk // 4)
                lists = self.build(where(state))
                continue
            state, done = after, done + count
            if lists is not None:
                lists = self.build(where(state))
            progress(count)
        return state


def progress_bar(progress: bool, total: int) -> Any:
    """A function that takes the number of steps done, with a method `close`; silent unless `progress`."""
    if not progress:

        def quiet(count):
            return None

        quiet.close = lambda: None  # type: ignore[attr-defined]
        return quiet
    from tqdm import tqdm

    bar = tqdm(total=total, unit="step", leave=False)

    def advance(count):
        bar.update(count)

    advance.close = bar.close  # type: ignore[attr-defined]
    return advance
