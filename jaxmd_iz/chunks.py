"""The host's side of a run: chunks of steps with progress between them, neighbour lists built where walkers are."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmd_iz.checks import fail, one_of
from jaxmd_iz.neighbours import Neighbours, neighbour_list
from jaxmd_iz.pair_forces import is_fast
from jaxmd_iz.system import System

CHUNK = 100  # steps between two looks at the host


def lists_for(
    system: System, x: Float[Array, "B n D"], cutoff: float, skin: float, capacity: int
) -> tuple[Neighbours, int]:
    """Neighbour lists of many configurations, along a leading axis, and the capacity they needed.

    A capacity that is too small grows, each time, until every list fits; 0 asks for one with some room to spare.
    """
    whole = not is_fast(system.potential)
    if capacity == 0:
        most = neighbour_list(system.space, x, cutoff, skin, whole=whole).slots.shape[-2]
        capacity = min(math.ceil(1.2 * most) + 2, max(x.shape[-2] - 1, 1))
    built = neighbour_list(system.space, x, cutoff, skin, capacity, whole)
    if bool(jnp.any(built.overflow)):
        return lists_for(system, x, cutoff, skin, grown(capacity))
    return built, capacity


def grown(capacity: int) -> int:
    """The next capacity to try."""
    return math.ceil(1.2 * capacity) + 1


def wants_list(system: System, particles: int, choice: str) -> bool:
    """Whether a neighbour list pays: never for several states, whose energy currents join all pairs."""
    one_of(choice, "neighbours", ("auto", "dense", "list"))
    if choice != "auto" or not math.isfinite(system.potential.cutoff):
        return choice == "list"
    triangles = getattr(system.potential, "triangles", False)
    return system.states == 1 and (particles > 400 or (triangles and particles > 24))


class ListKeeper:
    """Builds neighbour lists where the walkers are, and redoes a chunk of steps that its lists did not cover.

    Args:
        system: gives space and cutoff.
        use: whether lists are used at all.
        skin: extra range, length.
    """

    def __init__(self, system: System, use: bool, skin: float):
        self.system, self.use, self.skin, self.capacity = system, use, skin, 0
        self.last: Neighbours | None = None  # where a run of steps that keeps its lists has left them

    def build(self, x: Float[Array, "B n D"]) -> Neighbours | None:
        """Lists of every configuration, or None if none are used."""
        if not self.use:
            return None
        # the capacity is kept, so that a rebuilt list has the shape of the last one and nothing compiles again
        lists, self.capacity = lists_for(self.system, x, self.system.potential.cutoff, self.skin, self.capacity)
        return lists

    def advance(
        self,
        step: Callable,
        state: Any,
        where: Callable,
        total: int,
        progress: Callable,
        keep: Callable[[Any, int, int], None] | None = None,
        begun: tuple[int, int] = (0, 0),
    ) -> Any:
        """`total` steps of step(state, first, count, lists) → (state, told) in chunks, some of them redone.

        Steps that rebuild their lists on the way tell them as they are now; a chunk whose lists overflowed is redone
        with a larger capacity. Others tell whether the lists went stale; then it is redone in shorter chunks.

        Args:
            step: see above.
            state: where it begins.
            where: state ↦ positions.
            total: number of steps.
            progress: takes the number of steps of each chunk.
            keep: takes the state, the steps done and the length of a chunk, from which the rest follows.
            begun: steps done and the length of a chunk, as `keep` was told with this state.
        """
        done, chunk = begun[0], begun[1] or CHUNK
        lists = None
        if done < total:  # within a run of steps the last lists go on, whatever `state` does to them next
            lists = self._first(where(state)) if done == 0 or self.last is None else self.last
        while done < total:
            count = min(chunk, total - done)
            after, told = step(state, jnp.asarray(done), count, lists)
            if isinstance(told, Neighbours):
                if bool(jnp.any(told.overflow)):
                    self.capacity = grown(told.slots.shape[-2])
                    assert lists is not None
                    lists = self.build(lists.x)  # not anew where the state is: the same rebuilds follow
                    continue
                lists = self.last = told
            elif bool(told):  # discarded, and redone with a fresh list and a shorter chunk
                if chunk == 1:
                    fail("skin", "cover one step", f"particles move more than {self.skin / 2:g} in one step")
                chunk = max(1, chunk // 4)
                lists = self.build(where(state))
                continue
            elif lists is not None:
                lists = self.build(where(after))
            state, done = after, done + count
            progress(count)
            if keep is not None:
                keep(state, done, chunk)
        return state

    def _first(self, x):
        """The lists that the last steps left, if they hold here: results must not depend on where a run was cut."""
        if self.last is None or self.last.x.shape != x.shape or self.last.slots.shape[-2] != self.capacity:
            return self.build(x)
        return self.build(x) if bool(jnp.any(_moved(self.system.space, self.last, x))) else self.last


@eqx.filter_jit
def _moved(space, lists, x):
    return jax.vmap(lambda nl, a: nl.moved(space, a))(lists, x)


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
