"""What the command `fit` does: fields of flows → equation of state and closure, the report and files that hold them."""

import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmd_iz import report, store
from jaxmd_iz.build.names import keys_of
from jaxmd_iz.checks import must
from jaxmd_iz.closures import AbstractClosure, LearnedClosure, NewtonFourier
from jaxmd_iz.config import FLOWS, Config, dumps
from jaxmd_iz.fit.constitutive import Comparison, Constitutive, compare, fit_constitutive, train
from jaxmd_iz.fit.flows import Flow, flow
from jaxmd_iz.fit.models import as_json
from jaxmd_iz.transport import in_units
from jaxmd_iz.units import Units
from jaxmd_iz.units import units as unit_system

_NAMES = ("viscosity", "bulk_viscosity", "conductivity")


def fit(settings: Config, out: Path | str, title: str = "jaxmd-iz fit") -> dict[str, Any]:
    """The fluid of some flows, checked on flows that the fit never saw, written to `out`.

    Args:
        settings: the configuration; its table [fit] names the files of fields.
        out: folder for `closure.json`, `equation_of_state.json`, `summary.json` and `report.html`.
        title: of the report.

    Returns:
        The summary, as in `summary.json`.

    Raises:
        InputError: no flows, files that hold no profile of one fluid, a folder that cannot be written.
    """
    begin, table, units = time.perf_counter(), settings.fit, unit_system(settings.units.system)
    must(len(table.train) > 0, "fit.train", "name at least one file of fields", "it is empty",
         'For example `--set fit.train=["shear/fields.nc", "heat/fields.nc"]`.')  # fmt: skip
    out = store.folder(out)
    read = {
        name: read_flow(name, float(units.to_internal(table.begin, "time"))) for name in (*table.train, *table.held_out)
    }
    used, unseen = ([read[name] for name in names] for names in (table.train, table.held_out))
    guess = [getattr(table, name) / in_units(1.0, _quantity(name), units)[0] for name in _NAMES]
    found = fit_constitutive(used, NewtonFourier(*guess), mass=_mass(used))
    closure, losses = found.closure, []
    if table.closure == "learned":
        closure, losses = train(used, found.eos, _learned(found, used), steps=table.steps)
    compared = [(f, compare(f, found.eos, closure)) for f in (*used, *unseen)]
    summary = _summary(found, closure, compared, len(used), losses, units)
    if losses:
        plain = [compare(f, found.eos, found.closure) for f in unseen]
        summary["held_out_error_newton_fourier"] = _mean_error(plain)
    summary["wall_s"] = time.perf_counter() - begin
    store.write_json(as_json(closure) | {"units": "internal"}, out / "closure.json")
    store.write_json(as_json(found.eos) | {"units": "internal"}, out / "equation_of_state.json")
    shown = [(_drawn(f, units), _as_seen(c.predicted, f, units), k < len(used)) for k, (f, c) in enumerate(compared)]
    report.write_fit(out / "report.html", summary, shown, losses, dumps(settings), title)
    store.write_json(summary, out / "summary.json")
    return summary


def read_flow(name: str, begin: float = 0.0) -> Flow:
    """A flow from a file of fields, or one that comes with the package.

    Args:
        name: path, or one of `config.FLOWS`.
        begin: frames before this time after the first one are left out, internal units.

    Raises:
        InputError: a file that holds no profile; fewer than two frames from `begin` on.
    """
    path = path_of(name)
    with keys_of("", path="fit.train", source="fit.train", units="fit.train"):
        return flow(store.read_fields(path), path.stem if path.stem != "fields" else path.parent.name, begin)


def path_of(name: str) -> Path:
    """The file of a flow that comes with the package, or the path as it is."""
    path = Path(name)
    inside = name in FLOWS and not path.is_file()
    return Path(str(files("jaxmd_iz") / "examples" / f"{name}.nc")) if inside else path


def _quantity(name: str) -> str:
    return "conductivity" if name == "conductivity" else "viscosity"


def _mass(flows: list[Flow]) -> float:
    """Of a particle, from ρ over the number density."""
    values = [float(jnp.mean(f.seen.state.rho) / jnp.mean(f.number_density)) for f in flows]
    same = max(values) - min(values) < 1e-6 * max(values)
    must(same, "fit.train", "be flows of one fluid", f"their particles have masses {values}")
    return values[0]


