"""Macroscopic data of a configuration: profiles, files, what is refused, and a run that starts from them."""

import json
from contextlib import contextmanager

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from jaxmd_iz import commands, config
from jaxmd_iz.build import macroscopic, space_of, start_of
from jaxmd_iz.checks import InputError
from jaxmd_iz.interrupts import Stopped
from jaxmd_iz.local_gibbs import natural
from jaxmd_iz.matching import Data, Matched
from jaxmd_iz.summary import furthest
from jaxmd_iz.units import units

BASE = """
[space]
dimensions = 2
cell = [4.0, 8.0]
[potential]
kind = "lennard_jones"
cutoff = 1.9
truncation = "force_shift"
[mollifier]
kind = "cubic"
epsilon = 1.5
[grid]
profile = 8
[macroscopic]
points = 4
chains = 48
burn_in = 12
iterations = 3
[density]
kind = "local"
temperature = 1.5
number = 16
samples = 16
burn_in = 16
leapfrog = 4
step = 0.03
[dynamics]
steps = 4
every = 2
"""


def data(*changes):
    """The macroscopic data, cells and line of the configuration with changes."""
    settings = config.loads(BASE, changes)
    space = space_of(settings)
    cells, line = macroscopic.cells_of(settings, space)
    return macroscopic.data_of(settings, cells, line, start_of(settings, None).masses), cells, line


def test_cells_are_a_partition_of_the_cell_along_its_axis():
    found, cells, line = data()
    np.testing.assert_allclose(cells.y[:, 1], [1, 3, 5, 7])
    np.testing.assert_allclose(cells.volume, 8.0)
    assert cells.mollifier.radius == line.spacing == 2.0
    np.testing.assert_allclose(found.rho, 16 / 32)  # 16 particles of mass 1
    np.testing.assert_allclose(found.temperature, 1.5)
    assert found.energy is None and not np.any(found.momentum)
    other, cells, _ = data("macroscopic.axis=x")
    np.testing.assert_allclose(cells.y[:, 0], [0.5, 1.5, 2.5, 3.5])
    np.testing.assert_allclose(other.rho, 0.5)


def test_profiles_have_their_shapes():
    """`step` is 1 in the middle half, `sine` a wave of the cell, `gaussian` a hump; ρ keeps the particles' mass."""
    found, _, line = data(
        "macroscopic.points=16", 'macroscopic.rho={kind="sine", amplitude=0.2}',
        'macroscopic.T={kind="step", value=1.0, amplitude=0.5, width=0.01}',
        'macroscopic.u={kind="gaussian", amplitude=2.0, width=0.7, centre=2.0, component="y"}',
    )  # fmt: skip
    s = line.s
    np.testing.assert_allclose(found.rho, 0.5 + 0.2 * np.sin(2 * np.pi * s / 8), rtol=1e-12)
    np.testing.assert_allclose(found.temperature, np.where((s > 2) & (s < 6), 1.5, 1.0), rtol=1e-12)
    hump = 2.0 * sum(np.exp(-((s - 2 + m * 8) ** 2) / (2 * 0.49)) for m in (-1, 0, 1))
    np.testing.assert_allclose(found.momentum[:, 1] / found.rho, hump, rtol=1e-12)
    assert not np.any(found.momentum[:, 0])


TABLE = "s, rho, u_x, T\n1, 0.4, 0.1, 1.0\n3, 0.5, 0.2, 1.5\n5, 0.6, 0.1, 2.0\n7, 0.5, 0.0, 1.5\n"


