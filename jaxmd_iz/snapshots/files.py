"""Frames of files with the files' own numbers: extended XYZ, LAMMPS text dumps and whatever else ASE reads.

LAMMPS dumps are parsed here rather than by ASE, which would convert velocities with its own constants, guess elements
from a `mass` column, refuse names that are no chemical symbols and drop the origin of scaled coordinates.
"""

import gzip
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from jaxmd_iz.checks import fail, must

LONGEST = 100_000  # characters of a line of an XYZ file; what has more is no text


@dataclass
class Frame:
    """One configuration, with the numbers of the file.

    Attributes:
        names: species of each of the n atoms.
        x: (n, 3) positions.
        v: (n, 3) velocities, in the file's units.
        p: (n, 3) momenta, in ASE's units or the file's.
        masses: (n,) masses that the file gives.
        cell: (3, 3) cell vectors in rows.
        periodic: (3,) periodicity along them.
        time: its time.
    """

    names: list[str]
    x: np.ndarray
    v: np.ndarray | None
    p: np.ndarray | None
    masses: np.ndarray | None
    cell: np.ndarray
    periodic: np.ndarray
    time: float | None


def read_frames(path: Path, frames: slice) -> tuple[list[Frame], str | None, bool]:
    """Reads the frames of a file, whatever it is.

    Args:
        path: the file, or the folder of a format that is one.
        frames: which of them.

    Returns:
        Frames, the units that the file names (None if it names none), and whether its numbers are plain (XYZ, dump)
        rather than in ASE's units.

    Raises:
        InputError: if it is no such file; other errors of the readers come through.
    """
    if path.is_file():
        with _open(path) as stream:
            if stream.readline(LONGEST).startswith("ITEM:"):
                stream.seek(0)
                return *_dump(stream, frames), True
        if {".dump", ".lammpstrj"} & set(path.suffixes):
            fail("path", "begin with `ITEM:` if it is a LAMMPS text dump", f"`{path}` does not")
    return _ase(path, frames)


def _open(path: Path) -> io.TextIOWrapper:
    """The file as text, unpacked."""
    options: dict[str, Any] = {"mode": "rt", "encoding": "utf-8", "errors": "replace"}
    return gzip.open(path, **options) if path.suffix == ".gz" else open(path, **options)


def _ase(path: Path, frames: slice) -> tuple[list[Frame], str | None, bool]:
    """Frames of any format that ASE reads."""
    from ase.io import read
    from ase.io.formats import filetype

    must(path.is_dir() or path.stat().st_size > 0, "path", "hold at least one frame", f"`{path}` is empty")
    kind = filetype(str(path))
    plain = kind in ("extxyz", "xyz")
    if plain:
        _must_hold_its_atoms(path)
    images: Any
    try:
        images = read(path, index=frames, format=kind, do_not_split_by_at_sign=True)
    except KeyError:  # names that are no chemical symbols: read them as any other column
        if not plain:
            raise
        with _open(path) as stream:
            text = stream.read().replace("species:S:1", "as_written:S:1")
        images = read(io.StringIO(text), index=frames, format="extxyz")
    found = []
    for atoms in images:
        arrays, info = atoms.arrays, atoms.info
        time = info.get("time", info.get("Time"))
        found.append(
            Frame(
                names=[str(s) for s in arrays.get("as_written", atoms.get_chemical_symbols())],
                x=arrays["positions"],
                v=arrays.get("velocities"),
                p=arrays.get("momenta"),
                masses=arrays.get("masses"),
                cell=np.array(atoms.cell.array),
                periodic=np.array(atoms.pbc),
                time=None if time is None else float(time),
            )
        )
    said = images[0].info.get("units") if images else None
    return found, None if said is None else str(said), plain


def _must_hold_its_atoms(path: Path) -> None:
    """Refuses an XYZ file that names more atoms than it has: ASE would look for each of them."""
    with _open(path) as stream:
        for k in itertools.count():
            word = stream.readline(LONGEST).strip()
            if not word.removeprefix("-").isdecimal():
                return
            must(0 < len(word) < 16 and int(word) > 0, "path", f"hold an atom or more in frame {k}", f"it says {word}")
            rows = 0
            while rows <= int(word) and (line := stream.readline(LONGEST)):
                rows += 1
                must(len(line) < LONGEST, "path", f"have lines below {LONGEST} characters", "one has more")
            must(rows > int(word), "path", f"hold {word} atoms in frame {k}", f"it ends after {max(rows - 1, 0)}")


