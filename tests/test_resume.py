"""The command that is ended, killed and resumed: the same files as from an uninterrupted run, or one sentence."""

import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest

from jaxmd_iz import cli, commands, config, packing, store
from jaxmd_iz.checkpoint import hint, interrupted

TINY = (
    *("space.dimensions=2", "density.samples=2", "density.burn_in=4", "density.number=9", "potential.cutoff=1.5"),
    *("grid.profile=2", "grid.axis=y", "dynamics.steps=2000", "dynamics.every=1000"),
)


def started(out, *options):
    """The command in a process of its own, that writes a checkpoint after every chunk."""
    code = "from jaxmd_iz.cli import main; main()"
    command = ["run", "lj_liquid", "--out", str(out), "--checkpoint-every", "0", *options, "--set", *TINY]
    return subprocess.Popen(
        [sys.executable, "-c", code, *command], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def succeed(process):
    said = process.communicate()
    assert process.returncode == 0, said


def wait_for_another(folder, process):
    """Until a running process has written a checkpoint that was not there; False if it ends before."""

    def there():
        return {p.stat().st_ino for p in folder.glob("checkpoint*.npz")}

    before = there()
    while process.poll() is None:
        with suppress(FileNotFoundError):  # one that has just become the one before
            if there() - before:
                return True
        time.sleep(0.002)
    return False


def assert_same_files(out, wanted):
    found, other = store.read_fields(out / "fields.nc"), store.read_fields(wanted / "fields.nc")
    assert found.identical(other)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    commands.run(config.load("lj_liquid", TINY), out, progress=False)
    return out


def test_a_command_that_is_ended_and_killed_goes_on_bit_for_bit(uninterrupted, tmp_path):
    process = started(tmp_path)
    assert wait_for_another(tmp_path, process), process.communicate()
    process.terminate()
    said = process.communicate()[1]
    assert process.returncode == 143
    assert "Stopped by SIGTERM after" in said and said.endswith("Give the same command with `--resume` to go on.\n")
    for _ in range(5):  # each gets further by a chunk at least
        process = started(tmp_path, "--resume")
        assert wait_for_another(tmp_path, process), process.communicate()
        time.sleep(np.random.default_rng().uniform(0, 0.1))
        process.kill()
        process.communicate()
    settings = config.load("lj_liquid", TINY)
    commands.run(settings, tmp_path, progress=False, resume=True)
    assert_same_files(tmp_path, uninterrupted)
    assert {p.name for p in tmp_path.iterdir()} == {"fields.nc", "summary.json", "report.html"}
    assert commands.run(settings, tmp_path, resume=True)["finished_before"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--resume"], "`resume` must find a checkpoint"),
        (["--checkpoint-every", "-1"], "`checkpoint_every` must be 0 or more"),
        (["--resume", "--overwrite"], "`resume` must not go with `overwrite`"),
    ],
)
def test_bad_options_are_one_sentence(options, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["run", "lj_liquid", "--out", str(tmp_path), *options])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and said in error and error.count("\n") == 1


def test_keys_and_files_are_what_a_run_depends_on(tmp_path):
    file = tmp_path / "start.extxyz"
    file.write_text("one")
    changes = [f"density.start={file}", "density.number=", "density.number_density=", "space.cell=[5,5,5]"]
    first = commands.about(config.load("lj_liquid", changes))
    assert first["density.start"] == "start.extxyz" and first["potential.cutoff"] == "2.5"
    file.write_text("two")
    second = commands.about(config.load("lj_liquid", changes))
    assert {k for k in first if first[k] != second[k]} == {"content of density.start"}


@pytest.mark.physical_validation
def test_fifty_kills_at_random_moments(uninterrupted, tmp_path):
    """At a random time after its start or after a random number of checkpoints; a run that has finished begins anew."""

    def again():
        return started(tmp_path, "--resume" if interrupted(tmp_path) else "--overwrite")

    rng, places, finished = np.random.default_rng(), [], 0
    while len(places) < 50:
        process, wanted = again(), int(rng.integers(0, 10))
        for _ in range(wanted):
            wait_for_another(tmp_path, process)
        time.sleep(rng.uniform(0, 0.1 if wanted else 6))
        process.kill()
        if process.communicate() and process.returncode == 0:
            finished += 1
            assert_same_files(tmp_path, uninterrupted)
        else:
            assert process.returncode == -9
            places.append(hint(tmp_path))
            print(wanted, places[-1], flush=True)
        for path in tmp_path.glob("fields*.nc"):
            store.read_fields(path)
        for path in tmp_path.glob("checkpoint*.npz"):
            packing.load(path.read_bytes())
    assert finished and len({place for place in places if "steps is in" in place}) > 5
    succeed(again())
    assert_same_files(tmp_path, uninterrupted)
