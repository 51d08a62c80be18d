"""Modules from the configuration: space, potential, system, grids, start, density, integrator, in internal units."""

import jax.numpy as jnp
import numpy as np

from jaxmd_iz.build.grids import grids_of
from jaxmd_iz.build.names import keys_of
from jaxmd_iz.build.potentials import electrons_of, external_of, potential_of
from jaxmd_iz.build.start import Start, snapshots_of, space_of, start_of, units_of
from jaxmd_iz.checks import must
from jaxmd_iz.config import SEVERAL, Config
from jaxmd_iz.gibbs import Canonical
from jaxmd_iz.integrators import AbstractIntegrator, Baoab, ForestRuth, VelocityVerlet
from jaxmd_iz.nonlinear import Iterated
from jaxmd_iz.potentials import DiagonalPartition
from jaxmd_iz.sampling import Sampling
from jaxmd_iz.simulation import Grid
from jaxmd_iz.space import AbstractSpace
from jaxmd_iz.system import System
from jaxmd_iz.watch import Watch

__all__ = [
    "Grid",
    "Start",
    "density_of",
    "external_of",
    "grids_of",
    "integrator_of",
    "potential_of",
    "sampling_of",
    "snapshots_of",
    "space_of",
    "start_of",
    "system_of",
    "units_of",
]


def system_of(
    config: Config, space: AbstractSpace, species: np.ndarray, masses: np.ndarray, names: tuple[str, ...] | None = None
) -> System:
    """The physical system.

    Args:
        config: tables `potential`, `surfaces`, `split`, `output`.
        space: of `space_of`.
        species: (n,) species numbers.
        masses: (n,) masses, internal units.
        names: names of the species; by default those of the table `species`.

    Returns:
        System with masses in the precision of the output.

    Raises:
        InputError: a potential, correction, split or cell that do not go together.
    """
    names = names or tuple(config.species) or ("X",)
    if config.potential.kind == "electrons":
        potential = electrons_of(config, names, np.asarray(species))
    else:
        potential = potential_of(config, names, len(species))
    dtype = config.output.dtype
    correction, iterations = config.surfaces.correction, config.surfaces.iterations
    if config.surfaces.partition == "diagonal":
        potential = DiagonalPartition(potential)
    if iterations > 1 and correction != "none" and potential.states > 1:
        with keys_of("surfaces"):
            potential, correction = Iterated(potential, jnp.asarray(masses, dtype), correction, iterations), "none"
    if config.dynamics.neighbours == "list":
        but = "the potential reaches to infinity"
        must(np.isfinite(potential.cutoff), "dynamics.neighbours", "be `auto` or `dense`", but)
    with keys_of("", split="split.kind", correction="surfaces.correction", masses="species"):
        return System(
            potential,
            space,
            np.asarray(masses, dtype),
            np.asarray(species),
            external_of(config),
            correction,
            config.split.kind,
            len(names),
        )


def density_of(config: Config) -> Canonical:
    """The canonical density, in internal units.

    For `density.kind = "given"` it serves for the weights of the states alone.

    Raises:
        InputError: no temperature.
    """
    return Canonical(_temperature(config))


def sampling_of(config: Config) -> Sampling:
    """How positions are sampled, in internal units."""
    table, unit = config.density, units_of(config)
    step = _step(config) if table.step is None else table.step
    with keys_of("density"):
        return Sampling(
            samples=table.samples,
            burn_in=table.burn_in,
            sampler=table.sampler,
            leapfrog=table.leapfrog,
            step=unit.to_internal(step, "time"),
            friction=unit.to_internal(table.friction, "rate"),
            states=table.states,
            mass=table.mass,
            rungs=table.rungs,
            hottest=table.hottest,
        )


def _temperature(config: Config) -> float:
    """k_B T; of one state that is given, where it has no effect, 1."""
    temperature, several = config.density.temperature, config.potential.kind in SEVERAL
    if temperature is None and config.density.kind == "given" and not several:
        return 1.0
    must(temperature is not None, "density.temperature", "be given", "it is missing")
    return units_of(config).to_internal(temperature, "temperature")


def _step(config: Config) -> float:
    """The time step in the configuration's units: what LAMMPS takes, and about 0.25 fs."""
    given = config.dynamics.step
    return {"lj": 0.005, "metal": 0.001, "atomic": 10.0}[config.units.system] if given is None else given


def watch_of(config: Config) -> Watch:
    """What to look for on the way, in internal units, told in those of the configuration."""
    table, unit = config.watch, units_of(config)
    told = {name: (float(unit.to_internal(1.0, name)), unit.label(name)) for name in ("time", "length")}
    with keys_of("watch"):
        distance = None if table.distance is None else table.distance * told["length"][0]
        return Watch(table.action, table.energy_drift, distance, told["time"], told["length"])


def integrator_of(config: Config) -> AbstractIntegrator:
    """The integrator with its step, in internal units.

    Raises:
        InputError: Langevin dynamics without a temperature.
    """
    table, unit = config.dynamics, units_of(config)
    step = unit.to_internal(_step(config), "time")
    if table.integrator == "baoab":
        must(config.density.temperature is not None, "density.temperature", "be given for `baoab`", "it is missing")
        return Baoab(step, unit.to_internal(table.friction, "rate"), _temperature(config))
    return ForestRuth(step) if table.integrator == "forest_ruth" else VelocityVerlet(step)
