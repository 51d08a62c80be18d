"""Configurations come out of every kind of file with their own numbers, once converted, or with one clear sentence."""

import gzip
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest

from jaxmd_iz.checks import InputError
from jaxmd_iz.snapshots import read_snapshots
from jaxmd_iz.units import convert, units

LJ500 = Path(__file__).parent / "data" / "lj500.extxyz"
X = np.array([[0.5, 1.0, 1.5], [2.0, 0.25, 3.0]])
V = np.array([[0.1, -0.2, 0.3], [-0.4, 0.5, -0.6]])


def write_xyz(
    path, x=(X,), v=(V,), names=("Si", "Si"), lattice="4 0 0 0 4 0 0 0 4", pbc="T T T", extra="", column="velocities"
):
    """An extended XYZ file; `v` None leaves the column out."""
    text = ""
    for a, b in zip(x, v if v is not None else [None] * len(x), strict=True):
        columns = "species:S:1:pos:R:3" + (f":{column}:R:3" if b is not None else "")
        text += f'{len(a)}\nLattice="{lattice}" Properties={columns} pbc="{pbc}" {extra}\n'
        rows = a if b is None else np.hstack([a, b])
        text += "".join(f"{name} {' '.join(map(repr, row.tolist()))}\n" for name, row in zip(names, rows, strict=True))
    path.write_text(text)
    return path


DUMP = """ITEM: UNITS
metal
ITEM: TIME
{time}
ITEM: TIMESTEP
{step}
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS {bounds}
ITEM: ATOMS {columns}
{rows}
"""
CUBE = "pp pp pp\n-1 3\n-1 3\n-1 3"


def dump(columns, rows, bounds=CUBE, step=0, time=0.0):
    return DUMP.format(columns=columns, rows=rows, bounds=bounds, step=step, time=time)


def test_lj500_has_the_numbers_of_the_reference(reference):
    lammps = np.load(reference / "lj" / "lj500_cut_shift.npz")
    for path in (reference / "lj" / "lj500.extxyz", LJ500):
        got = read_snapshots(path, "lj", species={"X": 1.0})
        np.testing.assert_array_equal(got.x[0], lammps["x"])
        np.testing.assert_array_equal(got.v[0], lammps["v"])
        np.testing.assert_allclose(got.cell, np.diag(lammps["box"]), rtol=1e-15)
        assert got.names == ("X",) and (got.masses == 1).all() and not got.configurational


def test_velocities_column_is_in_the_files_units(tmp_path):
    path = write_xyz(tmp_path / "a.xyz")
    metal = read_snapshots(path, "metal")
    np.testing.assert_array_equal(metal.x[0], X)
    np.testing.assert_allclose(units("metal").from_internal(metal.v[0], "velocity"), V, rtol=1e-15)
    lj = read_snapshots(path, "lj", species={"Si": 1.0})
    np.testing.assert_array_equal(lj.v[0], V)
    said = read_snapshots(write_xyz(tmp_path / "b.xyz", extra="units=atomic time=2.5"), "metal")
    given = read_snapshots(path, "metal", file_units="atomic")
    for got in (said, given):
        back = convert(units("metal").from_internal(got.v[0], "velocity"), "velocity", "metal", "atomic")
        np.testing.assert_allclose(back, V, rtol=1e-13)
        np.testing.assert_allclose(got.x[0], convert(X, "length", "atomic", "metal"), rtol=1e-14)
        np.testing.assert_allclose(got.cell, 4 * np.eye(3) * convert(1.0, "length", "atomic", "metal"), rtol=1e-14)
    assert given.time is None
    np.testing.assert_allclose(
        units("metal").from_internal(said.time, "time"), [convert(2.5, "time", "atomic", "metal")]
    )


@pytest.mark.parametrize("name", ["a.extxyz", "a.traj"])
def test_momenta_of_ase_give_the_velocities_of_ase(tmp_path, name):
    atoms = ase.Atoms("SiGe", X, cell=[4, 4, 4], pbc=True)
    atoms.set_velocities(V)
    ase.io.write(tmp_path / name, [atoms, atoms])
    masses = dict(zip(("Si", "Ge"), atoms.get_masses().tolist(), strict=True))
    for species in (None, masses, dict.fromkeys(masses)):
        got = read_snapshots(tmp_path / name, "metal", species=species)
        np.testing.assert_allclose(got.v, [V, V], rtol=1e-7)  # ASE's unit of time is the internal one; 8 digits in text
        np.testing.assert_allclose(got.masses, atoms.get_masses(), rtol=1e-15)
        assert got.names == ("Si", "Ge")