def _learned(found: Constitutive, flows: list[Flow]) -> LearnedClosure:
    """A network that begins at the Newton–Fourier coefficients, with typical values of the flows as units."""

    def slope(value):
        return max(float(np.max(np.abs(np.gradient(np.asarray(value(f)), axis=1))) / f.dx) for f in flows)

    rate = slope(lambda f: jnp.linalg.norm(f.seen.state.velocity, axis=-1))
    gradient = slope(lambda f: f.seen.temperature)
    eta, _, kappa = (float(jnp.asarray(getattr(found.closure, name))) for name in _NAMES)
    return LearnedClosure(
        key=jax.random.key(0),
        density=float(jnp.mean(flows[0].seen.state.rho)),
        temperature=float(jnp.mean(flows[0].seen.temperature)),
        rate=rate,
        gradient=gradient,
        viscosity=eta,
        conductivity=kappa,
    )


def _mean_error(compared: list[Comparison]) -> float | None:
    return float(np.sqrt(np.mean([c.error**2 for c in compared]))) if compared else None


def _summary(
    found: Constitutive, closure: AbstractClosure, compared, used: int, losses, units: Units
) -> dict[str, Any]:
    """The numbers of the fit in the units of the configuration."""
    error = np.sqrt(np.diag(np.asarray(found.covariance)))
    summary: dict[str, Any] = {"closure": type(closure).__name__, "units": units.name}
    for name, e in zip(_NAMES, error, strict=True):
        value, label = in_units(float(jnp.asarray(getattr(found.closure, name))), _quantity(name), units)
        summary |= {name: value, f"{name}_err": in_units(float(e), _quantity(name), units)[0], f"{name}_unit": label}
    flows = [f for f, _ in compared[:used]]
    rho = float(np.mean([jnp.mean(f.seen.state.rho) for f in flows]))
    t = float(np.mean([jnp.mean(f.seen.temperature) for f in flows]))
    summary |= {
        "density": float(units.from_internal(rho, "density")),
        "temperature": float(units.from_internal(t, "temperature")),
        "pressure": float(units.from_internal(float(found.eos.pressure(rho, t)), "stress")),
        "sound_speed": float(units.from_internal(float(found.eos.sound_speed(rho, t)), "velocity")),
        "heat_capacity_volume_per_particle": float(found.eos.heat_capacity_volume(rho, t)) * found.eos.ideal.mass,
        "chi2_per_number": found.chi2 / found.count,
        "numbers": found.count,
        "state_miss": found.state_miss,
        "flows": [
            {"name": f.name, "held_out": k >= used, "error": c.error, "noise": c.noise, "chi2_per_number": c.chi2}
            for k, (f, c) in enumerate(compared)
        ],
    }
    unseen = [c for _, c in compared[used:]]
    noise = float(np.sqrt(np.mean([c.noise**2 for c in unseen]))) if unseen else None
    summary |= {"held_out_error": _mean_error(unseen), "held_out_noise": noise}
    if losses:
        summary["training"] = {"steps": len(losses), "first": losses[0], "best": min(losses)}
    return summary


def _as_seen(state, f: Flow, units: Units) -> dict[str, np.ndarray]:
    """ρ, u and E of a state in the units of the configuration."""
    parts = {"rho": (state.rho, "density"), "u": (state.velocity, "velocity"), "E": (state.energy, "energy_density")}
    return {name: np.asarray(units.from_internal(np.asarray(value), q)) for name, (value, q) in parts.items()}


def _drawn(f: Flow, units: Units) -> dict[str, Any]:
    """A flow for the report: times, places, fields with errors, labels."""
    error = f.error(lambda seen: {"rho": seen.state.rho, "u": seen.state.velocity, "E": seen.state.energy})
    quantities = {"rho": "density", "u": "velocity", "E": "energy_density"}
    dim = f.seen.state.momentum.shape[-1]
    return {
        "name": f.name,
        "time": np.asarray(units.from_internal(np.asarray(f.time), "time")),
        "s": np.asarray(units.from_internal((np.arange(f.seen.state.rho.shape[1]) + 0.5) * float(f.dx), "length")),
        "seen": _as_seen(f.seen.state, f, units),
        "error": {k: np.asarray(units.from_internal(np.asarray(v), quantities[k])) for k, v in error.items()},
        "units": {k: units.label(q, dim) for k, q in (quantities | {"time": "time", "s": "length"}).items()},
    }
