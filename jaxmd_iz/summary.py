"""The headline numbers of a run, as in `summary.json`: JSON-ready, in the units of the configuration."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmd_iz import config
from jaxmd_iz.initial import Initial
from jaxmd_iz.local_gibbs import physical
from jaxmd_iz.matching import Data, Matched
from jaxmd_iz.mollifiers import Bump
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.simulation import Grid, Run
from jaxmd_iz.space import Periodic
from jaxmd_iz.system import System
from jaxmd_iz.units import Units
from jaxmd_iz.windows import Slab

LAWS = ("mass", "momentum", "energy")


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
        "acceptance": result.sampling.get("acceptance"),
        "sampling": result.sampling,
        "warnings": list(result.warnings),
        "events": [dict(event) for event in result.events],
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


def matching(initial: Initial, s: np.ndarray, unit: Units) -> dict:
    """How the local Gibbs density came to its fields: T(y), u(y), μ(y) with the data and what samples have of them.

    `chi2` over `dof` is about 1 to 2 for a density that has the data within the Monte Carlo error of its samples.
    """
    found = initial.matched

    def out(value, quantity):
        return None if value is None else np.asarray(unit.from_internal(np.asarray(value), quantity)).tolist()

    temperature, u, mu = physical(found.theta)
    density, error = found.residual, found.error
    return {
        "converged": found.converged,
        "rounds": found.rounds,
        "iterations": found.iterations,
        "chi2": found.chi2,
        "dof": found.dof,
        "effective": found.effective,
        "r_hat": initial.r_hat,
        "s": out(s, "length"),
        "s_unit": unit.label("length"),
        "T_unit": unit.label("temperature"),
        "T": out(temperature, "temperature"),
        "u": out(u, "velocity"),
        "mu": out(mu - jnp.mean(mu), "energy"),  # per mass
        "rho_residual": out(density.rho, "density"),
        "rho_err": out(error.rho, "density"),
        "momentum_residual": out(density.momentum, "momentum_density"),
        "momentum_err": out(error.momentum, "momentum_density"),
        "energy_residual": out(density.energy, "energy_density"),
        "energy_err": out(error.energy, "energy_density"),
    }


def furthest(found: Matched, data: Data, s: np.ndarray, unit: Units) -> str:
    """Where the samples are furthest from what was asked, in errors: the first place to look for data out of reach.

    Args:
        found: how well the density has its fields.
        data: what was asked.
        s: (K,) where, internal units.
        unit: unit system of the sentence.

    Returns:
        Half a sentence.
    """
    names = {"rho": ("ρ", "density"), "momentum": ("ρu", "momentum_density"), "energy": ("E", "energy_density")}
    ratios = {}
    for name in names:
        residual, error = getattr(found.residual, name), getattr(found.error, name)
        if residual is not None:
            ratio = np.abs(np.asarray(residual)) / np.maximum(np.asarray(error), np.finfo(float).tiny)
            ratios[name] = np.max(ratio.reshape(len(s), -1), axis=1)
    name = max(ratios, key=lambda field: float(np.max(ratios[field])))
    k = int(np.argmax(ratios[name]))
    symbol, quantity = names[name]

    def shown(value):
        entry = np.asarray(unit.from_internal(np.asarray(value)[k], quantity))
        return f"{float(entry):.4g}" if entry.ndim == 0 else str(np.round(entry, 4))

    asked, place = np.asarray(getattr(data, name)), float(unit.from_internal(s[k], "length"))
    reached = asked + np.asarray(getattr(found.residual, name))
    return f"{symbol} at s = {place:.4g} is {shown(reached)} where {shown(asked)} is asked"
