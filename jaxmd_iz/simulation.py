"""From a density to conservation fields: sample, run every surface from every sample, observe, average, check."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxmd_iz import ensemble
from jaxmd_iz.apart import must_be_apart
from jaxmd_iz.checkpoint import Checkpoints, RunLog
from jaxmd_iz.checks import must, one_of
from jaxmd_iz.chunks import ListKeeper, progress_bar, wants_list
from jaxmd_iz.distributed import everywhere
from jaxmd_iz.frames import Course, Grid, follow
from jaxmd_iz.gibbs import AbstractDensity
from jaxmd_iz.integrators import AbstractIntegrator
from jaxmd_iz.moments import Moments, Totals
from jaxmd_iz.pieces import on_all_devices
from jaxmd_iz.potentials.base import FromFunction, must_be_hermitian
from jaxmd_iz.sampled import Sampled, sample
from jaxmd_iz.sampling import Sampling
from jaxmd_iz.space import Periodic
from jaxmd_iz.statistics import GROUPS, FieldSeries, fields_with_errors, group_of, jackknife
from jaxmd_iz.system import System
from jaxmd_iz.watch import Watch, told

_CLOSE = "Particles on top of each other do that."


class Run(eqx.Module):
    """What a simulation or a measurement gives, in internal units (energy, length, mass of the potential)."""

    series: dict[str, FieldSeries]
    q_star: Float[Array, " d"]
    q_star_err: Float[Array, " d"]
    temperature: Float[Array, " T"]  # k_B T from the kinetic energy
    pressure: Float[Array, " T"] | None  # periodic space, and a potential on bonds, which a strain of the cell moves
    potential: Float[Array, " T"]  # ⟨λ̄⟩
    adiabatic: Float[Array, "T d"]  # population of each surface
    diabatic: Float[Array, "T N"]  # population of each diabatic state, ⟨|⟨χ_a, Ψ_k⟩|²⟩
    adiabatic_err: Float[Array, "T d"]
    diabatic_err: Float[Array, "T N"]
    crossing: Float[Array, " T"]  # weight of the phase points whose surface touches another one
    residuals: Float[Array, "frames 3"]  # mass, momentum, energy: largest over grids and states of one sample
    sampling: dict[str, Any] = eqx.field(static=True)  # acceptance, R̂, effective samples of the weights; JSON-ready
    warnings: tuple[str, ...] = eqx.field(static=True, default=())
    events: tuple[dict[str, Any], ...] = eqx.field(static=True, default=())  # what went wrong on the way: `watch.look`
    atom_steps: int = eqx.field(static=True, default=0)
    wall: dict[str, float] = eqx.field(static=True, default_factory=dict)
    positions: Float[Array, "frames B n D"] | None = None

    def to_xarray(self, name: str = "fields", units="lj", species: tuple[str, ...] | None = None, **attributes):
        """The fields of one grid as an xarray.Dataset with units and equation numbers as attributes.

        Args:
            name: of the grid.
            units: unit system to convert to, by name.
            species: names of the species.
            attributes: further attributes of the dataset.

        Raises:
            InputError: no grid of that name.
        """
        must(name in self.series, "name", f"be one of {sorted(self.series)}", f"it is {name!r}")
        from jaxmd_iz.store import to_dataset

        return to_dataset(self.series[name], units, species, **attributes)


@on_all_devices
def simulate(
    system: System,
    density: AbstractDensity,
    grids: Sequence[Grid] | Grid,
    x: Float[Array, "*samples n D"],
    *,
    key: PRNGKeyArray,
    sampling: Sampling | None = None,
    integrator: AbstractIntegrator | None = None,
    steps: int = 0,
    every: int | None = None,
    p: Float[Array, "samples n D"] | None = None,
    average: str = "ensemble",
    neighbours: str = "auto",
    skin: float | None = None,
    residual_points: int = 16,
    keep: Sequence[str] = (),
    poor: str = "flag",
    watch: Watch | None = None,
    progress: bool = False,
    checkpoints: Checkpoints | None = None,
) -> Run:
    """Conservation fields of a density, carried along every surface.

    Args:
        system: potential, space, masses, surface correction, split.
        density: what is sampled; its weights w_j are used even when `p` is given.
        grids: where to look, and with which mollifier.
        x: (n, D) starting configuration of every chain, or (samples, n, D). With `p`, the phase points themselves.
        key: PRNG key.
        sampling: how to sample; by default `Sampling()`. Not used with `p`.
        integrator: needed when steps > 0.
        steps: time steps after t = 0.
        every: steps between frames; by default one frame at t = 0 and one at the end, where there is always one.
        p: (samples, n, D) given momenta: then nothing is sampled.
        average: `ensemble` (fields at each frame) or `time` (one set of fields, averaged over frames too).
        neighbours: `auto`, `dense` or `list`.
        skin: of the list, length; by default 0.3 of the cutoff (an HMC proposal counts as one step).
        residual_points: points y of the balance check per frame and grid.
        keep: may hold "positions".
        poor: `flag` sampling that is poor in `Run.warnings`, or `stop` before the dynamics.
        watch: what to look for between chunks of steps, and whether to stop then; by default `Watch()`.
        progress: show a progress bar.
        checkpoints: where and how often to write what an interrupted run goes on from, bit for bit.

    Returns:
        Run.

    Raises:
        InputError: shapes that do not fit, a missing integrator, names that are not known; a checkpoint that cannot be
            read or written, or is one of other arguments.
        Stopped: `checkpoints` were asked to stop; one has been written.
        Broken: `watch` was to stop, and has seen something.
    """
    grids, watch = [grids] if isinstance(grids, Grid) else list(grids), watch or Watch()
    _check(system, grids, x, p, steps, every, integrator, average, keep, poor)
    n = system.masses.shape[0]
    every = max(steps, 1) if every is None else every
    skin = 0.3 * system.potential.cutoff if skin is None else skin
    must(skin > 0, "skin", "be positive", f"it is {skin}")
    must(residual_points >= 1, "residual_points", "be 1 or more", f"it is {residual_points}")
    asked = {"system": system, "density": density, "grids": grids, "x": x, "p": p, "key": key, "sampling": sampling}
    asked |= {"integrator": integrator, "steps": steps, "every": every, "average": average, "neighbours": neighbours}
    asked |= {"skin": skin, "residual_points": residual_points, "keep": list(keep), "poor": poor}

    def numbers(tree):  # plain numbers as arrays: another temperature or step compiles nothing
        return jax.tree.map(lambda a: jnp.asarray(a, x.dtype) if isinstance(a, float | int) else a, tree)

    density, integrator = numbers(density), numbers(integrator)
    using: Sampling = numbers(Sampling() if sampling is None else sampling)
    lists = ListKeeper(system, wants_list(system, n, neighbours), skin)
    burn_in = 0 if p is not None else using.burn_in
    bar = progress_bar(progress, burn_in + steps)
    log = RunLog(checkpoints, asked, lists)
    bar(log.passed)
    frames = sorted({*range(0, steps + 1, every), steps})

    keys = jax.random.split(key)

    def proposed(facts):
        log.write("sampling", facts, facts["done"], f"after {facts['done']} of {burn_in} proposals")

    def moved(course):
        at = frames[max(course.frame - 1, 0)] + course.done
        facts = {"course": course._asdict(), "sampled": sampled}
        facts |= {"quality": found.quality, "warnings": list(found.warnings)}
        log.write("steps", facts, burn_in + at, f"after {at} of {steps} steps")

    with closing(bar):
        saved = log.at("steps")
        if saved is not None:
            course = Course(**saved["course"])
            found, sampled = Sampled(course.walkers, saved["quality"], tuple(saved["warnings"])), saved["sampled"]
        elif p is None:
            found = sample(system, density, using, x, keys, lists, bar, proposed, log.at("sampling"))
            stop = poor == "stop" and found.warnings
            must(not stop, "sampling", "be good enough to go on", " ".join(w.rstrip(".") for w in found.warnings))
            course, sampled = Course(found.walkers), log.seconds()
        else:
            x, p = (x[None], p[None]) if x.ndim == 2 else (x, p)
            found = Sampled(ensemble.walkers_from_samples(system, density, x, p, keys[1], lists.build(x)), {}, ())
            lost = int(np.sum(~np.isfinite(np.asarray(everywhere(found.walkers.weight)))))
            must(lost == 0, "x", "be positions of finite energy", f"{lost} of them on a surface are not", _CLOSE)
            course, sampled = Course(found.walkers), log.seconds()
        course = follow(
            system,
            grids,
            course,
            lists,
            frames=frames,
            integrator=integrator,
            average=average,
            residual_points=residual_points,
            positions="positions" in keep,
            watch=watch,
            bar=bar,
            keep=moved,
        )
    samples = course.walkers.state.shape[0] // system.states
    walkers, sums = course.walkers, list(course.sums)
    times = jnp.asarray([f * _step_length(integrator) for f in frames], x.dtype)
    if average == "time":
        sums = [jax.tree.map(lambda *a: sum(a[1:], a[0]), *sums)]
        times = jnp.mean(times)[None]
    q_star, q_err = jackknife(
        lambda a: a, _weight_sums(walkers, group_of(samples), system.states), _counts(samples).astype(x.dtype)
    )
    atom_steps = steps * n * samples * system.states
    wall = {"sampling_s": sampled, "dynamics_s": course.seconds, "wall_s": log.seconds()}
    fixed = p is not None and system.external is None
    checked, chains = jnp.stack(course.residuals), samples if average == "time" else None
    log.close()
    events = () if course.seen is None else tuple(course.seen["events"])
    found = found._replace(warnings=(*found.warnings, *(told(watch, event) for event in events)))
    about = found, events, atom_steps, wall
    return _finish(system, grids, sums, times, q_star, q_err, checked, about, course.kept, fixed, chains)


def _check(system, grids, x, p, steps, every, integrator, average, keep, poor) -> None:
    """One sentence for each argument of `simulate` that does not fit."""
    one_of(average, "average", ("ensemble", "time"))
    one_of(poor, "poor", ("flag", "stop"))
    for name in keep:
        one_of(name, "keep", ("positions",))
    dim = system.space.dimensions
    must(len(grids) > 0, "grids", "hold at least one grid", "it is empty")
    names = [g.name for g in grids]
    must(len(set(names)) == len(names), "grids", "have different names", f"they are {names}")
    for grid in grids:
        shape = grid.y.shape
        must(shape[0] > 0, "grids", "have points", "y is empty")
        must(len(shape) == 2 and shape[1] == dim, "grids", f"have points of {dim} components", f"y has shape {shape}")
        where = grid.y if grid.regular is None else grid.regular.points(grid.y[0])
        as_it_says = where.shape == shape and jnp.allclose(where, grid.y, atol=1e-5 * float(jnp.max(jnp.abs(grid.y))))
        must(bool(as_it_says), "grids", "have the points y of their `regular` grid", "they are others")
        but = f"a mollifier has {grid.mollifier.dimensions}"
        must(grid.mollifier.dimensions == dim, "grids", f"have mollifiers of {dim} dimensions", but)
    no_space = "be left out for normal modes, which have no place in space: only energies and weights make sense"
    must(getattr(system.potential, "y_space", True), "grids", no_space, f"there are {len(grids)}")
    must(steps >= 0, "steps", "be 0 or more", f"it is {steps}")
    must(every is None or every >= 1, "every", "be 1 or more", f"it is {every}")
    must(steps == 0 or integrator is not None, "integrator", "be given when `steps` is positive", "it is None")
    shape = (system.masses.shape[0], dim)
    must(x.shape[-2:] == shape and x.ndim in (2, 3), "x", f"end in {shape}", f"its shape is {x.shape}")
    must(jnp.issubdtype(x.dtype, jnp.floating), "x", "hold floating-point numbers", f"it is of type {x.dtype}")
    must(bool(jnp.all(jnp.isfinite(x))), "x", "be finite", "it has NaN or infinite entries")
    must_be_apart(system.potential, system.space, np.asarray(x).reshape(-1, *shape), "x")
    must_be_hermitian(system.potential, x.reshape(-1, *shape)[0])
    if p is not None:
        must(p.shape == x.shape, "p", f"have the shape {x.shape} of `x`", f"it is {p.shape}")
        must(bool(jnp.all(jnp.isfinite(p))), "p", "be finite", "it has NaN or infinite entries")


def _step_length(integrator) -> float:
    return 0.0 if integrator is None else float(integrator.step)


def _counts(samples: int):
    return jnp.bincount(group_of(samples), length=GROUPS)


def _weight_sums(walkers, group, states):
    w = everywhere(walkers.weight).reshape(-1, states)
    return jnp.zeros((GROUPS, states), w.dtype).at[group].add(w)


def _stacked(trees):
    """Arrays with a leading axis, made on the host, where nothing has to be compiled."""
    return jax.tree.map(lambda *a: jnp.asarray(np.stack(a)), *trees)


def _finish(system, grids, sums, times, q_star, q_err, residuals, about, kept, fixed, chains) -> Run:
    found, events, atom_steps, wall = about
    mass = jnp.sum(system.masses)
    series = {}
    for number, grid in enumerate(grids):
        parts = [fields_with_errors(s.moments[number], s.totals.momentum, s.weight, mass, chains) for s in sums]
        value, error, w = (_stacked([part[i] for part in parts]) for i in range(3))
        raw: Moments = _stacked([s.moments[number] for s in sums])
        weight = _stacked([s.weight for s in sums])
        series[grid.name] = FieldSeries(times, grid.y, value, error, raw, weight, w, grid.axis)
    means: Totals = _stacked(
        [jax.tree.map(lambda t, s=s: jnp.sum(t, axis=0) / jnp.sum(s.weight), s.totals) for s in sums]
    )
    each = [jackknife(lambda a: a, (s.totals.adiabatic, s.totals.diabatic), s.weight, chains) for s in sums]
    populations, errors = _stacked(each)
    n, dim = system.masses.shape[0], system.space.dimensions
    # a given phase point keeps its total momentum: D(n − 1) degrees of freedom
    kinetic, freedom = (means.kinetic - means.drift, dim * (n - 1)) if fixed and n > 1 else (means.kinetic, dim * n)
    pressure = None
    if isinstance(system.space, Periodic) and not isinstance(system.potential, FromFunction):
        trace = 2 * means.kinetic - jnp.trace(means.virial, axis1=-2, axis2=-1)
        pressure = trace / (dim * system.space.volume)
    return Run(
        series=series,
        q_star=q_star,
        q_star_err=q_err,
        temperature=2 * kinetic / freedom,
        pressure=pressure,
        potential=means.potential,
        adiabatic=populations[0],
        diabatic=populations[1],
        adiabatic_err=errors[0],
        diabatic_err=errors[1],
        crossing=means.crossing,
        residuals=residuals,
        sampling=found.quality,
        warnings=found.warnings,
        events=events,
        atom_steps=atom_steps,
        wall=wall,
        positions=_stacked(kept) if kept else None,
    )