def test_momenta_in_other_systems_are_divided_by_the_mass(tmp_path):
    path = write_xyz(tmp_path / "a.xyz", names=("A", "Q"), extra="units=lj", column="momenta")
    got = read_snapshots(path, "lj", species={"Q": 4.0, "A": 2.0})
    np.testing.assert_array_equal(got.v[0], V / np.array([[2.0], [4.0]]))
    assert got.names == ("Q", "A") and got.species.tolist() == [1, 0] and got.masses.tolist() == [2.0, 4.0]
    with pytest.raises(InputError, match="Argument `species` must give masses"):
        read_snapshots(path, "lj")
    atomic = write_xyz(tmp_path / "b.xyz", extra="units=atomic", column="momenta")
    mass = float(ase.Atoms("Si").get_masses()[0])
    np.testing.assert_allclose(
        units("metal").from_internal(read_snapshots(atomic, "metal").v[0], "velocity"),
        convert(V / convert(mass, "mass", "metal", "atomic"), "velocity", "atomic", "metal"),
        rtol=1e-13,
    )


def test_dump_is_sorted_by_id_and_keeps_its_numbers(tmp_path):
    rows = (
        "2 1 2.0 0.25 -0.5 -0.4 0.5 -0.6\n1 2 0.5 1.0 1.5 0.1 -0.2 0.3",
        "1 2 0 0 0 0.1 -0.2 0.3\n2 1 1 1 1 -0.4 0.5 -0.6",
    )
    text = "".join(dump("id type x y z vx vy vz", r, step=k, time=0.5 * k) for k, r in enumerate(rows))
    (tmp_path / "a.dump").write_text(text)
    got = read_snapshots(tmp_path / "a.dump", "metal")
    np.testing.assert_array_equal(got.x, [[[0.5, 1.0, 1.5], [2.0, 0.25, -0.5]], [[0, 0, 0], [1, 1, 1]]])
    np.testing.assert_allclose(units("metal").from_internal(got.v, "velocity"), [V, V], rtol=1e-15)
    np.testing.assert_allclose(units("metal").from_internal(got.time, "time"), [0.0, 0.5])
    assert got.names == ("1", "2") and got.species.tolist() == [1, 0] and got.masses is None
    np.testing.assert_array_equal(got.cell, 4 * np.eye(3))
    named = read_snapshots(tmp_path / "a.dump", "metal", species={"Si": None, "Ge": 72.5})
    assert named.names == ("Si", "Ge") and named.masses.tolist() == [72.5, pytest.approx(28.085)]
    with gzip.open(tmp_path / "b.lammpstrj.gz", "wt") as stream:
        stream.write(text)
    last = read_snapshots(tmp_path / "b.lammpstrj.gz", "metal", frames=slice(-1, None))
    np.testing.assert_array_equal(last.x, got.x[1:])
    np.testing.assert_array_equal(last.v, got.v[1:])
    assert last.time.tolist() == got.time[1:].tolist()


def test_scaled_and_unwrapped_dump_coordinates_are_the_same_points(tmp_path):
    files = {
        "x": dump("id element x y z vx vy vz", "1 A 0.0 1.0 2.0 1 2 3\n2 B 2.0 0.5 -0.5 4 5 6"),
        "xs": dump("id element xs ys zs vx vy vz", "2 B 0.75 0.375 0.125 4 5 6\n1 A 0.25 0.5 0.75 1 2 3"),
        "xu": dump("element xu yu zu vx vy vz", "A 0.0 1.0 6.0 1 2 3\nB 2.0 0.5 -0.5 4 5 6"),
        "xsu": dump("id element mass xsu ysu zsu vx vy vz", "1 A 5 0.25 0.5 1.75 1 2 3\n2 B 6 0.75 0.375 0.125 4 5 6"),
    }
    got = {}
    for name, text in files.items():
        (tmp_path / name).write_text(text)  # known by what is in it
        got[name] = read_snapshots(tmp_path / name, "metal")
        assert got[name].names == ("A", "B")
        np.testing.assert_array_equal(got[name].v, got["x"].v)
        np.testing.assert_array_equal((got[name].x - got["x"].x) % 4.0, np.zeros((1, 2, 3)))
    np.testing.assert_array_equal(got["xs"].x, got["x"].x)
    assert got["xsu"].x[0, 0, 2] == 6.0 and got["xsu"].masses.tolist() == [5.0, 6.0]


