"""Particles from ASE's atoms and back: positions, momenta, masses, species and cell, in internal units.

ASE holds Å, eV and amu, so its unit of time is Å√(amu/eV). For a run in `lj` the numbers of the atoms are read as
σ, ε, m and σ√(m/ε): reduced units have no size.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmd_iz.checks import must, nearest
from jaxmd_iz.space import AbstractSpace, Free, Periodic
from jaxmd_iz.units import Units, convert
from jaxmd_iz.units import units as system


class Particles(eqx.Module):
    """One phase point with what belongs to it, in internal units: what `System` and `simulate` ask for."""

    x: Float[Array, "n D"]
    p: Float[Array, "n D"]
    masses: Float[Array, " n"]
    species: Int[Array, " n"]
    space: AbstractSpace
    names: tuple[str, ...] = eqx.field(static=True)


def inward(value: Any, quantity: str, run: Units) -> Any:
    """ASE's numbers in internal units of `run`."""
    return run.to_internal(convert(value, quantity, _ase(run), run), quantity)


def outward(value: Any, quantity: str, run: Units) -> Any:
    """Internal numbers of `run` in ASE's units."""
    return convert(run.from_internal(value, quantity), quantity, run, _ase(run))


def _ase(run: Units) -> Units:
    return run if run.size is None else system("ase")


def from_ase(
    atoms: Any, units: Units | str = "ase", species: Sequence[str] | None = None, dimensions: int = 3
) -> Particles:
    """Particles from ASE's atoms.

    Args:
        atoms: `ase.Atoms`. Charges, magnetic moments, tags and `info` are left behind.
        units: unit system of the run, to which numbers are converted; those of `lj` are taken as they are.
        species: chemical symbols in the order of their numbers; as met if None.
        dimensions: D; the coordinates after the first D have to be constant.

    Returns:
        Particles: x, p (n, D), masses, species (n,), the space, and the names of the species.

    Raises:
        InputError: no atoms, numbers that are not finite, constraints, mixed periodicity, a symbol not in `species`, or
            velocities that stand in a column of their own and not in the momenta.
    """
    x, masses, numbers, space, names = geometry(atoms, units, species, dimensions)
    run = system(units) if isinstance(units, str) else units
    remedy = "Remove them first: `atoms.set_constraint()`."
    must(not atoms.constraints, "atoms", "be free to move", "it has constraints, which are not supported", remedy)
    must(
        atoms.has("momenta") or not atoms.has("velocities"),
        "atoms",
        "hold its velocities as momenta",
        "it has a column `velocities` whose units are not known",
        "Read the file with `read_snapshots`, or call `atoms.set_velocities` with numbers in ASE's units.",
    )
    momenta = np.asarray(atoms.get_momenta())
    must(bool(np.isfinite(momenta).all()), "atoms", "have finite momenta", "some are NaN or infinite")
    must(not np.any(momenta[:, dimensions:]), "dimensions", "leave out resting coordinates", "atoms move along them")
    p = inward(momenta[:, :dimensions], "momentum", run)
    arrays = (jnp.asarray(a, float) for a in (x, p, masses))
    return Particles(*arrays, jnp.asarray(numbers, int), space, names)


def geometry(atoms: Any, units: Units | str, species: Sequence[str] | None, dimensions: int):
    """Positions, masses, species, space and names of ASE's atoms, on the host; arguments and errors as in `from_ase`.

    Returns:
        x (n, D), masses (n,), species (n,), the space, names.
    """
    from ase import Atoms

    run = system(units) if isinstance(units, str) else units
    must(isinstance(atoms, Atoms), "atoms", "be `ase.Atoms`", f"it is a {type(atoms).__name__}")
    must(dimensions in (1, 2, 3), "dimensions", "be 1, 2 or 3", f"it is {dimensions}")
    must(len(atoms) > 0, "atoms", "hold at least one atom", "it is empty")
    x, masses, symbols = np.asarray(atoms.positions), np.asarray(atoms.get_masses()), atoms.get_chemical_symbols()
    must(bool(np.isfinite(x).all()), "atoms", "have finite positions", "some are NaN or infinite")
    positive = bool((masses > 0).all() and np.isfinite(masses).all())
    must(positive, "atoms", "have positive masses", f"the smallest is {masses.min():g}")
    left = x[:, dimensions:]
    still = bool(np.all(np.ptp(left, axis=0) <= 1e-9 * (1 + np.abs(left).max(initial=0))))
    must(still, "dimensions", "leave out constant coordinates only", f"atoms differ beyond the first {dimensions}")
    names = tuple(dict.fromkeys(symbols)) if species is None else tuple(species)
    for symbol in dict.fromkeys(symbols):
        known = ", ".join(f"`{k}`" for k in names)
        must(symbol in names, "species", f"name `{symbol}`", f"it holds {known}{nearest(symbol, names)}")
    numbers = np.array([names.index(s) for s in symbols], int)
    x = np.asarray(inward(x[:, :dimensions], "length", run), float)
    return x, np.asarray(inward(masses, "mass", run), float), numbers, _space(atoms, run, dimensions), names


def _space(atoms: Any, run: Units, dim: int) -> AbstractSpace:
    """Free if no direction is periodic, periodic if all are."""
    periodic = np.asarray(atoms.pbc)[:dim]
    if not periodic.any():
        return Free(dim)
    mixed = f"`pbc` is {[bool(b) for b in periodic]}"
    must(bool(periodic.all()), "atoms", "be periodic along every direction or none", mixed)
    cell = np.asarray(atoms.cell.array)[:dim]
    must(not np.any(cell[:, dim:]), "dimensions", "hold the periodic cell vectors", f"they leave the first {dim}")
    return Periodic(np.asarray(inward(cell[:, :dim], "length", run), float))


def to_ase(particles: Particles, units: Units | str = "ase") -> Any:
    """ASE's atoms from particles; `to_ase(from_ase(atoms))` has the positions, momenta, masses, symbols and cell again.

    Args:
        particles: in internal units of the run; missing coordinates of D < 3 become 0.
        units: unit system of the run.

    Returns:
        `ase.Atoms`.

    Raises:
        InputError: a name that is no chemical symbol, or a species without a name.
    """
    from ase import Atoms
    from ase.data import atomic_numbers

    run = system(units) if isinstance(units, str) else units
    names, numbers, dim = particles.names, np.asarray(particles.species), particles.x.shape[1]
    for name in names:
        remedy = "Name it `X` if it stands for no element."
        must(name in atomic_numbers, "particles.names", "be chemical symbols", f"one is `{name}`", remedy)
    inside = bool((numbers >= 0).all() and (numbers < len(names)).all())
    must(inside, "particles.species", f"be numbers from 0 to {len(names) - 1}", f"they are up to {numbers.max()}")

    def padded(value: Any, quantity: str) -> np.ndarray:
        value = np.asarray(outward(np.asarray(value, float), quantity, run))
        return np.pad(value, ((0, 0), (0, 3 - dim)))

    cell, periodic = np.zeros((3, 3)), isinstance(particles.space, Periodic)
    if isinstance(particles.space, Periodic):
        cell[:dim] = padded(particles.space.matrix, "length")
    return Atoms(
        symbols=[names[k] for k in numbers],
        positions=padded(particles.x, "length"),
        masses=np.asarray(outward(np.asarray(particles.masses, float), "mass", run)),
        momenta=padded(particles.p, "momentum"),
        cell=cell,
        pbc=[periodic] * dim + [False] * (3 - dim),
    )
