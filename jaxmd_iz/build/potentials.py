"""Potentials and external potentials of a configuration, in internal units.

Energies and lengths are the unit system's own inside, so only parameter files of other units are converted.
"""

from pathlib import Path

import numpy as np

from jaxmd_iz import models, potentials
from jaxmd_iz.build.names import keys_of
from jaxmd_iz.checks import must, one_of
from jaxmd_iz.config import AXES, SW_FILES, Config, CouplingTable, PotentialTable
from jaxmd_iz.orbitals.basis import atomic_number
from jaxmd_iz.potentials import AbstractExternal, AbstractPairPotential, AbstractPotential
from jaxmd_iz.units import convert


def potential_of(config: Config, names: tuple[str, ...], particles: int) -> AbstractPotential:
    """The potential, with its bonds.

    Args:
        config: tables `potential` and `units`.
        names: names of the species, in the order of their numbers.
        particles: n.

    Returns:
        A potential in internal units.

    Raises:
        InputError: parameters that fit neither each other nor the species, or a file that cannot be read.
    """
    table = config.potential
    with keys_of("potential"):
        if table.kind == "bonds":
            return _bonds(table, particles, float("inf"))
        if table.kind == "stillinger_weber":
            main: AbstractPotential = _stillinger_weber(config, names)
        elif table.kind == "eam":
            main = _embedded(config, names)
        elif table.kind == "two_state_fluid":
            return _two_states(table, names, particles)
        elif table.kind == "exciton_fluid":
            return _lowest(_excitons(table, names, particles), table.states)
        elif table.kind == "model":
            assert table.model is not None
            own = {name: f"potential.parameters.{name}" for name in table.parameters or {}}
            with keys_of("", path="template", **own):
                return models.potential_of(table.model, table.parameters, table.template, table.states)
        else:
            main = _pair(table, table.kind, names)
        if not table.bonds:
            return main
        assert isinstance(main, potentials.AbstractDistancePotential)
        return potentials.Sum((main, _bonds(table, particles, main.cutoff)))  # pyright: ignore[reportCallIssue]


def _pair(table: PotentialTable, kind: str, names: tuple[str, ...]) -> AbstractPairPotential:
    """A pair potential of one state."""
    if kind == "morse":
        tables = {name: _by_species(name, getattr(table, name), names) for name in ("depth", "steepness", "distance")}
        assert table.cutoff is not None
        return potentials.Morse(**tables, cutoff=table.cutoff, truncation=table.truncation)
    epsilon = _by_species("epsilon", 1.0 if table.epsilon is None else table.epsilon, names)
    sigma = _by_species("sigma", 1.0 if table.sigma is None else table.sigma, names)
    if 1 in (epsilon.ndim, sigma.ndim):
        flat = epsilon.ndim < 2 and sigma.ndim < 2
        must(flat, "epsilon", "be given as `sigma` is", "one is a list by species to be mixed, the other a matrix")
        count = len(names)
        mixed = potentials.LennardJones.mixed(np.broadcast_to(epsilon, count), np.broadcast_to(sigma, count), 1.0)
        epsilon, sigma = np.asarray(mixed.epsilon), np.asarray(mixed.sigma)
    if kind == "wca":
        return potentials.WCA(epsilon, sigma, table.cutoff)
    cutoff = 2.5 * float(sigma.max()) if table.cutoff is None else table.cutoff
    common = {"epsilon": epsilon, "sigma": sigma, "cutoff": cutoff, "truncation": table.truncation}
    if kind == "soft_sphere":
        return potentials.SoftSphere(**common, exponent=table.exponent)
    return potentials.LennardJones(**common, tail=table.tail)


def _by_species(name: str, value, names: tuple[str, ...]) -> np.ndarray:
    """A parameter as (), (S,) or (S, S)."""
    array = np.asarray(value, float)
    fits = array.ndim == 0 or set(array.shape) == {len(names)}
    listed = ", ".join(names)
    requirement = f"be a number, or have {len(names)} entries along each axis for the species {listed}"
    must(fits, name, requirement, f"its shape is {array.shape}")
    return array


def electrons_of(config: Config, names: tuple[str, ...], species: np.ndarray) -> AbstractPotential:
    """Ab initio electrons on nuclei whose elements are the names of their species.

    Args:
        config: table `potential`.
        names: names of the species.
        species: (n,) species numbers.

    Raises:
        InputError: unknown elements, a spin or charge that does not fit, a basis too small for the states.
    """
    table = config.potential
    with keys_of("potential", charges="species", electrons="potential.charge"):
        charges = tuple(atomic_number(names[s]) for s in species)
        electrons = potentials.Electrons(
            charges,
            basis=table.basis,
            electrons=sum(charges) - table.charge,
            spin=table.spin,
            softening=table.softening,
            confinement=table.confinement,
        )
        return potentials.Lowest(electrons, 3 if table.states is None else table.states)


