"""A run from frame to frame: steps on every surface, what is seen of all walkers, how well each law holds there."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmd_iz import ensemble
from jaxmd_iz.balance import worst_residual
from jaxmd_iz.chunks import ListKeeper
from jaxmd_iz.distributed import everywhere
from jaxmd_iz.ensemble import Walkers
from jaxmd_iz.integrators import AbstractIntegrator
from jaxmd_iz.mollifiers import AbstractMollifier
from jaxmd_iz.statistics import GROUPS, GroupSums, group_of
from jaxmd_iz.system import System
from jaxmd_iz.tiles import RegularGrid
from jaxmd_iz.watch import Watch, look

BATCH = 4  # walkers observed together


class Grid(eqx.Module):
    """Field points and the mollifier that looks at them; `axis` for a slab profile, `shape` for a grid of the cell.

    `regular` says that y is a regular grid, which may be a profile too: then time and memory are linear in points.
    """

    y: Float[Array, "Y D"]
    mollifier: AbstractMollifier
    name: str = eqx.field(static=True, default="fields")
    axis: int | None = eqx.field(static=True, default=None)
    shape: tuple[int, ...] | None = eqx.field(static=True, default=None)
    regular: RegularGrid | None = None


class Course(NamedTuple):
    """How far a run is: all that the rest follows from, beside its neighbour lists."""

    walkers: Walkers
    frame: int = 0  # the next one to be seen
    done: int = 0  # steps towards it
    sums: tuple[GroupSums, ...] = ()  # of each frame that was seen
    residuals: tuple[Float[Array, "3"], ...] = ()
    kept: tuple[Float[Array, "B n D"], ...] = ()  # positions
    seconds: float = 0.0  # spent on steps
    seen: dict[str, Any] | None = None  # of what goes wrong, as `watch.look` gives it


def follow(
    system: System,
    grids: Sequence[Grid],
    course: Course,
    lists: ListKeeper,
    *,
    frames: Sequence[int],
    integrator: AbstractIntegrator | None,
    average: str,
    residual_points: int,
    positions: bool,
    watch: Watch,
    bar: Callable[[int], Any],
    keep: Callable[[Course], None],
) -> Course:
    """The rest of a run.

    Args:
        system: potential, space, masses.
        grids: where to look.
        course: where it stands; at the start the walkers alone.
        lists: keeps neighbour lists.
        frames: numbers of the steps that are looked at, from 0 on.
        integrator: carries walkers along; not used where 0 is the only frame.
        average, residual_points: as in `simulate`.
        positions: whether to keep them.
        watch: what to look for between chunks of steps.
        bar: takes the number of steps done.
        keep: takes the course between two chunks of steps and after each frame.

    Returns:
        Course behind the last frame.
    """
    samples = course.walkers.state.shape[0] // system.states
    for f in range(course.frame, len(frames)):
        if f:
            course = _advance(system, course, lists, frames, integrator, watch, bar, keep)
        walkers = course.walkers
        group = group_of(samples) if average == "ensemble" else _time_group(samples, f, len(frames))
        nl = lists.build(walkers.phase.x)
        if not f:
            course = course._replace(seen=look(watch, system, None, walkers, nl, (0, 0), None))
        sums = _observe(system, grids, walkers, group[walkers.sample], nl)
        residual = _residual(system, grids, walkers, nl, residual_points, sums)
        kept = (everywhere(walkers.phase.x),) if positions else ()
        course = course._replace(
            frame=f + 1,
            done=0,
            sums=(*course.sums, sums),
            residuals=(*course.residuals, residual),
            kept=course.kept + kept,
        )
        keep(course)
    return course


def _advance(system, course, lists, frames, integrator, watch, bar, keep) -> Course:
    """The steps to the next frame."""
    start, offset = time.perf_counter(), frames[course.frame - 1]
    last = [course.seen, course.done]

    def step(state, first, count, nl):
        return ensemble.advance(system, integrator, state, first + offset, count, nl)

    def now(walkers, done):
        seconds = course.seconds + time.perf_counter() - start
        return course._replace(walkers=walkers, done=done, seconds=seconds, seen=last[0])

    def between(walkers, done, _):
        steps = offset + last[1], offset + done
        last[:] = look(watch, system, integrator, walkers, lists.last, steps, last[0]), done
        keep(now(walkers, done))

    total = frames[course.frame] - offset
    begun = course.done, 0
    walkers = lists.advance(step, course.walkers, lambda s: s.phase.x, total, bar, between, begun)
    jax.block_until_ready(walkers.phase.x)
    return now(walkers, total)


def _time_group(samples: int, frame: int, frames: int) -> Int[Array, " samples"]:
    """Contiguous blocks of (sample, time), whole chains as far as there are enough of them."""
    number = jnp.arange(samples) * frames + frame
    return number * GROUPS // (samples * frames) if samples * frames >= GROUPS else number


def _observe(system, grids, walkers, group, lists) -> GroupSums:
    sums = ensemble.group_sums(_Look(system, tuple(grids)), walkers, group, GROUPS, lists, BATCH)
    return GroupSums(*sums)


def _residual(system, grids, walkers, lists, points, sums: GroupSums):
    """The largest relative residual of each law over the grids and the states of the first sample."""
    w = jnp.sum(sums.totals.momentum, axis=0) / jnp.sum(sums.weight) / jnp.sum(system.masses)
    first = jax.tree.map(lambda a: a[: system.states], (walkers.phase.x, walkers.phase.p, walkers.state, lists))
    return worst_residual(system, [(g.y, g.mollifier) for g in grids], points, w, *everywhere(first))


class _Look(eqx.Module):
    """(x, p, state, list) → moments on every grid, totals and 1: one surface evaluation for all."""

    system: System
    grids: tuple[Grid, ...]

    def __call__(self, x, p, state, lists):
        def look(x, p, state, lists):
            seen = [(g.y, g.mollifier, g.regular) for g in self.grids]
            return self.system.observe(seen, x, p, state, lists)

        if any(g.regular is not None for g in self.grids):  # tiles are fast one system after the other
            look = jax.custom_batching.sequential_vmap(look)
        several, total = look(x, p, state, lists)
        return several, total, jnp.ones((), x.dtype)
