"""The README says what is true: its keys, its commands, its Python example."""

import re
from pathlib import Path

import jax
import pytest

from jaxmd_iz import config

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")


def test_every_key_of_the_configuration_is_documented():
    for line in config.describe().strip().splitlines():
        assert line in README


def test_every_example_is_named():
    for name in config.examples():
        assert f"`{name}`" in README


def test_ci_runs_the_test_command():
    ci = (Path(__file__).resolve().parent.parent / ".ci/run").read_text()
    command = "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/pytest"
    assert command in README
    assert command in ci


def test_named_files_exist():
    root = Path(__file__).resolve().parent.parent
    for name in re.findall(r"`(tests/\w+\.py)`", README):
        assert (root / name).exists(), name
    for name in re.findall(r"`(\w+\.py)[:`]", README):
        assert (root / "jaxmd_iz" / name).exists(), name


def test_python_example_runs():
    code = re.search(r"```python\n(.*?)```", README, re.S)
    assert code is not None
    names: dict = {}
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        exec(compile(code.group(1), "README", "exec"), names)
    assert float(names["fields"].residuals.max()) < 1e-12
    assert {"rho", "sigma", "q", "sigma_err"} <= set(names["dataset"].variables)
    step = 1e-4  # central differences of a smooth function: error step² ~ 1e-8 of the derivative, rounding below
    slope = (names["stress"](0.1 + step) - names["stress"](0.1 - step)) / (2 * step)
    assert float(jax.grad(names["stress"])(0.1)) == pytest.approx(float(slope), rel=1e-6)