def test_a_table_is_read_and_scaled_to_the_particles(tmp_path):
    """A CSV file whose mass is off by 0.5 % is scaled; comments are skipped; the points are those of the file."""
    path = tmp_path / "data.csv"
    path.write_text("# of another run\n" + TABLE.replace("7, 0.5", "7, 0.51"))
    found, cells, _ = data(f"macroscopic.data={path}", "macroscopic.points=12")
    assert cells.y.shape == (4, 2)
    np.testing.assert_allclose(np.sum(np.asarray(found.rho)) * 8, 16, rtol=1e-12)
    np.testing.assert_allclose(found.rho[1] / found.rho[0], 1.25, rtol=1e-12)
    np.testing.assert_allclose(found.momentum[:, 0] / found.rho, [0.1, 0.2, 0.1, 0.0], atol=1e-12)
    np.testing.assert_allclose(found.temperature, [1.0, 1.5, 2.0, 1.5])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("s, T\n1, 1\n3, 1\n5, 1\n", "have a column `rho`"),
        (TABLE.replace("T", "Q"), "have a column `T` or a column `E`"),
        (TABLE.replace("0.6", "nan"), "have three or more rows of finite numbers"),
        (TABLE.replace("5, 0.6", "5.5, 0.6"), "have the points s = 1, 3, …, 7"),
        (TABLE.replace("0.6", "1.6"), "hold the mass 16 of the particles, but its ρ integrates to 24"),
        (TABLE.replace("2.0", "-2.0"), "`macroscopic.T` must be positive everywhere"),
        (TABLE.replace("0.6, 0.1", "0.6"), "cannot be read"),
        ("", "have a column `s`"),
        ("\x00\x01\xff", "have a column `s`"),
    ],
)
def test_bad_tables_are_refused_in_a_sentence(tmp_path, text, sentence):
    path = tmp_path / "data.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=sentence):
        data(f"macroscopic.data={path}")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["macroscopic.data=nowhere.csv"], "`macroscopic.data` must name a CSV file"),
        (["density.kind=canonical"], "`macroscopic` must be left out"),
        (["macroscopic.axis=z"], "`macroscopic.axis` must be one of `x`, `y` in 2 dimensions"),
        (["macroscopic.points=2"], "`macroscopic.points` must be a whole number of 3 or more"),
        (["macroscopic.T={amplitude=1.0}"], "`macroscopic.T.amplitude` must be left out for kind `constant`"),
        (['macroscopic.T={kind="wave"}'], "`macroscopic.T.kind` must be one of"),
        (['macroscopic.T={kind="sine", value=1.0, amplitude=1.5}'], "`macroscopic.T` must be positive everywhere"),
        (['macroscopic.rho={kind="sine", amplitude=0.9}'], "`macroscopic.rho` must be positive everywhere"),
        (["macroscopic.E.value=1.0", "macroscopic.T.value=1.0"], "`macroscopic.E` must be left out"),
        (["macroscopic.data=a.csv", "macroscopic.T.value=1.0"], "`macroscopic.T` must be left out with"),
        (["density.temperature="], "`density.temperature` must be given for kind `local`"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        data(*changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run from a temperature step and a shear wave, and its folder."""
    out = tmp_path_factory.mktemp("local")
    changes = ['macroscopic.T={kind="sine", value=1.5, amplitude=0.4}', 'macroscopic.u={kind="sine", amplitude=0.5}']
    settings = config.loads(BASE, changes)
    return settings, commands.run(settings, out, progress=False), out


def test_a_run_from_macroscopic_data_has_them_at_the_start(finished):
    """ρ, u_x and T at the points agree with the data within 4.5 standard errors of a mean (Student t, 15 degrees,
    24 values), and the summary says how they were found; every law holds to rounding in every frame."""
    _, summary, out = finished
    found = xr.load_dataset(out / "fields_macroscopic.nc", engine="h5netcdf")
    wanted, _, line = data(
        'macroscopic.T={kind="sine", value=1.5, amplitude=0.4}', 'macroscopic.u={kind="sine", amplitude=0.5}'
    )
    np.testing.assert_allclose(found["s"], line.s)
    first = found.isel(time=0)
    for name, value, error in (
        ("rho", wanted.rho, first["rho_err"]),
        ("momentum", wanted.momentum, first["momentum_err"]),
    ):
        assert np.all(np.abs(first[name].values - np.asarray(value)) < 4.5 * error.values + 1e-12), name
    assert float(first["T"][0]) > float(first["T"][2])  # the wave of T is there
    matching = summary["matching"]
    assert matching["rounds"] >= 2 and len(matching["mu"]) == 4 and matching["energy_residual"] is None
    assert matching["chi2"] <= 4 * matching["dof"] if matching["converged"] else summary["warnings"]
    assert json.loads((out / "summary.json").read_text())["matching"]["rounds"] == matching["rounds"]
    worst = [row[law] for row in summary["residuals"] for law in ("mass", "momentum", "energy")]
    assert len(worst) == 9 and max(worst) < 1e-12
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Macroscopic data" in page and "Temperature and chemical potential" in page


class Killed(Exception):
    """In place of a signal that nothing can catch."""


def test_an_interrupted_run_is_not_matched_again(finished, tmp_path, monkeypatch):
    settings, summary, out = finished

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(commands, "simulate", killed)
        commands.run(settings, tmp_path, progress=False)
    with pytest.raises(InputError, match="holds one after the matching"):
        commands.run(settings, tmp_path, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(commands, "matched_density", killed)
        again = commands.run(settings, tmp_path, progress=False, resume=True)
    assert {k: v for k, v in again["matching"].items() if k != "wall_s"} == {
        k: v for k, v in summary["matching"].items() if k != "wall_s"
    }
    for name in ("fields.nc", "fields_macroscopic.nc"):
        found, wanted = (xr.load_dataset(folder / name, engine="h5netcdf") for folder in (tmp_path, out))
        assert found.identical(wanted)


def test_a_signal_ends_the_matching_which_leaves_nothing(finished, tmp_path, monkeypatch):
    @contextmanager
    def heard():
        yield lambda: 15

    monkeypatch.setattr(commands, "heard", heard)
    with pytest.raises(Stopped, match="Stopped by SIGTERM before the first checkpoint"):
        commands.run(finished[0], tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_totals_of_the_box_are_conserved(finished):
    """Mass, momentum and, to the error of the scheme at this step, energy of the whole box in every frame."""
    out = finished[2]
    fields = xr.load_dataset(out / "fields_macroscopic.nc", engine="h5netcdf")
    volume = 8.0
    mass, momentum, energy = (volume * fields[name].sum("y").values for name in ("rho", "momentum", "E"))
    np.testing.assert_allclose(mass, 16.0, rtol=1e-13)
    np.testing.assert_allclose(momentum, np.broadcast_to(momentum[0], momentum.shape), atol=1e-12)
    np.testing.assert_allclose(energy, energy[0], rtol=2e-3)  # velocity Verlet, h = 0.005, averaged over 16 samples


def test_the_fields_of_a_run_are_data_of_another(finished, tmp_path):
    """`macroscopic.data` takes a `fields.nc`: the last frame of the points, here with T."""
    found, _, _ = data(f"macroscopic.data={finished[2] / 'fields_macroscopic.nc'}")
    last = xr.load_dataset(finished[2] / "fields_macroscopic.nc", engine="h5netcdf").isel(time=-1)
    np.testing.assert_allclose(found.rho, last["rho"], rtol=1e-12)
    np.testing.assert_allclose(found.temperature, last["T"], rtol=1e-12)
    np.testing.assert_allclose(found.momentum, last["momentum"], atol=1e-12)


def test_the_point_furthest_from_the_data_is_named():
    """Of ρ = 0.5 with errors of 0.01 the third point is 0.3 short: 30 errors, where E is 2 errors off everywhere."""
    rho, energy = np.full(4, 0.5), np.full(4, -1.0)
    short = Data(jnp.asarray([0.0, 0.01, -0.3, 0.0]), jnp.zeros((4, 3)), jnp.full(4, 0.2))
    error = Data(jnp.full(4, 0.01), jnp.full((4, 3), 0.1), jnp.full(4, 0.1))
    theta = natural(jnp.ones(4), jnp.zeros((4, 3)), jnp.zeros(4))
    found = Matched(theta, theta, short, error, 9.0, 1.0, 10.0, 1, 1, False, ())
    asked = Data(jnp.asarray(rho), jnp.zeros((4, 3)), jnp.asarray(energy))
    said = furthest(found, asked, np.arange(4) + 0.5, units("lj"))
    assert said == "ρ at s = 2.5 is 0.2 where 0.5 is asked"
