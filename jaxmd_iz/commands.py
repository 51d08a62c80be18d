"""What the commands `run`, `demo` and `measure` do: config → simulation or snapshots → files in an output folder."""

import json
import time
import tomllib
from contextlib import suppress
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxmd_iz import build, config, report, store, summary, vtk
from jaxmd_iz.apart import must_be_apart
from jaxmd_iz.build import macroscopic
from jaxmd_iz.build.names import keys_of
from jaxmd_iz.checkpoint import Checkpoints, interrupted
from jaxmd_iz.checks import InputError, must
from jaxmd_iz.digests import digest_of_file
from jaxmd_iz.distributed import from_first, is_first
from jaxmd_iz.gibbs import Canonical
from jaxmd_iz.initial import matched_density
from jaxmd_iz.interrupts import heard
from jaxmd_iz.local_gibbs import LocalGibbs
from jaxmd_iz.pieces import over_devices
from jaxmd_iz.sampled import R_HAT
from jaxmd_iz.simulation import Grid, simulate
from jaxmd_iz.snapshots import Snapshots, read_snapshots
from jaxmd_iz.system import System


def run(
    settings: config.Config,
    out: Path | str,
    title: str = "jaxmd-iz run",
    progress: bool = True,
    resume: bool = False,
    overwrite: bool = False,
    checkpoint_every: float = 60.0,
) -> dict:
    """Density → trajectories on every surface → fields at the asked times, written to `out`.

    Args:
        settings: the configuration.
        out: folder for `fields.nc`, `summary.json`, `report.html`, and for checkpoints until these are written.
        title: of the report.
        progress: show a progress bar.
        resume: go on from the newest checkpoint in `out`.
        overwrite: start anew although there is one.
        checkpoint_every: seconds between two checkpoints.

    Returns:
        The summary, as in `summary.json`; with `resume`, that of a run of these settings that has finished there.

    Raises:
        InputError: a configuration that does not hold together, a folder that cannot be written, a checkpoint that is
            there or not against what was asked, or of another configuration.
        Stopped: by SIGINT or SIGTERM, with a checkpoint written.
        Broken: with `watch.action = "stop"`, if something goes wrong on the way.
    """
    out = store.folder(out)
    with heard() as asked:
        checkpoints = Checkpoints(out, checkpoint_every, resume, overwrite, asked)
        if resume and (before := finished(settings, out)):
            return before
        with over_devices(pieces=settings.density.pieces):
            checkpoints.open(about(settings))
            summary = _run(settings, out, title, progress, checkpoints)
    checkpoints.clear()
    return summary


def about(settings: config.Config) -> dict[str, str]:
    """All that the numbers of a run depend on: each key that is set, and what is in the files that keys name."""
    found: dict[str, str] = {}

    def visit(value, name):
        if isinstance(value, dict):
            for key, inner in value.items():
                visit(inner, f"{name}.{key}" if name else key)
        elif isinstance(value, str) and (path := Path(value)).is_absolute() and path.is_file():
            found[name] = path.name  # folders may move
            found[f"content of {name}"] = digest_of_file(path)
        else:
            found[name] = str(value)

    visit(tomllib.loads(config.dumps(settings)), "")
    return found


def finished(settings: config.Config, out: Path) -> dict | None:
    """The summary of a run of these settings that has finished in `out` and left no checkpoint; None without one."""
    summary, fields = out / "summary.json", out / "fields.nc"
    text = ""
    if is_first() and summary.is_file() and fields.is_file() and not interrupted(out):
        with suppress(InputError, OSError, ValueError):
            if store.read_fields(fields).attrs.get("config") == config.dumps(settings):
                text = json.dumps(json.loads(summary.read_text(encoding="utf-8")) | {"finished_before": True})
    return json.loads(from_first(text.encode()) or b"null")


