"""The tests notice when a line is wrong: a sign in σ or q, a weight, a bound of a clip, each in a copy of the package.

Run by hand, `-m physical_validation`: some minutes. It shows that no law here is held by a test that cannot fail.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: A line of a file of the package, what is put in its place, and the tests that must then fail.
MUTATIONS = [
    ("fields.py", "flow - moments.k  # (3.8)", "flow + moments.k", "test_hardy.py"),
    (
        "fields.py",
        "moments.j_kinetic - moments.energy_kinetic",
        "moments.j_kinetic + moments.energy_kinetic",
        "test_hardy.py",
    ),
    (
        "fields.py",
        '- jnp.einsum("...lj,...j->...l", moments.r',
        '+ jnp.einsum("...lj,...j->...l", moments.r',
        "test_invariance.py",
    ),
    (
        "fields.py",
        '+ jnp.einsum("...lj,...j->...l", sigma_pot',
        '- jnp.einsum("...lj,...j->...l", sigma_pot',
        "test_hardy.py",
    ),
    ("moments.py", "-(confinement + external),", "confinement + external,", "test_laws.py"),
    ("pair_split.py", "Bonds(i, j, d, -r, r, g,", "Bonds(i, j, d, r, r, g,", "test_laws.py"),
    (
        "mollifiers.py",
        "low = jnp.clip((b - root) / safe, -0.5,",
        "low = jnp.clip((b - root) / safe, -0.4,",
        "test_mollifiers.py",
    ),
    (
        "windows.py",
        "jnp.maximum(low, jnp.minimum(one, two))",
        "jnp.minimum(low, jnp.minimum(one, two))",
        "test_mollifiers.py",
    ),
    ("gibbs.py", "return (system.levels(x, neighbours) +", "return (-system.levels(x, neighbours) +", "test_gibbs.py"),
    ("nonlinear.py", '"paper": 0.25', '"paper": 0.26', "test_surfaces.py"),
    ("statistics.py", "/ each(jnp.sqrt(others))", "/ each(others)", "test_statistics.py"),
    ("neighbours.py", "axis=-1)) > (self.skin / 2) ** 2", "axis=-1)) > self.skin**2", "test_neighbours.py"),
    (
        "integrators.py",
        "phase.x + step * p / masses[:, None]\n    new",
        "phase.x - step * p / masses[:, None]\n    new",
        "test_dynamics.py",
    ),
]


@pytest.mark.physical_validation
@pytest.mark.parametrize(("file", "line", "wrong", "tests"), MUTATIONS, ids=[f"{m[0]}: {m[2]}" for m in MUTATIONS])
def test_a_wrong_line_is_noticed(file, line, wrong, tests, tmp_path):
    shutil.copytree(ROOT / "jaxmd_iz", tmp_path / "jaxmd_iz", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    changed = tmp_path / "jaxmd_iz" / file
    text = changed.read_text(encoding="utf-8")
    assert text.count(line) == 1
    changed.write_text(text.replace(line, wrong), encoding="utf-8")
    here = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-n0", "-q", "-x", "--no-header", f"tests/{tests}"]
    done = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True)
    assert done.returncode == 1 and " failed" in done.stdout, done.stdout[-2000:]  # 1: a test failed; not 2: broken
    assert "ImportError" not in done.stdout and "SyntaxError" not in done.stdout
