"""Space and starting configuration: of the configuration, of a file, or of a model."""

from typing import NamedTuple

import numpy as np

from jaxmd_iz.build.lattice import kinds, lattice, scatter
from jaxmd_iz.build.names import keys_of
from jaxmd_iz.build.potentials import potential_of
from jaxmd_iz.checks import must, one_of
from jaxmd_iz.config import Config
from jaxmd_iz.models import MODELS, masses_of
from jaxmd_iz.snapshots import Snapshots, read_snapshots
from jaxmd_iz.space import AbstractSpace, Free, Periodic
from jaxmd_iz.units import Units, units


class Start(NamedTuple):
    """Where sampling starts, in internal units: x (n, D), species (n,), their names, masses (n,)."""

    x: np.ndarray
    species: np.ndarray
    names: tuple[str, ...]
    masses: np.ndarray


def units_of(config: Config) -> Units:
    """The unit system of the configuration."""
    return units(config.units.system)


def snapshots_of(config: Config) -> Snapshots | None:
    """The start file: its last frame, or every frame with velocities for `density.kind = "given"`; None without one.

    Args:
        config: tables `density`, `units`, `species` and `space`.

    Raises:
        InputError: a file that cannot be read or does not fit.
    """
    if config.density.start in ("lattice", "random"):
        return None
    given = config.density.kind == "given"
    with keys_of("", path="density.start", file_units="units.files", dimensions="space.dimensions"):
        return read_snapshots(
            config.density.start,
            units_of(config),
            config.units.files,
            config.species or None,
            configurational=not given,
            frames=None if given else slice(-1, None),
            dimensions=config.space.dimensions,
        )


def space_of(config: Config, snapshots: Snapshots | None = None) -> AbstractSpace:
    """Free space, or the periodic cell: of the configuration, of the file, or the cube for n and the number density.

    Args:
        config: tables `space` and `density`.
        snapshots: the frames in use; by default those of the start file, if there is one.

    Returns:
        The space in internal units.

    Raises:
        InputError: no cell, or two that differ.
    """
    dim, density, cell = config.space.dimensions, config.density, config.space.cell
    if config.space.kind == "free":
        return Free(dim)
    snapshots = snapshots_of(config) if snapshots is None else snapshots
    with keys_of("space"):
        own = None if cell is None else Periodic(cell)
        if snapshots is not None:
            if own is None:
                must(snapshots.cell is not None, "cell", "be given", f"`{snapshots.path}` has none")
                return Periodic(snapshots.cell)
            scale = 1e-6 * np.abs(own.matrix).max()
            agree = snapshots.cell is None or np.allclose(own.matrix, snapshots.cell, rtol=0, atol=scale)
            remedy = f"`{snapshots.path}` has another one: leave `space.cell` out to take that."
            must(agree, "cell", "be that of the file", f"it is {own.matrix.tolist()}", remedy)
        if own is not None:
            return own
        remedy = "Give it, or `density.number` and `density.number_density`, or a start file that has a cell."
        told = density.number is not None and density.number_density is not None
        must(told, "cell", "be given in a periodic space", "it is missing", remedy)
        return Periodic([_edge(config)] * dim)


def _edge(config: Config) -> float:
    """Edge of the cube for n and the number density."""
    number, density = config.density.number, config.density.number_density
    must(number is not None, "density.number", "be given for a start without a file", "it is missing")
    must(density is not None, "density.number_density", "be given for a start in free space", "it is missing")
    assert number is not None and density is not None
    return (number / density) ** (1 / config.space.dimensions)