def _run(settings: config.Config, out: Path, title: str, progress: bool, checkpoints: Checkpoints) -> dict:
    """`run` with open checkpoints."""
    begin = time.perf_counter()
    unit = build.units_of(settings)
    snapshots = build.snapshots_of(settings)
    space = build.space_of(settings, snapshots)
    start = build.start_of(settings, snapshots)
    system = build.system_of(settings, space, start.species, start.masses, start.names)
    _must_be_in_space(settings, system)
    grids = build.grids_of(settings, space)
    points = start.x[None] if snapshots is None or settings.density.kind != "given" else snapshots.x
    named = "density.positions" if settings.density.positions else "density.start"
    must_be_apart(system.potential, space, points, named)
    dtype = settings.output.dtype
    p = None
    x = jnp.asarray(start.x, dtype)
    if settings.density.kind == "given":
        assert snapshots is not None
        x, p = jnp.asarray(snapshots.x, dtype), jnp.asarray(snapshots.v * start.masses[None, :, None], dtype)
    dynamics = settings.dynamics
    skin = None if dynamics.skin is None else float(unit.to_internal(dynamics.skin, "length"))
    steps = dynamics.steps
    density, begun = build.density_of(settings), ()
    extra: dict = {}
    if settings.density.kind == "local":
        density, x, grid, extra, begun = _local(settings, system, space, x, unit, progress, checkpoints)
        grids.append(grid)
    result = simulate(
        system,
        density,
        grids,
        x,
        p=p,
        key=jax.random.key(settings.density.seed),
        sampling=build.sampling_of(settings),
        integrator=build.integrator_of(settings) if steps else None,
        steps=steps,
        every=dynamics.interval(),
        average=dynamics.average,
        neighbours=dynamics.neighbours,
        skin=skin,
        residual_points=settings.output.residual_points,
        keep=settings.output.keep,
        poor=settings.density.poor,
        watch=build.watch_of(settings),
        progress=progress,
        checkpoints=checkpoints,
    )
    extra["warnings"] = [*begun, *result.warnings]
    return _write(out, settings, system, grids, result, unit, start.names, title, begin, extra)


def _local(settings, system, space, x, unit, progress, checkpoints):
    """The local Gibbs density that has the fields of [macroscopic], samples of it, its points as a grid, a summary.

    It is matched once: the checkpoints carry it from then on.
    """
    cells, line = macroscopic.cells_of(settings, space)
    grid = Grid(cells.y, cells.mollifier, "macroscopic", line.axis)
    temperature = build.density_of(settings).temperature
    if known := checkpoints.get("matched"):
        density = LocalGibbs(cells, known["theta"], 1 / jnp.asarray(temperature, x.dtype))
        return density, known["x"], grid, known["extra"], known["warnings"]
    data = macroscopic.data_of(settings, cells, line, np.asarray(system.masses))
    table, sampling = settings.macroscopic, build.sampling_of(settings)
    begin = time.perf_counter()
    initial = matched_density(
        system,
        cells,
        data,
        x,
        temperature=temperature,
        key=jax.random.fold_in(jax.random.key(settings.density.seed), 1),
        sampling=macroscopic.sampling_of(table, sampling),
        neighbours=settings.dynamics.neighbours,
        rounds=table.iterations,
        progress=progress,
        pulse=checkpoints.pulse,
    )
    extra = {"matching": summary.matching(initial, line.s, unit) | {"wall_s": time.perf_counter() - begin}}
    which = np.arange(sampling.samples) * initial.x.shape[0] // sampling.samples  # copies of a chain side by side
    found = initial.matched
    excess = f"χ² is {found.chi2:.3g} for {found.dof:.3g} directions after {found.rounds} rounds"
    remedy = "Raise `macroscopic.iterations`, `macroscopic.burn_in` or `macroscopic.chains`."
    warnings = []
    if not found.converged:
        where = summary.furthest(found, data, line.s, unit)
        warnings.append(f"The matching of the macroscopic data has not converged: {excess}; {where}. {remedy}")
    if initial.r_hat is not None and not initial.r_hat < R_HAT:
        late = f"R̂ of Φ is {initial.r_hat:.3f}, above {R_HAT}"
        warnings.append(f"The chains of the matching have not relaxed: {late}. Raise `macroscopic.burn_in`.")
    x = initial.x[which]
    known = {"theta": found.theta, "x": x, "extra": extra, "warnings": warnings}
    checkpoints.put("matched", known, "after the matching", stays=True)
    return initial.density, x, grid, extra, warnings


