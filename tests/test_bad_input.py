"""Bad input, wherever it comes from, is one sentence that names the argument, what it must be and what it is."""

import copy
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from importlib.resources import files
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from bad_files import FILES, fields
from bad_inputs import COMMANDS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxmd_iz import cli, config, store
from jaxmd_iz.checks import InputError
from jaxmd_iz.snapshots import read_snapshots

#: Configurations that are good, as TOML has them.
GOOD = [tomllib.loads((files("jaxmd_iz") / "examples" / f"{name}.toml").read_text(encoding="utf-8"))
        for name in ("lj_liquid", "two_state_fluid", "density_wave", "h2_h2", "limit_1d")]  # fmt: skip


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with the files of the cases."""
    folder = tmp_path_factory.mktemp("bad")
    for name, content in FILES.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    fields(folder)
    return folder


def everything(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_dir()}


def is_one_sentence(said: str) -> None:
    """It names the argument, what it must be and what it is, and is no longer than one reads."""
    assert said.startswith("Argument `") and " must " in said and ", but " in said, said
    assert said.rstrip()[-1] in ".?" and len(said) < 1500, said


@pytest.mark.parametrize(("line", "words"), COMMANDS, ids=[line[:90] for line, _ in COMMANDS])
def test_a_command_refuses_in_one_sentence(line, words, here, capsys, monkeypatch):
    monkeypatch.chdir(here)
    before = everything(here)
    with pytest.raises(SystemExit) as stopped:
        cli.main(shlex.split(line))
    out, err = capsys.readouterr()
    assert stopped.value.code == 2
    said = err.rpartition("\r")[2]  # what comes before is a bar that has been wiped away
    assert said.startswith("jaxmd-iz: ") and err.endswith("\n") and err.count("\n") == 1, err
    is_one_sentence(said.removeprefix("jaxmd-iz: "))
    assert words in said
    assert "Traceback" not in err and out == ""
    assert everything(here) == before


SHELL = (
    "run nowhere",
    "run broken.toml",
    "run binary.toml --out new",
    "run lj_liquid --set density.temperature=-1 --out new",
    "run lj_liquid --out good.toml",
    "measure lj_liquid on_top.xyz --out new",
    "measure lj_liquid still.xyz --out new",
    "measure lj_liquid claims.xyz --out new",
    "limit limit_1d --out good.toml/page.html",
    "fit fit_newton_fourier --set fit.train='[\"cut.nc\"]' --out new",
    "models tully_4 --out new.html",
    "run lj_liquid --checkpoint-every nan --out new",
)


FORKS = """
import os, shlex, sys
import jaxmd_iz.build, jaxmd_iz.cli
for line in sys.stdin:
    if not (child := os.fork()):
        jaxmd_iz.cli.main(shlex.split(line))
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(f"code {code}", file=sys.stderr, flush=True)
"""


def test_a_dozen_through_the_shell(here):
    """Processes end with code 2, nothing on standard output, one sentence on the other, no file left behind.

    They are forks of one that has imported everything, and one that is started afresh.
    """
    before = everything(here)
    fresh = shlex.join([sys.executable, "-c", "import jaxmd_iz.cli; jaxmd_iz.cli.main()"]) + " run lj_liqid"
    shared = shlex.join([sys.executable, "-c", FORKS])
    done = subprocess.run(
        ["sh", "-c", f"{fresh}; echo code $? >&2; {shared}"],
        input="".join(line + "\n" for line in SHELL), cwd=here, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    *said, end = re.split(r"code (-?\d+)\n", done.stderr)
    assert done.stdout == "" and end == "" and len(said) == 2 * len(SHELL) + 2, done
    assert set(said[1::2]) == {"2"}, done.stderr
    for text in said[::2]:
        assert text.count("\n") == 1 and text.rpartition("\r")[2].startswith("jaxmd-iz: "), text
        is_one_sentence(text.rpartition("\r")[2].removeprefix("jaxmd-iz: "))
    assert everything(here) == before


def test_more_atoms_than_there_are_bytes_take_no_time(here):
    """A sparse file of 16 GB that claims to be a trajectory is refused at its first lines."""
    path = here / "huge.xyz"
    with open(path, "wb") as stream:
        stream.write(b"2\nProperties=species:S:1:pos:R:3\n")
        stream.truncate(2**34)
    try:
        with pytest.raises(InputError, match="must have lines below 100000 characters"):
            read_snapshots(path, "lj")
    finally:
        path.unlink()


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(10**300, 10**400), st.floats(), st.text(max_size=20),
    st.dates(), st.sampled_from(["", "nan", "free", "lj", "auto", "\x1b[31m", "\ud800", "a\nb", "../..", "\0"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_mutated_configuration_is_taken_or_refused(data):
    """Keys taken out and values replaced by anything: only a Config comes out, or one sentence."""
    raw = copy.deepcopy(data.draw(st.sampled_from(GOOD)))
    for _ in range(data.draw(st.integers(1, 3))):
        table = raw
        while inner := [v for v in table.values() if isinstance(v, dict) and v]:
            if table is not raw and data.draw(st.booleans()):
                break
            table = data.draw(st.sampled_from(inner))
        name = data.draw(st.sampled_from(sorted(table)) | st.text(max_size=12))
        if data.draw(st.booleans()):
            table[name] = data.draw(VALUES)
        else:
            table.pop(name, None)
    try:
        with mock.patch("tomllib.loads", return_value=raw):
            assert isinstance(config.loads(""), config.Config)
    except InputError as error:
        is_one_sentence(str(error))
        assert "\n" not in str(error) and str(error).isprintable()


@settings(max_examples=100, deadline=None)
@given(where=st.integers(0, 10**6), junk=st.binary(max_size=12), cut=st.booleans())
def test_a_damaged_file_is_read_or_refused(where, junk, cut):
    """Bytes of a configuration and of trajectories overwritten or cut away."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("good.xyz", "good.dump", "good.toml"):
            content = FILES[name].encode()
            at = where % len(content)
            path = Path(folder) / name
            path.write_bytes(content[:at] + junk + (b"" if cut else content[at + len(junk) :]))
            try:
                if name == "good.toml":
                    assert isinstance(config.load(path), config.Config)
                else:
                    found = read_snapshots(path, "lj", configurational=True)
                    assert np.isfinite(found.x).all() and np.isfinite(found.v).all()
            except InputError as error:
                is_one_sentence(str(error))


SHIPPED = (Path(cli.__file__).parent / "examples" / "lj_heat_wave.nc").read_bytes()


@settings(max_examples=60, deadline=None)
@given(where=st.integers(0, len(SHIPPED) - 1), junk=st.binary(max_size=4000), cut=st.booleans(), head=st.booleans())
def test_damaged_fields_are_read_or_refused(where, junk, cut, head):
    """Bytes of a NetCDF file, of its head half of the time; nothing complains later, when objects are collected."""
    at = where % 4000 if head else where
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fields.nc"
        path.write_bytes(SHIPPED[:at] + junk + (b"" if cut else SHIPPED[at + len(junk) :]))
        try:
            assert "rho" in store.read_fields(path)
        except InputError as error:
            assert str(error).startswith("Argument `path` must ") and "\n" not in str(error)