def _dump(stream: io.TextIOWrapper, frames: slice) -> tuple[list[Frame], str | None]:
    """Frames of a LAMMPS text dump, sorted by id, and the units it names."""
    wanted = None
    if frames != slice(None):
        count = sum(line.startswith("ITEM: ATOMS") for line in stream)
        wanted = set(range(count)[frames])
        stream.seek(0)
    found, items = [], {}
    for k, items in enumerate(_items(stream, wanted)):
        if wanted is None or k in wanted:
            found.append(_dump_frame(k, items))
    return found, items.get("UNITS", [None])[0]


def _items(stream: io.TextIOWrapper, wanted: set[int] | None) -> Iterator[dict[str, list[str]]]:
    """The lines below each `ITEM:` of a frame; `UNITS` stays from frame to frame."""
    items: dict[str, list[str]] = {}
    k = 0
    while line := stream.readline():
        head = line.removeprefix("ITEM:").strip()
        if not line.startswith("ITEM:"):
            must(not head, "path", "be a LAMMPS text dump", f"the line `{head[:60]}` stands where `ITEM:` is expected")
        elif head.startswith("BOX BOUNDS"):
            items["BOX"] = [head, *islice(stream, 3)]
        elif head.startswith("ATOMS"):
            n = int(items["NUMBER OF ATOMS"][0])
            rows = islice(stream, n)
            if wanted is None or k in wanted:
                items["ATOMS"] = [head, *rows]
            else:
                next(islice(stream, n, n), None)
            yield items
            items = {key: items[key] for key in ("UNITS",) if key in items}
            k += 1
        else:
            items[head] = [stream.readline().strip()]


def _dump_frame(k: int, items: dict[str, list[str]]) -> Frame:
    """One frame of a dump."""
    columns, rows = items["ATOMS"][0].split()[1:], items["ATOMS"][1:]
    n = int(items["NUMBER OF ATOMS"][0])
    must(len(rows) == n, "path", f"hold {n} atoms in frame {k}", f"it ends after {len(rows)}")
    named = next((c for c in ("element", "typelabel", "type") if c in columns), None)
    triples = [["x", "y", "z"], ["xu", "yu", "zu"], ["xs", "ys", "zs"], ["xsu", "ysu", "zsu"]]
    place = next((t for t in triples if set(t) <= set(columns)), None)
    if place is None or named is None:
        fail("path", "have columns for positions and types", f"frame {k} has `{' '.join(columns)}`")
    texts = {"element", "typelabel", "type"}
    take = [c for c in columns if c in {"id", named, "mass", "vx", "vy", "vz", *place}]
    kinds = [(c, "U32" if c in texts else np.int64 if c == "id" else float) for c in take]
    data = np.loadtxt(rows, dtype=kinds, usecols=[columns.index(c) for c in take], ndmin=1, comments=None)
    if "id" in take:
        data = data[np.argsort(data["id"], kind="stable")]
    cell, origin, periodic = _box(items["BOX"])
    x = np.stack([data[c] for c in place], axis=1)
    moving = {"vx", "vy", "vz"} <= set(take)
    return Frame(
        names=[str(s) for s in data[named]],
        x=origin + x @ cell if place[0].startswith("xs") else x,
        v=np.stack([data[c] for c in ("vx", "vy", "vz")], axis=1) if moving else None,
        p=None,
        masses=np.array(data["mass"]) if "mass" in take else None,
        cell=cell,
        periodic=periodic,
        time=float(items["TIME"][0]) if "TIME" in items else None,
    )


def _box(lines: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cell vectors in rows, origin and periodicity of `ITEM: BOX BOUNDS`: orthogonal, triclinic or general."""
    words = lines[0].split()[2:]
    rows = np.array([[float(w) for w in line.split()] for line in lines[1:]])
    flags = [w for w in words if len(w) == 2 and set(w) <= set("pfsm")]
    periodic = np.array([w == "pp" for w in flags] if len(flags) == 3 else [True] * 3)
    if "abc" in words:
        return rows[:, :3], rows[:, 3], periodic
    xy, xz, yz = rows[:, 2] if rows.shape[1] > 2 else (0.0, 0.0, 0.0)
    low, high = rows[:, 0].copy(), rows[:, 1].copy()  # bounds of the box's hull
    low[0] -= min(0.0, xy, xz, xy + xz)
    high[0] -= max(0.0, xy, xz, xy + xz)
    low[1] -= min(0.0, yz)
    high[1] -= max(0.0, yz)
    lx, ly, lz = high - low
    return np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]]), low, periodic