def start_of(config: Config, snapshots: Snapshots | None = None) -> Start:
    """The configuration from which every chain starts.

    Args:
        config: tables `density`, `space`, `species`, `potential` and `units`.
        snapshots: the frames in use, of which the last is taken; by default those of the start file.

    Returns:
        Start, in internal units.

    Raises:
        InputError: masses or numbers of particles that are missing or do not agree.
    """
    snapshots = snapshots_of(config) if snapshots is None else snapshots
    reduced = config.units.system == "lj"
    if snapshots is not None:
        masses = snapshots.masses
        if masses is None:
            listed = ", ".join(f"`{name}`" for name in snapshots.names)
            must(reduced, "species", f"give masses for {listed}", f"neither it nor `{snapshots.path}` does")
            masses = np.ones(len(snapshots.species))
        return Start(snapshots.x[-1], snapshots.species, snapshots.names, masses)
    density, dim = config.density, config.space.dimensions
    if config.potential.kind == "model" and not density.positions:
        return _model_start(config)
    if not config.species:
        must(
            reduced,
            "species",
            "give the mass of each species",
            "it is empty",
            "For example `[species]` with `Ar = 39.95`.",
        )
    species = config.species or {"X": 1.0}
    if density.positions:
        return _listed_start(config, species)
    space, rng = space_of(config), np.random.default_rng(density.seed)
    if isinstance(space, Periodic):
        cell, number, corner = space.matrix, _number(config, space), np.zeros(dim)
    else:
        cell, number = np.eye(dim) * _edge(config), density.number
        corner = np.asarray(config.potential.external.centre) - _edge(config) / 2
    assert number is not None
    if density.start == "random":
        x = scatter(cell, number, rng)
    else:
        x = lattice(cell, number, config.potential.kind == "stillinger_weber" and dim == 3)
        x = x if isinstance(space, Periodic) else x - x.mean(axis=0) + _edge(config) / 2
    equal = dict.fromkeys(species, 1 / len(species))
    fractions = np.array([(density.composition or equal).get(name, 0.0) for name in species])
    index = kinds(fractions, number, rng)
    return Start(x + corner, index, tuple(species), np.array(list(species.values()))[index])


def _listed_start(config: Config, species) -> Start:
    """The configuration that `density.positions` lists."""
    x, names = np.array(config.density.positions), config.density.names
    must(len(names) == len(x) or not names, "density.names", f"name {len(x)} particles", f"it names {len(names)}")
    must(bool(names) or len(species) == 1, "density.names", "be given for several species", "it is missing")
    known = tuple(species)
    for name in names:
        one_of(name, "density.names", known)
    index = np.array([known.index(name) for name in names]) if names else np.zeros(len(x), int)
    return Start(x, index, known, np.array(list(species.values()))[index])


def _model_start(config: Config) -> Start:
    """Where a model starts by itself, with its own masses, or those of the table `species`."""
    name = config.potential.model
    assert name is not None
    model, potential = MODELS[name], potential_of(config, (), 0)
    masses = masses_of(name, potential)
    modes = not getattr(potential, "y_space", True)  # as many as the file or the parameters say
    x = np.zeros((len(masses), 1)) if modes or model.x is None else model.x
    dim, given = config.space.dimensions, tuple(config.species)
    fits = x.shape[1] == dim or name == "leps_h3"  # atoms that may lie in a plane
    must(fits, "space.dimensions", f"be {x.shape[1]} for the model `{name}`", f"it is {dim}")
    must(len(given) <= 1, "species", "have one entry for a model of particles of one kind", f"it has {len(given)}")
    names = given or model.names[:1] or ("X",)
    if given:
        masses = np.full(len(masses), config.species[given[0]])
    return Start(x[:, :dim], np.zeros(len(masses), int), names, masses)


def _number(config: Config, space: Periodic) -> int:
    """n of a periodic start: given, or from the number density."""
    number, density = config.density.number, config.density.number_density
    if density is None:
        must(number is not None, "density.number", "be given for a start without a file", "it is missing")
    found = round(density * space.volume) if density is not None else number
    assert found is not None
    but = f"`density.number_density` and the cell make it {found}"
    must(number is None or number == found, "density.number", "agree with the rest", f"it is {number} and {but}")
    must(found > 0, "density.number_density", "leave a particle in the cell", f"it is {density}")
    return found
