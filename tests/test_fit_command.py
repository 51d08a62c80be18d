"""`jaxmd-iz fit`: flows from files to a fluid in files, and what it says of files that will not do."""

import json

import numpy as np
import pytest

from jaxmd_iz import config, fitted, store
from jaxmd_iz.checks import InputError
from jaxmd_iz.fit.models import read_model


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The example, as a user runs it."""
    out = tmp_path_factory.mktemp("fit")
    return out, fitted.fit(config.load("fit_newton_fourier"), out)


def test_the_example_predicts_the_flow_that_was_held_out(done):
    """To one and a half times the noise of the data; the rest is memory of the stress and finite wave numbers."""
    _, found = done
    assert found["held_out_error"] < 1.5 * found["held_out_noise"] < 0.2
    kinds = [row["held_out"] for row in found["flows"]]
    assert kinds == [False, False, True]


def test_the_coefficients_are_those_of_green_and_kubo(done):
    """Of the same fluid in equilibrium (README), within 3 standard errors of both; below a tenth (ζ: a fourth)."""
    _, found = done
    for name, value, error, most in (
        ("viscosity", 1.990, 0.053, 0.1),
        ("bulk_viscosity", 0.697, 0.052, 0.25),
        ("conductivity", 5.99, 0.18, 0.1),
    ):
        assert found[f"{name}_err"] < most * found[name]
        assert abs(found[name] - value) < 3 * np.hypot(found[f"{name}_err"], error), name


def test_files_hold_what_was_found(done):
    """Read back, the equation of state and the closure give the numbers of the summary."""
    out, found = done
    closure, eos = read_model(out / "closure.json"), read_model(out / "equation_of_state.json")
    assert float(closure.viscosity) == found["viscosity"]  # `lj` units are the internal ones
    np.testing.assert_allclose(eos.pressure(found["density"], found["temperature"]), found["pressure"], rtol=1e-12)
    assert json.loads((out / "summary.json").read_text(encoding="utf-8"))["held_out_error"] == found["held_out_error"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") >= 12 and "<script" not in page
    assert "held out: the fit never saw it" in page


def bad(change):
    """Fields of the package with one thing wrong."""
    fields = store.read_fields(fitted.path_of("lj_heat_wave"))
    return change(fields)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.drop_vars("s"), "be a profile along an axis"),
        (lambda d: d.isel(time=slice(0, 1)), "have two times or more"),
        (lambda d: d.isel(y=slice(0, 5)), "have 8 points or more at even distances"),
        (lambda d: d.isel(group=slice(0, 1)), "have two groups of samples or more"),
        (lambda d: d.drop_vars("moment_k"), "hold the raw moments"),
        (lambda d: d.assign(moment_rho=d["moment_rho"] * np.nan), "be finite"),
    ],
)
def test_fields_that_are_no_flow_are_refused_in_a_sentence(change, sentence, tmp_path):
    """Each names what is missing."""
    store.write_netcdf(bad(change), tmp_path / "fields.nc")
    settings = config.load("fit_newton_fourier", [f'fit.train=["{tmp_path / "fields.nc"}"]'])
    with pytest.raises(InputError, match=sentence):
        fitted.fit(settings, tmp_path / "out")


def test_no_flows_and_no_files_are_refused(tmp_path):
    """With what to write instead."""
    with pytest.raises(InputError, match=r"Argument `fit\.train` must name at least one file of fields"):
        fitted.fit(config.load("shear_wave"), tmp_path)
    settings = config.load("fit_newton_fourier", ['fit.train=["nowhere.nc"]'])
    with pytest.raises(InputError, match="must name a file of fields"):
        fitted.fit(settings, tmp_path)
    with pytest.raises(InputError, match=r"Argument `fit\.closure` must be one of"):
        config.load("fit_newton_fourier", ["fit.closure=magic"])