def measure(
    settings: config.Config,
    trajectory: Path | str,
    out: Path | str,
    configurational: bool = False,
    title: str = "jaxmd-iz measure",
    frames: slice | None = None,
) -> dict:
    """The fields of given snapshots, averaged over them, written to `out`.

    Args:
        settings: tables `density.temperature` (weights of the states), `potential`, `grid` and others.
        trajectory: extended XYZ, LAMMPS dump or anything ASE reads, with velocities or momenta.
        out: folder for the results.
        configurational: accept a file without velocities and leave every kinetic part at zero.
        title: of the report.
        frames: which frames; all by default.

    Returns:
        The summary, as in `summary.json`.

    Raises:
        InputError: a file that cannot be read, velocities that are missing, a configuration that does not fit.
    """
    begin = time.perf_counter()
    out = store.folder(out)
    unit = build.units_of(settings)
    with keys_of("", path="trajectory", file_units="units.files", dimensions="space.dimensions"):
        snapshots = read_snapshots(
            trajectory,
            unit,
            settings.units.files,
            settings.species or None,
            configurational,
            frames,
            settings.space.dimensions,
        )
    space = build.space_of(settings, snapshots)
    start = build.start_of(settings, snapshots)
    system = build.system_of(settings, space, start.species, start.masses, start.names)
    _must_be_in_space(settings, system)
    if system.states > 1:
        must(
            settings.density.temperature is not None,
            "density.temperature",
            "be given to weight the surfaces of several states",
            "it is missing",
        )
    grids = build.grids_of(settings, space)
    must_be_apart(system.potential, space, snapshots.x, "trajectory")
    x, p = _phase(snapshots, start.masses, settings.output.dtype)
    given = settings.density.temperature
    density = build.density_of(settings) if given is not None else Canonical(1.0)  # one state: weight 1
    result = simulate(
        system,
        density,
        grids,
        x,
        p=p,
        key=jax.random.key(settings.density.seed),
        neighbours=settings.dynamics.neighbours,
        residual_points=settings.output.residual_points,
        watch=build.watch_of(settings),
    )
    extra: dict = {"frames_read": len(snapshots.x), "configurational": snapshots.configurational}
    return _write(out, settings, system, grids, result, unit, start.names, title, begin, extra)


def _must_be_in_space(settings: config.Config, system: System) -> None:
    """Normal modes have no fields."""
    but = f"`{settings.potential.model}` is a model of normal modes"
    remedy = "Its levels, weights and forces can be had from Python."
    in_space = getattr(system.potential, "y_space", True)
    must(in_space, "potential.model", "have positions in space to have fields", but, remedy)


def _phase(snapshots: Snapshots, masses: np.ndarray, dtype: str):
    return jnp.asarray(snapshots.x, dtype), jnp.asarray(snapshots.v * masses[None, :, None], dtype)


def _write(out, settings, system, grids, result, unit, names, title, begin, extra=None) -> dict:
    text = config.dumps(settings)
    first = is_first()  # of several processes, all of which know everything
    numbers = summary.summarise(settings, system, grids, result, unit, names) | (extra or {})
    datasets = {}
    for grid in grids:
        datasets[grid.name] = result.to_xarray(
            grid.name,
            unit,
            names,
            config=text,
            seed=settings.density.seed,
            grid_shape=None if grid.shape is None else list(grid.shape),
            mollifier=settings.mollifier.kind,
            epsilon=settings.mollifier.epsilon,
        )
        if grid.name == "fields" and result.positions is not None:
            kept = unit.from_internal(np.asarray(result.positions), "length")
            attributes = {"units": unit.label("length"), "long_name": "positions of every walker, kept as asked"}
            datasets[grid.name]["positions"] = (("frame", "walker", "particle", "i"), kept, attributes)
        name = "fields.nc" if grid.name == "fields" else f"fields_{grid.name}.nc"
        if first:
            store.write_netcdf(datasets[grid.name], out / name)
            if settings.output.vtk:
                vtk.write_vtk(datasets[grid.name], out / name.removesuffix(".nc"))
    numbers["wall_s"] = time.perf_counter() - begin
    if not first:
        return numbers
    store.write_json(numbers, out / "summary.json")
    report.write_report(out / "report.html", datasets, numbers | {"config": text}, title)
    return numbers
