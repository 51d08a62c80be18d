"""Datasets carry units and equations, and files are whole or not there."""

import json
import math
import os

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import store
from jaxmd_iz.checks import InputError
from jaxmd_iz.fields import Fields
from jaxmd_iz.moments import Moments
from jaxmd_iz.statistics import FieldSeries
from jaxmd_iz.units import units

DIMS = {
    **dict.fromkeys(("rho", "E", "T", "P"), ()),
    **dict.fromkeys(("momentum", "u", "q", "q_kinetic", "q_potential", "F"), ("i",)),
    **dict.fromkeys(("sigma", "sigma_kinetic", "sigma_potential"), ("i", "j")),
    "number_density": ("species",),
}


def make_series(y, times=2, groups=4, full=True, axis=None, seed=0):
    """A series of random moments of two species without r and w; point 0 is vacuum crossed by bonds."""
    y = np.asarray(y, float)
    rng = np.random.default_rng(seed)
    dim, count = y.shape[1], len(y)

    def noise(*shape):
        a = 0.05 * rng.normal(size=(times, groups, count, *shape))
        a[:, :, 0] = 0.0
        return a

    there = np.arange(count) > 0
    rho = there * (1 + 0.3 * np.sin(y[:, 0])) + noise()
    k = rho[..., None, None] * np.eye(dim) + noise(dim, dim)
    raw = {
        "rho": rho,
        "number": np.stack([0.7 * rho, 0.3 * rho], -1),
        "momentum": noise(dim),
        "energy_kinetic": dim * rho / 2,
        "energy_potential": -3 * rho,
        "k": (k + np.swapaxes(k, -2, -1)) / 2,
        "s": np.eye(dim) + 0 * noise(dim, dim),
        "j_kinetic": noise(dim),
        "j_potential": noise(dim),
        "r": 0 * noise(dim, dim),
        "force": 0 * noise(dim),
        "power": 0 * noise(),
    }
    weight = np.full((times, groups), 8.0)
    weight[:, 1 if not full else groups :] = 0.0
    m = {key: np.mean(a[:, : 1 if not full else groups], axis=1) for key, a in raw.items()}
    u = np.where(there[:, None], m["momentum"] / np.where(there, m["rho"], 1.0)[..., None], 0.0)
    kinetic = m["rho"][..., None, None] * u[..., :, None] * u[..., None, :] - m["k"]
    q_kinetic = m["j_kinetic"] - m["energy_kinetic"][..., None] * u + np.einsum("...ij,...j->...i", kinetic, u)
    q_potential = m["j_potential"] - m["energy_potential"][..., None] * u + np.einsum("...ij,...j->...i", m["s"], u)
    values = {
        "rho": m["rho"],
        "number_density": m["number"],
        "momentum": m["momentum"],
        "u": u,
        "E": m["energy_kinetic"] + m["energy_potential"],
        "T": there * (1 + 0.1 * m["rho"]),
        "sigma": kinetic + m["s"],
        "sigma_kinetic": kinetic,
        "sigma_potential": m["s"],
        "q": q_kinetic + q_potential,
        "q_kinetic": q_kinetic,
        "q_potential": q_potential,
        "F": m["force"],
        "P": m["power"],
    }
    errors = {key: np.full(a.shape, 0.02 if full else np.inf) for key, a in values.items()}
    valid = jnp.asarray(np.broadcast_to(there, (times, count)))
    return FieldSeries(
        time=jnp.asarray(np.arange(times) * 0.5),
        y=jnp.asarray(y),
        fields=Fields(**{key: jnp.asarray(a) for key, a in values.items()}, valid=valid),
        errors=Fields(**{key: jnp.asarray(a) for key, a in errors.items()}, valid=valid),
        moments=Moments(
            **{key: jnp.asarray(a * weight.reshape(weight.shape + (1,) * (a.ndim - 2))) for key, a in raw.items()}
        ),
        weight=jnp.asarray(weight),
        w=jnp.zeros((times, dim)),
        axis=axis,
    )