def test_tilted_dump_boxes_are_the_cells_of_lammps(tmp_path):
    xy, xz, yz = 1.0, -0.5, 0.25  # lo = (0, 1, 2), lengths (4, 5, 6)
    bounds = f"xy xz yz pp pp pp\n-0.5 5.0 {xy}\n1.0 6.25 {xz}\n2.0 8.0 {yz}"
    (tmp_path / "a.dump").write_text(dump("id type xs ys zs", "1 1 0 0 0\n2 1 0.5 0.5 0.5", bounds))
    got = read_snapshots(tmp_path / "a.dump", "metal", configurational=True)
    np.testing.assert_allclose(got.cell, [[4, 0, 0], [xy, 5, 0], [xz, yz, 6]], rtol=1e-15)
    np.testing.assert_allclose(got.x[0, 0], [0, 1, 2], atol=1e-15)
    np.testing.assert_allclose(got.x[0, 1], np.array([0, 1, 2]) + got.cell.sum(0) / 2, rtol=1e-15)
    bounds = "abc origin pp pp pp\n4 0 0 0\n1 5 0 1\n-0.5 0.25 6 2"
    (tmp_path / "b.dump").write_text(dump("id type xs ys zs", "1 1 0 0 0\n2 1 0.5 0.5 0.5", bounds))
    general = read_snapshots(tmp_path / "b.dump", "metal", configurational=True)
    np.testing.assert_allclose(general.cell, got.cell, rtol=1e-15)
    np.testing.assert_allclose(general.x, got.x, atol=1e-14)


def test_frames_are_chosen_by_a_slice(tmp_path):
    path = write_xyz(tmp_path / "a.xyz", [X + 0.1 * k for k in range(5)], [V] * 5)
    got = read_snapshots(path, "metal", frames=slice(1, None, 2))
    np.testing.assert_allclose(got.x, [X + 0.1, X + 0.3])


def test_without_periodicity_there_is_no_cell(tmp_path):
    got = read_snapshots(write_xyz(tmp_path / "a.xyz", pbc="F F F"), "metal")
    assert got.cell is None


def test_flat_configurations_have_lower_dimensions(tmp_path):
    x, v = X * [1, 1, 0] + [0, 0, 0.5], V * [1, 1, 0]
    path = write_xyz(tmp_path / "a.xyz", [x], [v], lattice="4 0 0 1 5 0 0 0 1", pbc="T T F")
    got = read_snapshots(path, "lj", species={"Si": 1.0}, dimensions=2)
    np.testing.assert_array_equal(got.x[0], X[:, :2])
    np.testing.assert_array_equal(got.v[0], V[:, :2])
    np.testing.assert_array_equal(got.cell, [[4, 0], [1, 5]])
    for dim, says in ((3, "periodic along every direction or none"), (1, "must leave out constant coordinates only")):
        with pytest.raises(InputError, match=says):
            read_snapshots(path, "lj", species={"Si": 1.0}, dimensions=dim)
    with pytest.raises(InputError, match="`dimensions` must be 1, 2 or 3"):
        read_snapshots(path, "lj", dimensions=4)


def test_absent_velocities_are_refused_unless_configurational(tmp_path):
    path = write_xyz(tmp_path / "a.xyz", v=None)
    with pytest.raises(InputError, match=r"frame 0 .* neither velocities nor momenta.*--configurational"):
        read_snapshots(path, "metal")
    got = read_snapshots(path, "metal", configurational=True)
    assert got.configurational and got.v.shape == got.x.shape and not got.v.any()
    assert not read_snapshots(write_xyz(tmp_path / "b.xyz"), "metal", configurational=True).configurational


