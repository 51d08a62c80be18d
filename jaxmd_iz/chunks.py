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


def lists_for(
    system: System, x: Float[Array, "B n D"], cutoff: float, skin: float, capacity: int
) -> tuple[Neighbours, int]:
    """Neighbour lists of many configurations, stacked along a leading axis, and the capacity they needed.

    A capacity that is too small grows, each time, until every list fits; 0 asks for one with some room to spare.
    """
    positions = [np.asarray(a) for a in x]
    if capacity == 0:
        most = max(neighbour_list(system.space, a, cutoff, skin).to.shape[1] for a in positions)
        capacity = math.ceil(1.2 * most) + 2
    built = [neighbour_list(system.space, a, cutoff, skin, capacity) for a in positions]
    if any(bool(b.overflow) for b in built):
        return lists_for(system, x, cutoff, skin, math.ceil(1.2 * capacity) + 1)

    def stack(*arrays):
        joined = jnp.stack(arrays)
        return joined.astype(x.dtype) if jnp.issubdtype(joined.dtype, jnp.floating) else joined

    return jax.tree.map(stack, *built), capacity


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
        self.system, self.use, self.skin, self.capacity = system, use, skin, 0

    def build(self, x: Float[Array, "B n D"]) -> Neighbours | None:
        """Lists of every configuration, or None if none are used."""
        if not self.use:
            return None
        # the capacity is kept, so that a rebuilt list has the shape of the last one and nothing compiles again
        lists, self.capacity = lists_for(self.system, x, self.system.potential.cutoff, self.skin, self.capacity)
        return lists

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