def line(count, dim=3):
    y = np.zeros((count, dim))
    y[:, 0] = np.arange(count) * 0.5
    return y


@pytest.fixture(scope="module")
def series():
    return make_series(line(6), axis=0)


def test_netcdf_comes_back_with_every_variable_dimension_unit_and_equation(series, tmp_path):
    made = store.to_dataset(series, "metal", ("Si", "Ge"), config='[units]\nsystem = "metal"\n', seed=3)
    store.write_netcdf(made, tmp_path / "fields.nc")
    read = store.read_fields(tmp_path / "fields.nc")
    assert read.identical(made)
    for name, dims in DIMS.items():
        for variable in (name, f"{name}_err"):
            assert read[variable].dims == ("time", "y", *dims), variable
            assert read[variable].attrs["long_name"] and "(" in read[variable].attrs["equation"]
            assert read[variable].attrs["units"] == units("metal").label(store.FIELDS[name][0])
    assert read["valid"].dims == ("time", "y") and read["valid"].dtype == bool
    assert "valid_err" not in read
    for name in Moments.__dataclass_fields__:
        assert read[f"moment_{name}"].dims[:3] == ("time", "group", "y"), name
    assert read["group_weight"].dims == ("time", "group")
    assert read["sigma"].attrs["units"] == "eV/Å³" and read["q"].attrs["units"] == "eV/Å²/ps"
    assert "(3.8)" in read["sigma"].attrs["equation"] and "sign" in read["q"].attrs["equation"]
    assert list(read["species"].values) == ["Si", "Ge"] and list(read["i"].values) == ["x", "y", "z"]
    for key in ("version", "jax_version", "created_by"):
        assert read.attrs[key]
    assert read.attrs["dtype"] == "float64" and read.attrs["seed"] == 3 and "[units]" in read.attrs["config"]


def test_units_are_those_of_the_system(series):
    lj, metal = store.to_dataset(series, "lj"), store.to_dataset(series, "metal")
    to = units("metal")
    np.testing.assert_array_equal(lj["sigma"], series.fields.sigma)
    np.testing.assert_array_equal(metal["sigma"], series.fields.sigma)  # eV/Å³ has no time in it
    for name, quantity in (("u", "velocity"), ("q", "heat_flux"), ("T", "temperature"), ("time", "time")):
        np.testing.assert_allclose(to.to_internal(metal[name].values, quantity), lj[name].values, rtol=1e-14)
    np.testing.assert_allclose(to.to_internal(metal["q_err"].values, "heat_flux"), lj["q_err"].values, rtol=1e-14)
    assert lj["species"].values.tolist() == ["0", "1"]
    assert store.to_dataset(series, to).identical(metal)


def test_vacuum_is_nan_in_quotients_only(series):
    data = store.to_dataset(series, "lj")
    assert not data["valid"][:, 0].any() and data["valid"][:, 1:].all()
    for name in DIMS:
        nan = np.isnan(data[name].values)
        assert nan[:, 0].all() == (name in store.QUOTIENTS) and not nan[:, 1:].any(), name
    assert (data["rho"][:, 0] == 0).all() and (data["sigma_potential"][:, 0, 0, 0] == 1).all()


def test_unknown_errors_are_nan():
    series = make_series(line(3), full=False)
    assert np.isinf(np.asarray(series.errors.rho)).all()
    data = store.to_dataset(series, "lj")
    for name in DIMS:
        assert np.isnan(data[f"{name}_err"]).all(), name


def test_fields_follow_from_the_stored_moments(series):
    data = store.to_dataset(series, "metal")
    rho = data["moment_rho"].sum("group") / data["group_weight"].sum("group")
    np.testing.assert_allclose(rho, data["rho"], rtol=1e-13)
    mean = data["moment_momentum"].sum("group") / data["group_weight"].sum("group")
    np.testing.assert_allclose((mean / rho)[:, 1:], data["u"][:, 1:], rtol=1e-12)