def _lowest(potential: AbstractPotential, states: int | None) -> AbstractPotential:
    return potential if states is None else potentials.Lowest(potential, states)


def _gaussian(g: CouplingTable) -> potentials.Gaussian:
    return potentials.Gaussian(g.amplitude, g.width, g.centre)


def _two_states(table: PotentialTable, names: tuple[str, ...], particles: int) -> potentials.TwoStateFluid:
    base = _pair(table, table.base, names)
    coupling, shift = _gaussian(table.coupling), _gaussian(table.shift)
    return potentials.TwoStateFluid(base, coupling, shift, table.gap, particles, table.gaussian_cutoff)


def _excitons(table: PotentialTable, names: tuple[str, ...], particles: int) -> potentials.ExcitonFluid:
    base, gap = _pair(table, table.base, names), 0.0 if table.gap is None else table.gap
    coupling, shift = _gaussian(table.coupling), _gaussian(table.shift)
    return potentials.ExcitonFluid(base, coupling, gap, particles, shift, table.gaussian_cutoff)


def _stillinger_weber(config: Config, names: tuple[str, ...]) -> potentials.StillingerWeber:
    """From a file: one of the package's is in metal units, others are in `units.files`, else in those of the system."""
    table, system = config.potential, config.units.system
    path, source = Path(table.file or SW_FILES[0]), config.units.files or system
    if str(path) in SW_FILES:
        path, source = Path(potentials.__file__).parent / "data" / path, "metal"
        remedy = "Give a file with the parameters in your units."
        must(
            system != "lj", "file", "name a parameter file in `lj` units", f"`{path.name}` is in `metal` units", remedy
        )
    with keys_of("", path="file", elements="species"):
        parameters = potentials.read_sw(path, names)
    for name, quantity in (("epsilon", "energy"), ("sigma", "length")):
        parameters[name] = convert(parameters[name], quantity, source, system)
    return potentials.StillingerWeber(**parameters, share=table.share)


def _embedded(config: Config, names: tuple[str, ...]) -> potentials.EmbeddedAtom:
    """From a setfl file, which is in eV and Å by its format."""
    table, system = config.potential, config.units.system
    remedy = "Take `metal` units, or `atomic` ones."
    must(system != "lj", "file", "be converted to `lj` units", "a setfl file is in eV and Å", remedy)
    assert table.file is not None
    named = dict(table.elements or {})
    for name in named:
        one_of(name, "elements", names)
    with keys_of("", path="file", elements="elements"):
        tables = potentials.read_setfl(table.file, [named.get(name, name) for name in names])
    for name, quantities in (("embedding", ["energy"]), ("pair", ["energy", "length"]), ("dr", ["length"])):
        for quantity in quantities:
            tables[name] = convert(tables[name], quantity, "metal", system)
    tables["cutoff"] = convert(tables["cutoff"], "length", "metal", system)
    with keys_of("", **dict.fromkeys(("embedding", "density", "pair", "drho", "dr", "cutoff"), "file")):
        return potentials.EmbeddedAtom(**tables)


def _bonds(table: PotentialTable, particles: int, cutoff: float) -> potentials.HarmonicBonds:
    rows = np.array([row for row in table.bonds if len(row) == 4], float)
    fits = len(rows) == len(table.bonds)
    must(fits, "bonds", "hold rows [i, j, k, r₀] of four numbers", "a row has another length")
    ends = rows[:, :2].astype(int)
    whole = bool((ends == rows[:, :2]).all() and (ends >= 0).all() and (ends < particles).all())
    but = f"they hold {rows[:, :2].min():g} to {rows[:, :2].max():g}"
    must(whole, "bonds", f"join particles numbered from 0 to {particles - 1}", but)
    with keys_of("", pairs="bonds", stiffness="bonds", length="bonds", cutoff="bond_cutoff"):
        return potentials.HarmonicBonds(ends, rows[:, 2], rows[:, 3], table.bond_cutoff or cutoff)


def external_of(config: Config) -> AbstractExternal | None:
    """The external potential V_b, or None.

    Args:
        config: tables `potential.external` and `space`.

    Returns:
        V_b in internal units.

    Raises:
        InputError: parameters that are not allowed.
    """
    table, dim = config.potential.external, config.space.dimensions
    with keys_of("potential.external"):
        if table.kind == "harmonic":
            return potentials.HarmonicTrap(table.stiffness, table.centre)
        if table.kind == "quartic":
            return potentials.QuarticTrap(table.stiffness, table.centre)
        if table.kind == "uniform":
            return potentials.UniformForce(table.force)
        if table.kind == "walls":
            axis = AXES.index(table.axis) if table.axis else dim - 1
            return potentials.Walls(axis, table.lower, table.upper, table.stiffness)
    return None
