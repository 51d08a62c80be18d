"""The README says what is true: its keys, its commands, its Python example. As a script it renews the help in it."""

import contextlib
import io
import os
import re
import shlex
import tomllib
from importlib import metadata
from pathlib import Path

import jax
import pytest

from jaxmd_iz import cli, config

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
HELP = re.compile(r"(<!-- help: begin.*? -->\n)(.*?)(<!-- help: end -->)", re.S)
COMMANDS = ("demo", "run", "measure", "verify", "models", "limit", "fit")

#: The commands of the README that are run by tests elsewhere, and where.
ELSEWHERE = {
    "python3 -m venv .venv && .venv/bin/pip install -q -e . && .venv/bin/jaxmd-iz demo": "test_cli.py",
    "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/pytest": "../.ci/run",
    "JAXMD_IZ_COORDINATOR=host:port JAXMD_IZ_PROCESSES=4 JAXMD_IZ_PROCESS=0 jaxmd-iz run CONFIG.toml --distributed": (
        "test_distributed.py"
    ),
    "jaxmd-iz fit fit_newton_fourier": "test_fit_command.py",
}
#: Those whose words alone are read here: what they do is run elsewhere too, under other names.
READ = {
    'jaxmd-iz fit fit_newton_fourier --set \'fit.train=["shear/fields.nc","heat/fields.nc"]\' '
    "'fit.held_out=[\"mixed/fields.nc\"]'": "test_fit_command.py",
    "pip install -q -e '.[test,lint]' && .venv/bin/ruff check . && .venv/bin/ruff format --check . && "
    ".venv/bin/pyright && .venv/bin/pytest": "test_layout.py",
}
#: Changes that make the others short, and show that each line is one that the program takes.
SHORT = (
    *("density.samples=2", "density.burn_in=2", "dynamics.steps=4", "dynamics.every=2", "grid.profile=4"),
    *("output.residual_points=2", "dynamics.average=ensemble"),
)
SMALL = (*SHORT, "space.dimensions=2", "density.number=9", "potential.cutoff=1.5", "grid.axis=y")
RUN = {
    "jaxmd-iz run lj_liquid --out lj": SMALL,
    "jaxmd-iz run lj_liquid --out lj --resume": SMALL,
    "jaxmd-iz measure lj_liquid tests/data/lj500.extxyz --set 'grid.shape=[5,5,5]' potential.truncation=shift --out "
    "lj500": (),
    "jaxmd-iz run lj_liquid --set density.kind=given density.start=tests/data/lj500.extxyz "
    "potential.truncation=force_shift dynamics.average=time dynamics.steps=200": SHORT[2:-1],
    "jaxmd-iz run temperature_step --out step": (
        *SHORT[:4],
        *("macroscopic.points=3", "density.number=24", "space.cell=[2.6,2.6,5.2]", "potential.cutoff=1.25"),
        *("mollifier.epsilon=1.0", "density.samples=16", "grid.profile=4"),
    ),
}


def lines() -> list[str]:
    """Every command in the shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.S)
    stripped = [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()]
    return [line.removeprefix(".venv/bin/") for line in stripped if line and not line.startswith("#")]


def pages() -> str:
    """`--help` of every command, folded."""
    os.environ["COLUMNS"] = "100"
    found = []
    for name in COMMANDS:
        with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
            cli.main([name, "--help"])
        text = "\n".join(line.rstrip() for line in said.getvalue().strip().splitlines())
        found.append(
            f"<details><summary><code>jaxmd-iz {name}</code></summary>\n\n```text\n{text}\n```\n\n</details>\n"
        )
    return "\n" + "\n".join(found) + "\n"


def test_every_key_of_the_configuration_is_documented():
    for line in config.describe().strip().splitlines():
        assert line in README


def test_every_example_is_named():
    for name in config.examples():
        assert f"`{name}`" in README


def test_ci_runs_the_test_command():
    assert "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/pytest" in lines()
    assert lines()[1] in (ROOT / ".ci/run").read_text()


def test_named_files_exist():
    for name in re.findall(r"`((?:tests|notebooks|bench)/[\w.]+)`", README):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`(\w+\.py)[:`]", README) + re.findall(r"`(\w+/(?:\w+\.py)?)[:`]", README):
        assert (ROOT / "jaxmd_iz" / name).exists() or (ROOT / name).exists(), name


def test_help_is_that_of_the_commands(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    found = HELP.search(README)
    assert found is not None
    assert found[2] == pages(), "the help has changed: run `.venv/bin/python tests/test_readme.py`"


def test_version_is_that_of_the_package():
    given = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"version = {{{given}}}" in README and metadata.version("jaxmd-iz") == given


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    there = tmp_path_factory.mktemp("reader")
    (there / "tests").symlink_to(ROOT / "tests")
    return there


@pytest.mark.parametrize("line", RUN)
def test_commands_run_as_they_stand(line, folder, monkeypatch):
    """In the order of the README, with changes that make them short."""
    assert line in lines()
    monkeypatch.chdir(folder)
    words = shlex.split(line)[1:]
    at = words.index("--set") if "--set" in words else len(words)
    words[at : at + 1] = ["--set"]
    last = next((k for k in range(at + 1, len(words)) if words[k].startswith("--")), len(words))
    words[last:last] = RUN[line]
    cli.main(words if words[at + 1 :] else words[:at])


def test_flows_of_others_are_taken_by_name():
    line = next(line for line in lines() if "shear/fields.nc" in line)
    settings = config.load("fit_newton_fourier", shlex.split(line)[4:])
    here = Path.cwd()
    assert [Path(name) for name in settings.fit.train] == [here / "shear/fields.nc", here / "heat/fields.nc"]
    assert [Path(name) for name in settings.fit.held_out] == [here / "mixed/fields.nc"]


def test_every_command_is_run_by_a_test():
    here = {*RUN, *ELSEWHERE, *READ}
    assert set(lines()) == here
    for name in (*ELSEWHERE.values(), *READ.values()):
        assert (ROOT / "tests" / name).exists()


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


if __name__ == "__main__":
    new = HELP.sub(lambda m: m[1] + pages() + m[3], README)
    (ROOT / "README.md").write_text(new, encoding="utf-8")
