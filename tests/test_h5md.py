"""H5MD files give the numbers that were written, once converted, or one clear sentence."""

import h5py
import numpy as np
import pytest

from jaxmd_iz.checks import InputError
from jaxmd_iz.snapshots import read_snapshots
from jaxmd_iz.units import convert


def write_h5md(path, change=None, units=None, dim=3):
    """Three frames of two particles, with every element; `change` acts on the group of particles."""
    rng = np.random.default_rng(0)
    x, v = rng.normal(size=(2, 3, 2, dim))
    units = units or {}
    with h5py.File(path, "w") as file:
        file.create_group("h5md").attrs["version"] = [1, 1]
        group = file.create_group("particles/all")
        steps = [0, 10, 20]
        for name, value in (("position", x), ("velocity", v)):
            element = group.create_group(name)
            element["value"], element["step"], element["time"] = value, steps, np.array(steps) * 0.5
            if name in units:
                element["value"].attrs["unit"] = units[name]
                element["time"].attrs["unit"] = units["time"]
        group["mass"] = [2.0, 3.0]
        kinds = h5py.enum_dtype({"B": 4, "A": 7}, basetype="i4")
        group.create_dataset("species", data=[7, 4], dtype=kinds)
        box = group.create_group("box")
        box.attrs["dimension"], box.attrs["boundary"] = dim, ["periodic"] * dim
        box["edges"] = np.diag(np.arange(4.0, 4 + dim)) if dim > 2 else np.arange(4.0, 4 + dim)
        if units:
            group["mass"].attrs["unit"], box["edges"].attrs["unit"] = units["mass"], units["box"]
        if change:
            change(group)
    return path, x, v


def test_h5md_has_the_numbers_that_were_written(tmp_path):
    path, x, v = write_h5md(tmp_path / "a.h5")
    got = read_snapshots(path, "lj")
    np.testing.assert_array_equal(got.x, x)
    np.testing.assert_array_equal(got.v, v)
    assert got.names == ("A", "B") and got.masses.tolist() == [2, 3] and got.time.tolist() == [0, 5, 10]
    np.testing.assert_array_equal(got.cell, np.diag([4, 5, 6]))
    last = read_snapshots(path, "lj", frames=slice(-1, None))
    np.testing.assert_array_equal(last.x, x[2:])
    units = {"position": "nm", "velocity": "nm+1 ps-1", "time": "fs", "mass": "u", "box": "nm"}
    metal = read_snapshots(write_h5md(tmp_path / "b.h5", units=units)[0], "metal")
    np.testing.assert_allclose(metal.x, 10 * x)
    np.testing.assert_allclose(metal.v, convert(10 * v, "velocity", "metal", "ase"), rtol=1e-7)
    np.testing.assert_allclose(metal.time, convert(np.array([0, 5e-3, 1e-2]), "time", "metal", "ase"), rtol=1e-7)
    np.testing.assert_allclose(metal.cell, np.diag([40, 50, 60]))

    def moving_box(group):
        edges = group["box/edges"][()]
        del group["box/edges"], group["species"]
        group["box/edges/value"] = np.stack([edges] * 3)
        group["position/time"][...] = [0.0, 0.0, 0.0]

    flat = read_snapshots(write_h5md(tmp_path / "c.h5", moving_box, dim=2)[0], "lj", species={"X": 1.0}, dimensions=2)
    assert flat.x.shape == (3, 2, 2) and flat.cell.tolist() == [[4, 0], [0, 5]] and flat.names == ("X",)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda g: g.pop("position"), "has none"),
        (lambda g: g.pop("velocity"), "neither velocities nor momenta"),
        (lambda g: g.parent.create_group("more"), "hold one group of `/particles`"),
        (lambda g: g["velocity/step"].write_direct(np.array([0, 1, 2])), "it is sampled at others"),
        (lambda g: g["box"].attrs.pop("boundary"), "say the `boundary`"),
        (lambda g: g["box"].pop("edges"), "hold the edges"),
        (lambda g: g["position/value"].attrs.update(unit="nm"), "name the units of every element or of none"),
        (lambda g: g["position/value"].write_direct(np.full((3, 2, 3), np.nan)), "hold finite positions"),
        (lambda g: (g.pop("mass"), g.create_dataset("mass", data=[1.0])), "hold `mass` of shape"),
    ],
)
def test_h5md_that_does_not_fit_ends_in_one_sentence(tmp_path, change, says):
    path, _, _ = write_h5md(tmp_path / "a.h5", change)
    with pytest.raises(InputError) as error:
        read_snapshots(path, "lj")
    assert says in str(error.value) and "\n" not in str(error.value)


def test_damaged_h5md_and_unknown_units_end_in_one_sentence(tmp_path):
    path, _, _ = write_h5md(tmp_path / "a.h5")
    cut = tmp_path / "b.h5"
    cut.write_bytes(path.read_bytes()[:3000])
    units = {"position": "furlong", "velocity": "nm", "time": "ps", "mass": "u", "box": "nm"}
    odd = write_h5md(tmp_path / "c.h5", units=units)[0]
    swapped = write_h5md(tmp_path / "d.h5", units=units | {"position": "nm"})[0]
    for file, says in ((cut, "cannot"), (odd, "`furlong`"), (swapped, "units of velocity where they belong")):
        with pytest.raises(InputError, match=says):
            read_snapshots(file, "metal")