def nan(a):
    return np.where(a == a[1, 1], np.nan, a)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"x": [X, nan(X)], "v": [V, V]}, "must hold finite positions, but frame 1 of"),
        ({"v": [nan(V)]}, "must hold finite velocities, but frame 0 of"),
        ({"lattice": "4 0 0 8 0 0 0 0 4"}, "must have a cell of positive volume"),
        ({"lattice": "0 0 0 0 0 0 0 0 0"}, "must have a cell of positive volume"),
        ({"pbc": "T T F"}, "must be periodic along every direction or none, but .* not supported"),
        ({"names": ("Si", "Ge")}, "must give a mass for each species of the file, but `Ge` is not in `Si`"),
        ({"extra": "units=real"}, "`file_units` must be one of `lj`, `metal`, .* says `real`"),
        ({"extra": "units=lj"}, "`file_units` must be convertible to the run's `metal`, but they are `lj`"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path, options, says):
    path = write_xyz(tmp_path / "a.xyz", **options)
    with pytest.raises(InputError, match=f"^Argument .*{says}"):
        read_snapshots(path, "metal", species={"Si": 28.0})


def test_a_species_without_a_mass_is_refused(tmp_path):
    path = write_xyz(tmp_path / "a.xyz", names=("X", "X"))
    for system in ("lj", "metal"):
        assert read_snapshots(path, system).masses is None
        with pytest.raises(InputError, match=r"`species\.X` must have a mass, but none is given"):
            read_snapshots(path, system, species={"X": None})
    with pytest.raises(InputError, match="must have a positive mass, but it is -1"):
        read_snapshots(path, "lj", species={"X": -1.0})


def test_particles_and_cell_must_stay(tmp_path):
    one, two = write_xyz(tmp_path / "1"), write_xyz(tmp_path / "2", [X[:1]], [V[:1]], ("Si",))
    other = write_xyz(tmp_path / "3", names=("Si", "Ge"))
    grown = write_xyz(tmp_path / "4", lattice="5 0 0 0 5 0 0 0 5")
    for more, says in (
        (two, "must keep the number of atoms, but frame 0 has 2 and frame 1 has 1"),
        (other, "must keep the species in one order, but frame 1"),
        (grown, "must keep the cell, but frame 1 .* Barostats are not supported"),
    ):
        (tmp_path / "a.xyz").write_text(one.read_text() + more.read_text())
        with pytest.raises(InputError, match=f"^Argument `path` {says}"):
            read_snapshots(tmp_path / "a.xyz", "metal")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.xyz", "", "must hold at least one frame, but .* is empty"),
        ("a.xyz", "2\nProperties=species:S:1:pos:R:3\nSi 0 0 0\n", "must hold 2 atoms in frame 0, but it ends after 1"),
        ("a.xyz", "1\nProperties=species:S:1:pos:R:3\nSi 0 zero 0\n", "must name a file that can be read, but"),
        ("a.unheard", "what is this", "must name a file that can be read, but"),
        ("a.dump", "x", "must begin with `ITEM:` if it is a LAMMPS text dump"),
        ("a.dump", "ITEM: TIMESTEP\n0\n", "must hold at least one frame"),
        ("a.dump", dump("id type x y z", "1 1 0 0 0"), "must hold 2 atoms in frame 0, but it ends after 1"),
        ("a.dump", dump("id type fx fy fz", "1 1 0 0 0\n2 1 0 0 0"), "must have columns for positions and types"),
        ("a.dump", dump("id type x y z", "1 1 0 0 0\n2 1 0 no 0"), "must name a file that can be read, but"),
        ("a.dump", dump("id type x y z", "1 1 0 0 0\n2 1 0 0 0", CUBE.replace("pp", "ff", 1)), "periodic along every"),
    ],
)
def test_an_unreadable_file_is_one_sentence(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=f"^Argument `path` .*{says}"):
        read_snapshots(tmp_path / name, "metal", configurational=True)


def test_a_missing_file_or_frame_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"^Argument `path` must name a file, but .* does not exist"):
        read_snapshots(tmp_path / "missing.xyz", "metal")
    with pytest.raises(InputError, match=r"must hold at least one frame, but .* holds none that was asked for"):
        read_snapshots(write_xyz(tmp_path / "a.xyz"), "metal", frames=slice(5, None))