def test_a_profile_has_the_distance_along_its_axis():
    way = np.array([1.0, 2.0, 2.0]) / 3
    y = np.arange(4)[:, None] * way
    data = store.to_dataset(make_series(y, axis=2), "lj")
    np.testing.assert_allclose(data["s"], np.arange(4), atol=1e-14)
    assert data["s"].dims == ("y",) and data["s"].attrs["units"] == "σ"
    assert "s" not in store.to_dataset(make_series(y), "lj").coords


@pytest.mark.parametrize("dim", [1, 2])
def test_lower_dimensions_have_their_own_axes_and_labels(dim):
    data = store.to_dataset(make_series(line(4, dim)), "metal", grid_shape=[4])
    assert [c for c in data.coords if c.startswith("y_")] == ["y_x", "y_y"][:dim]
    assert data.sizes["i"] == data.sizes["j"] == dim
    assert data["rho"].attrs["units"] == ("amu/Å" if dim == 1 else "amu/Å²")


def test_attributes_of_any_kind_are_stored(series, tmp_path):
    given = {"flag": True, "none": None, "list": [1, 2], "table": {"a": [1.5, "b"]}, "big": 2**70, "grid_shape": (3, 2)}
    store.write_netcdf(store.to_dataset(series, "lj", **given), tmp_path / "a.nc")
    attrs = store.read_fields(tmp_path / "a.nc").attrs
    assert attrs["flag"] == 1 and "none" not in attrs and attrs["big"] == str(2**70)
    assert list(attrs["list"]) == [1, 2] and json.loads(attrs["table"]) == {"a": [1.5, "b"]}


def test_wrong_names_or_grid_are_refused(series):
    with pytest.raises(InputError, match="Argument `species` must name 2 species, but there are 1 names"):
        store.to_dataset(series, "lj", ("Si",))
    with pytest.raises(InputError, match="Argument `grid_shape` must multiply to 6 points"):
        store.to_dataset(series, "lj", grid_shape=[2, 2])


def test_json_is_strict(tmp_path):
    data = {"a": math.nan, "b": [np.float64(np.inf), np.int64(3)], "c": jnp.asarray([1.0, jnp.nan]), "d": True, 5: "σ"}
    store.write_json(data, tmp_path / "s.json")

    def refuse(word):
        raise AssertionError(word)

    text = (tmp_path / "s.json").read_text(encoding="utf-8")
    read = json.loads(text, parse_constant=refuse)
    assert read == {"a": None, "b": [None, 3], "c": [1.0, None], "d": True, "5": "σ"}


@pytest.mark.parametrize("failing", ["replace", "fsync"])
@pytest.mark.parametrize("kind", ["netcdf", "json", "text"])
def test_a_failure_leaves_the_old_file_and_no_other(series, tmp_path, monkeypatch, failing, kind):
    path = tmp_path / "file"
    path.write_text("old")
    write = {
        "netcdf": lambda: store.write_netcdf(store.to_dataset(series, "lj"), path),
        "json": lambda: store.write_json({"a": 1}, path),
        "text": lambda: store.write_text("new", path),
    }[kind]

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(InputError, match=r"^Argument `path` must name a file that can be written, but .*No space"):
            write()
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]
    write()
    assert path.read_bytes()[:3] != b"old" and os.listdir(tmp_path) == ["file"]


def test_an_interruption_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.write_text("new", tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_one_sentence(series, tmp_path):
    for write in (lambda p: store.write_text("x", p), lambda p: store.write_netcdf(store.to_dataset(series, "lj"), p)):
        with pytest.raises(InputError, match=r"must name a file that can be written.*[Nn]o such file"):
            write(tmp_path / "missing" / "file")


def test_what_is_no_file_of_fields_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        store.read_fields(tmp_path / "missing.nc")
    (tmp_path / "text.nc").write_text("no NetCDF")
    with pytest.raises(InputError, match="must name a NetCDF file"):
        store.read_fields(tmp_path / "text.nc")
    import xarray

    xarray.Dataset({"a": ("b", [1.0])}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(InputError, match="must hold fields"):
        store.read_fields(tmp_path / "other.nc")
