"""What the commands `run`, `demo` and `measure` do: config → simulation or snapshots → files in an output folder."""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxmd_iz import build, config, report, store
from jaxmd_iz.checks import InputError, must
from jaxmd_iz.gibbs import Canonical
from jaxmd_iz.mollifiers import Bump
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.simulation import Grid, Run, simulate
from jaxmd_iz.snapshots import Snapshots, read_snapshots
from jaxmd_iz.space import Periodic
from jaxmd_iz.system import System
from jaxmd_iz.units import Units
from jaxmd_iz.windows import Slab

LAWS = ("mass", "momentum", "energy")


def run(settings: config.Config, out: Path | str, title: str = "jaxmd-iz run", progress: bool = True) -> dict:
    """Density → trajectories on every surface → fields at the asked times, written to `out`.

    Args:
        settings: the configuration.
        out: folder for `fields.nc`, `summary.json`, `report.html`.
        title: of the report.
        progress: show a progress bar.

    Returns:
        The summary, as in `summary.json`.

    Raises:
        InputError: a configuration that does not hold together, a folder that cannot be written.
    """
    begin = time.perf_counter()
    out = _folder(out)
    unit = build.units_of(settings)
    snapshots = build.snapshots_of(settings)
    space = build.space_of(settings, snapshots)
    start = build.start_of(settings, snapshots)
    system = build.system_of(settings, space, start.species, start.masses, start.names)
    _must_be_in_space(settings, system)
    grids = build.grids_of(settings, space)
    dtype = settings.output.dtype
    p = None
    x = jnp.asarray(start.x, dtype)
    if settings.density.kind == "given":
        assert snapshots is not None
        x, p = jnp.asarray(snapshots.x, dtype), jnp.asarray(snapshots.v * start.masses[None, :, None], dtype)
    dynamics = settings.dynamics
    skin = None if dynamics.skin is None else float(unit.to_internal(dynamics.skin, "length"))
    steps = dynamics.steps
    result = simulate(
        system,
        build.density_of(settings),
        grids,
        x,
        p=p,
        key=jax.random.key(settings.density.seed),
        integrator=build.integrator_of(settings) if steps else None,
        steps=steps,
        every=dynamics.interval(),
        average=dynamics.average,
        neighbours=dynamics.neighbours,
        skin=skin,
        residual_points=settings.output.residual_points,
        keep=settings.output.keep,
        progress=progress,
    )
    return _write(out, settings, system, grids, result, unit, start.names, title, begin)


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
    out = _folder(out)
    unit = build.units_of(settings)
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
    )
    extra = {"frames_read": len(snapshots.x), "configurational": snapshots.configurational}
    return _write(out, settings, system, grids, result, unit, start.names, title, begin, extra)


def _must_be_in_space(settings: config.Config, system: System) -> None:
    """Normal modes have no fields."""
    but = f"`{settings.potential.model}` is a model of normal modes"
    remedy = "Its levels, weights and forces can be had from Python."
    in_space = getattr(system.potential, "y_space", True)
    must(in_space, "potential.model", "have positions in space to have fields", but, remedy)


def _phase(snapshots: Snapshots, masses: np.ndarray, dtype: str):
    return jnp.asarray(snapshots.x, dtype), jnp.asarray(snapshots.v * masses[None, :, None], dtype)


def _folder(out: Path | str) -> Path:
    """The output folder, made before anything is computed, so that a bad one costs no time."""
    path = Path(out)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".jaxmd_iz_probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"Argument `out` must be a folder that can be written, but {path}: {error.strerror}."
        ) from None
    return path


def residual_bound(grids: list[Grid], dtype: str) -> float:
    """What counts as zero: rounding in the precision, or the quadrature error of a bump."""
    if dtype == "float32":
        return 1e-3
    profiles = [g.mollifier.profile if isinstance(g.mollifier, Slab) else g.mollifier for g in grids]
    return 1e-6 if any(isinstance(m, Bump) for m in profiles) else 1e-10


def summarise(
    settings: config.Config, system: System, grids: list[Grid], result: Run, unit: Units, names: tuple[str, ...]
) -> dict:
    """The headline numbers in the units of the configuration, JSON-ready."""

    def out(value, quantity):
        return np.asarray(unit.from_internal(np.asarray(value, float), quantity))

    series = next(iter(result.series.values()))
    times = out(series.time, "time")
    residuals = np.asarray(result.residuals, float)
    worst = residuals.max(axis=0)
    # with `average = "time"` the frames are merged, but the laws are checked in each
    shown = times if len(times) == len(residuals) else np.arange(len(residuals), dtype=float)
    n, dim = system.masses.shape[0], system.space.dimensions
    dynamics = result.wall.get("dynamics_s", 0.0)
    data = {
        "q_star": np.asarray(result.q_star, float).tolist(),
        "q_star_err": [float(e) if np.isfinite(e) else None for e in result.q_star_err],
        "temperature": float(out(result.temperature, "temperature").mean()),
        "pressure": None if result.pressure is None else float(out(result.pressure, "stress").mean()),
        "potential_energy": float(out(result.potential, "energy").mean()),
        "populations": populations(system, result),
        "crossing": float(np.max(result.crossing)),
        **{f"{law}_residual": float(v) for law, v in zip(LAWS, worst, strict=True)},
        "residual_bound": residual_bound(grids, settings.output.dtype),
        "residuals": [
            {"time": float(t), **{law: float(v) for law, v in zip(LAWS, row, strict=True)}}
            for t, row in zip(shown, residuals, strict=True)
        ],
        "particles": n,
        "dimensions": dim,
        "samples": int(np.asarray(series.weight)[0].sum()),
        "frames": len(times),
        "atom_steps_per_s": result.atom_steps / dynamics if dynamics else None,
        "acceptance": result.acceptance,
        "wall": {k: float(v) for k, v in result.wall.items()},
        "units": unit.name,
        "device": str(jax.devices()[0]),
    }
    potential = system.potential
    if isinstance(potential, LennardJones) and potential.tail and isinstance(system.space, Periodic):
        counts = jnp.bincount(system.species, length=len(names)).astype(float)
        volume = system.space.volume
        data["pressure_tail"] = float(out(potential.tail_pressure(counts, volume), "stress"))
        data["energy_tail"] = float(out(potential.tail_energy(counts, volume), "energy"))
        data["pressure"] += data["pressure_tail"]
        data["potential_energy"] += data["energy_tail"]
    return data


def populations(system: System, result: Run) -> dict:
    """Populations of the electron states at each frame, adiabatic and diabatic, with standard errors, JSON-ready."""

    def table(value, error):
        error = np.where(np.isfinite(error), error, np.nan)
        return {
            "value": np.asarray(value, float).tolist(),
            "err": [[None if np.isnan(e) else float(e) for e in row] for row in error],
        }

    count = result.diabatic.shape[1]
    names = getattr(system.potential, "state_names", None) or [str(a) for a in range(count)]
    return {
        "adiabatic": table(result.adiabatic, result.adiabatic_err),
        "diabatic": table(result.diabatic, result.diabatic_err) | {"names": list(names)},
    }


def _write(out, settings, system, grids, result, unit, names, title, begin, extra=None) -> dict:
    text = config.dumps(settings)
    summary = summarise(settings, system, grids, result, unit, names) | (extra or {})
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
        store.write_netcdf(datasets[grid.name], out / name)
    summary["wall_s"] = time.perf_counter() - begin
    store.write_json(summary, out / "summary.json")
    report.write_report(out / "report.html", datasets, summary | {"config": text}, title)
    return summary
