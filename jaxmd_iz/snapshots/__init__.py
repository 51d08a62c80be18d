"""Configurations from files, checked and converted to internal units."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from jaxmd_iz.checks import InputError, fail, must, nearest, one_of
from jaxmd_iz.snapshots.files import Frame, read_frames
from jaxmd_iz.snapshots.h5md import is_h5md, read_h5md
from jaxmd_iz.units import Units, convert
from jaxmd_iz.units import units as system

_SYSTEMS = ("lj", "metal", "atomic", "ase")


@dataclass(frozen=True)
class Snapshots:
    """F configurations of the same n particles, on the host, in internal units of the run's unit system.

    Attributes:
        x: (F, n, D) positions as they stand in the file (wrapped or not), length.
        v: (F, n, D) velocities; zeros if `configurational`.
        species: (n,) index into `names`.
        names: names of the species, in the order of the mapping that was given, else as met in the file.
        masses: (n,) masses, or None if neither the mapping, nor the file, nor the names tell them.
        cell: (D, D) cell vectors in rows; None if no direction is periodic.
        time: (F,) times, or None if the file has none.
        path: where this was read from.
        configurational: whether the file has no velocities and `v` stands for nothing.
    """

    x: Float[np.ndarray, "F n D"]
    v: Float[np.ndarray, "F n D"]
    species: Int[np.ndarray, " n"]
    names: tuple[str, ...]
    masses: Float[np.ndarray, " n"] | None
    cell: Float[np.ndarray, "D D"] | None
    time: Float[np.ndarray, " F"] | None
    path: Path
    configurational: bool = False


def read_snapshots(
    path: str | Path,
    units: Units | str,
    file_units: Units | str | None = None,
    species: Mapping[str, float | None] | None = None,
    configurational: bool = False,
    frames: slice | None = None,
    dimensions: int = 3,
) -> Snapshots:
    """Reads configurations and converts them to internal units.

    Units of the file: `file_units`, else what the file says (`units=` in the comment line of extended XYZ,
    `ITEM: UNITS` of a dump, `unit` of H5MD's elements), else the run's for XYZ, dumps and H5MD, else `ase` (the run's
    if that is `lj`).
    Velocities: a `velocities` column or `vx vy vz`, in the file's units; else momenta over masses. Momenta are in ASE's
    units, unless an XYZ file is in `lj` or `atomic`: then in the file's.

    Args:
        path: the file; text dumps and H5MD are recognised by their content, `.gz` is unpacked.
        units: unit system of the run.
        file_units: unit system of the file, if it says nothing or something wrong.
        species: mass of each species by name, in the run's units; None for the standard atomic mass. Types 1, 2, … of a
            dump that has no names are the species in this order. Without it, masses are the file's or standard ones.
        configurational: accept a file without velocities.
        frames: which frames to take; all if None.
        dimensions: D; the coordinates after the first D have to be constant.

    Returns:
        The snapshots.

    Raises:
        InputError: if the file is missing, unreadable, empty or inconsistent.
    """
    path, run = Path(path), system(units) if isinstance(units, str) else units
    must(dimensions in (1, 2, 3), "dimensions", "be 1, 2 or 3", f"it is {dimensions}")
    must(path.exists(), "path", "name a file", f"`{path}` does not exist")
    try:
        found, said, plain = (read_h5md if is_h5md(path) else read_frames)(path, frames or slice(None))
    except InputError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        fail("path", "name a file that can be read", f"`{path}` cannot: {reason}")
    must(len(found) > 0, "path", "hold at least one frame", f"`{path}` holds none that was asked for")
    first = found[0]
    must(len(first.names) > 0, "path", "hold at least one atom", f"frame 0 of `{path}` has none")
    source = _source(file_units, said, plain, run, path)
    finite = bool(np.isfinite(first.cell).all())
    must(finite, "path", "have a cell of finite numbers", f"that of `{path}` has NaN or infinity")
    for k, frame in enumerate(found):
        _must_match(k, frame, first)
    names, index = _names(first.names, species)
    masses = _masses(first, names, index, species, source, run)
    x = _internal(np.stack([f.x for f in found]), "length", source, run)
    missing = [k for k, f in enumerate(found) if f.v is None and f.p is None]
    if missing and not configurational:
        but = f"frame {missing[0]} of `{path}` has neither velocities nor momenta"
        remedy = "For fields without kinetic parts ask for configurational ones (--configurational)."
        fail("path", "name a file with velocities", but, remedy)
    v = np.zeros_like(x)
    for k, frame in enumerate(found if not missing else []):
        if frame.v is not None:
            v[k] = _internal(frame.v, "velocity", source, run)
        else:
            kind = source if plain and source.name not in ("metal", "ase") else system("ase")
            own = None if first.masses is None else _internal(first.masses, "mass", source, run)
            m = masses if own is None else own
            must(m is not None, "species", "give masses", "the file has momenta and no masses")
            assert m is not None and frame.p is not None
            v[k] = _internal(frame.p, "momentum", kind, run) / m[:, None]
    for name, values in (("positions", x), ("velocities", v)):
        bad = ~np.isfinite(values).all(axis=(1, 2))
        must(not bad.any(), "path", f"hold finite {name}", f"frame {bad.argmax()} of `{path}` has NaN or infinity")
    times = [f.time for f in found]
    time = None if None in times else _internal(np.array(times, float), "time", source, run)
    x, v = _project(x, v, dimensions)
    cell = _cell(first, dimensions)
    return Snapshots(
        x=x,
        v=v,
        species=index,
        names=names,
        masses=masses,
        cell=None if cell is None else _internal(cell, "length", source, run),
        time=time,
        path=path,
        configurational=bool(missing),
    )


def _internal(value: np.ndarray, quantity: str, source: Units, run: Units) -> np.ndarray:
    """The file's numbers in internal units of the run."""
    return np.asarray(run.to_internal(convert(value, quantity, source, run), quantity), float)


def _source(given: Units | str | None, said: str | None, plain: bool, run: Units, path: Path) -> Units:
    """Unit system of the file."""
    if given is None and said is not None:
        known = ", ".join(f"`{s}`" for s in _SYSTEMS)
        must(said in _SYSTEMS, "file_units", f"be one of {known}", f"`{path}` says `{said}`", nearest(said, _SYSTEMS))
    if isinstance(given, Units):
        source = given
    elif given or said:
        source = system(one_of(given or said or "", "file_units", _SYSTEMS))
    else:
        source = run if plain or run.size is None else system("ase")
    if source != run:
        both = source.size is not None and run.size is not None
        must(both, "file_units", f"be convertible to the run's `{run.name}`", f"they are `{source.name}`")
    return source


def _must_match(k: int, frame: Frame, first: Frame) -> None:
    """Frame k has the particles and the cell of frame 0."""
    n, count = len(first.names), len(frame.names)
    must(n == count, "path", "keep the number of atoms", f"frame 0 has {n} and frame {k} has {count}")
    must(frame.names == first.names, "path", "keep the species in one order", f"frame {k} differs from frame 0")
    same = np.array_equal(frame.periodic, first.periodic) and np.allclose(frame.cell, first.cell, rtol=1e-10, atol=0)
    must(same, "path", "keep the cell", f"frame {k} has another one than frame 0", "Barostats are not supported.")


def _names(found: list[str], species: Mapping[str, float | None] | None) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the species, and the index of each particle."""
    here = list(dict.fromkeys(found))
    numbered = all(name.isdigit() for name in here)
    if species is None:
        names = sorted(here, key=int) if numbered else here
    else:
        names = list(species)
        if numbered and not set(here) & set(names) and max(map(int, here)) <= len(names) and "0" not in here:
            found = [names[int(name) - 1] for name in found]  # LAMMPS types, in the order of the species
        for name in dict.fromkeys(found):
            known = ", ".join(f"`{k}`" for k in names)
            must(name in species, "species", "give a mass for each species of the file", f"`{name}` is not in {known}")
    order = {name: k for k, name in enumerate(names)}
    return tuple(names), np.array([order[name] for name in found], int)


def _masses(first: Frame, names: tuple[str, ...], index: np.ndarray, species, source: Units, run: Units):
    """(n,) masses in the run's units: the mapping's, else the file's, else the standard ones; or None."""
    from ase.data import atomic_masses, atomic_numbers

    if species is None and first.masses is not None:
        return _internal(first.masses, "mass", source, run)
    table = np.zeros(len(names))
    for k, name in enumerate(names):
        mass = None if species is None else species[name]
        if mass is None and run.size is not None and atomic_numbers.get(name, 0) > 0:
            mass = convert(float(atomic_masses[atomic_numbers[name]]), "mass", "ase", run)
        if mass is None:
            must(species is None, f"species.{name}", "have a mass", f"none is given and `{name}` has no standard one")
            return None
        must(0 < mass < np.inf, f"species.{name}", "have a positive mass", f"it is {mass}")
        table[k] = mass
    return table[index]


def _project(x: np.ndarray, v: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """The first D coordinates, if the others say nothing."""
    still = np.ptp(x[..., dim:], axis=(0, 1)) <= 1e-9 * (1 + np.max(np.abs(x), initial=0))
    flat = bool(np.all(still)) and not np.any(v[..., dim:])
    must(flat, "dimensions", "leave out constant coordinates only", f"atoms move outside the first {dim}")
    return np.ascontiguousarray(x[..., :dim]), np.ascontiguousarray(v[..., :dim])


def _cell(first: Frame, dim: int) -> np.ndarray | None:
    """The D × D cell, or None if nothing is periodic."""
    periodic = first.periodic[:dim]
    if not periodic.any():
        return None
    mixed = "periodic along some directions and not along others, which is not supported"
    must(bool(periodic.all()), "path", "be periodic along every direction or none", f"it is {mixed}")
    cell = np.asarray(first.cell, float)[:dim, :dim]
    volume, edges = abs(np.linalg.det(cell)), np.linalg.norm(cell, axis=1)
    regular = np.isfinite(cell).all() and volume > 1e-10 * np.prod(edges)
    must(bool(regular), "path", "have a cell of positive volume", f"its cell is {cell.tolist()}")
    flat = not np.any(first.cell[:dim, dim:])
    must(flat, "dimensions", "hold the periodic cell vectors", f"they leave the first {dim} coordinates")
    return cell
