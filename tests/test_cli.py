"""The command line: outputs of a run, and one sentence with exit code 2 for bad input."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from jaxmd_iz import cli

DATA = Path(__file__).parent / "data"
TINY = (
    "density.samples=2",
    "density.burn_in=2",
    "density.number=27",
    "dynamics.steps=4",
    "dynamics.every=2",
    "grid.profile=4",
    "potential.cutoff=1.5",
)
FIELDS = "rho number_density momentum u E T sigma sigma_kinetic sigma_potential q q_kinetic q_potential F P".split()


def run(*arguments: str) -> None:
    cli.main(list(arguments))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    out = tmp_path_factory.mktemp("measured")
    sets = ("grid.profile=6", "potential.truncation=shift", "mollifier.epsilon=1.2", "dynamics.neighbours=list")
    run("measure", "lj_liquid", str(DATA / "lj500.extxyz"), "--out", str(out), "--set", *sets)
    return out


def test_measure_gives_the_pressure_of_lammps(measured):
    summary = json.loads((measured / "summary.json").read_text())
    reference = np.load(DATA / "lj500_cut_shift.npz")
    assert summary["pressure"] == pytest.approx(float(reference["press"]), rel=1e-10)
    degrees = 3 * (len(reference["x"]) - 1)
    assert summary["temperature"] == pytest.approx(2 * float(reference["ke"]) / degrees, rel=1e-10)
    for law in ("mass", "momentum", "energy"):
        assert summary[f"{law}_residual"] < 1e-12


def test_fields_file_has_every_variable_with_units_and_errors(measured):
    data = xr.open_dataset(measured / "fields.nc", engine="h5netcdf")
    for name in FIELDS:
        assert "units" in data[name].attrs
        assert f"{name}_err" in data
    assert {"time", "y", "i", "j", "group"} <= set(data.dims)
    assert "lennard_jones" in data.attrs["config"]
    assert "<html" in (measured / "report.html").read_text(encoding="utf-8")


def test_run_of_two_states_writes_everything(tmp_path, capsys):
    run(
        "run",
        "two_state_fluid",
        "--out",
        str(tmp_path),
        "--set",
        *TINY,
        "grid.shape=[2,2,2]",
        "surfaces.correction=none",
        "output.vtk=true",
    )
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert sum(summary["q_star"]) == pytest.approx(1, abs=1e-12)
    assert len(summary["residuals"]) == 3
    plain = {"fields.nc", "fields_grid.nc", "summary.json", "report.html"}
    found = {p.name for p in tmp_path.iterdir()}
    assert plain | {"fields.pvd", "fields_grid.pvd"} <= found
    assert {Path(n).suffix for n in found - plain} == {".pvd", ".vtp", ".vti"}
    assert "q_j*" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("run", "no_such_example"), "config"),
        (("run", "lj_liquid", "--set", "potential.cutof=3"), "Did you mean `cutoff`?"),
        (("run", "lj_liquid", "--set", "density.temperature=-1"), "density.temperature"),
        (("run", "lj_liquid", "--set", "potential.kind=coulomb"), "not supported"),
        (
            ("run", "lj_liquid", "--set", "space.cell=[4,4,4]", "density.number_density=0.5", "density.number=32"),
            "half",
        ),
        (("run", "two_state_fluid", "--set", "split.kind=distance"), "split"),
        (("measure", "lj_liquid", "nowhere.extxyz"), "nowhere.extxyz"),
        (("run", "lj_liquid", "--out", "/proc/no/folder"), "out"),
        (("models", "tully_4"), "Did you mean `tully_"),
        (
            (
                *(
                    "run",
                    "leps_h3",
                    "--set",
                    "potential.model=spin_boson",
                    "space.dimensions=1",
                    "species.H=",
                    "split.kind=energy",
                ),
                *("grid.shape=[]", "grid.profile=8", "grid.lower=[-1]", "grid.upper=[1]"),
            ),
            "is a model of normal modes",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, part, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert part in said
    assert said.startswith("jaxmd-iz: Argument `")
    assert said.count("\n") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ((), "Expected one of {demo, run,"),
        (("rnu", "lj_liquid"), "Unrecognized options: rnu, lj_liquid"),
        (("run",), "Missing from jaxmd-iz run: "),
        (("run", "lj_liquid", "--foo", "3"), "Unrecognized options: --foo, 3"),
        (("run", "lj_liquid", "--checkpoint-every", "soon"), "could not convert string to float: 'soon'"),
        (("run", "lj_liquid", "--out"), "Missing value for argument '--out'"),
        (("measure", "lj_liquid"), "Missing from jaxmd-iz measure: "),
    ],
)
def test_a_command_line_that_cannot_be_read_is_one_sentence(arguments, part, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    out, said = capsys.readouterr()
    assert stopped.value.code == 2 and out == ""
    assert said.startswith("jaxmd-iz: ") and part in said and said.count("\n") == 1
    assert said.endswith("--help` tells what there is.\n") and not set("│╭╰─") & set(said)
