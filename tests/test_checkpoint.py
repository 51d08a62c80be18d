"""Interrupted runs go on bit for bit; files are whole or not there; what does not fit is refused, with the reason."""

import errno
import io
import os
import resource
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import jaxmd_iz as iz
from jaxmd_iz import checkpoint, chunks, interrupts, packing, simulation, store
from jaxmd_iz.checkpoint import BEFORE, NEWEST, Checkpoints
from jaxmd_iz.checks import InputError
from jaxmd_iz.integrators import Phase


class Killed(Exception):
    """In place of a signal that nothing can catch."""


def small_run(checkpoints=None, lists=False, steps=16, **options):
    """Four walkers of five particles on a ring: 4 chunks of proposals, then 2 + 2 of steps between three frames."""
    system = iz.System(iz.WCA(1.0, 1.0), iz.Periodic([6.4]), jnp.ones(5))
    x = jnp.linspace(0.0, 5.2, 5)[:, None]
    # Langevin chains that outrun their lists, so that chunks become shorter; dynamics that renew them
    sampling = iz.Sampling(4, 16, "langevin", step=0.01) if lists else iz.Sampling(4, 16, leapfrog=3)
    options = {"every": 8, "sampling": sampling, "keep": ["positions"], **options}
    return iz.simulate(
        system,
        iz.Canonical(1.0),
        iz.Grid(x + 0.3, iz.Polynomial(1.0, 1)),
        x,
        key=jax.random.key(3),
        integrator=iz.Baoab(0.004, 1.0, 1.0),
        steps=steps,
        neighbours="list" if lists else "dense",
        skin=0.1,
        checkpoints=checkpoints,
        **options,
    )


def assert_same(found, wanted):
    """Every number of two runs, bit for bit, but for the time they took."""
    a, b = jax.tree.leaves(found), jax.tree.leaves(wanted)
    assert len(a) == len(b) > 40
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.sampling == wanted.sampling
    assert found.warnings == wanted.warnings


def counted(monkeypatch, most=10**6):
    """The list of what a run reports of its progress; the report after `most` of them ends it, before it is written."""
    reports = []

    def bar(count):
        if len(reports) == most:
            raise Killed
        reports.append(count)

    bar.close = lambda: None
    monkeypatch.setattr(simulation, "progress_bar", lambda *_: bar)
    return reports


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 4)


@pytest.fixture(scope="module")
def whole(request):
    """Whether lists are used, the uninterrupted run, and the number of its reports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK", 4)
        reports = counted(patch)
        return request.param, small_run(lists=request.param), len(reports)


@pytest.mark.parametrize(
    ("whole", "part"),
    [(False, 0.3), (False, 0.7), (True, 0.2), (True, 0.6), (True, 0.9)],
    indirect=["whole"],
    ids=["dense, sampling", "dense, steps", "list, sampling", "list, more sampling", "list, steps"],
)
def test_a_killed_run_goes_on_bit_for_bit(whole, tmp_path, monkeypatch, part):
    lists, wanted, reports = whole
    with monkeypatch.context() as patch, pytest.raises(Killed):
        counted(patch, max(2, round(part * reports)))
        small_run(Checkpoints(tmp_path, 0.0), lists)
    assert (tmp_path / NEWEST).exists()
    assert_same(small_run(Checkpoints(tmp_path, 0.0), lists), wanted)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("whole", [False], indirect=True)
def test_a_signal_writes_a_checkpoint_and_says_how_to_go_on(whole, tmp_path):
    lists, wanted, _ = whole
    asked = iter([0, 0, 15, 0, 15])
    for _ in range(2):  # in the sampling, and two chunks later
        with pytest.raises(
            interrupts.Stopped, match=r"SIGTERM after .* Give the same command with `--resume`"
        ) as stopped:
            small_run(Checkpoints(tmp_path, 1e6, asked=lambda: next(asked)), lists)
        assert stopped.value.number == 15 and (tmp_path / NEWEST).exists()
    assert_same(small_run(Checkpoints(tmp_path, 1e6), lists), wanted)


@pytest.mark.parametrize("whole", [True], indirect=True)
def test_the_one_before_is_taken_if_the_newest_is_damaged(whole, tmp_path, monkeypatch):
    lists, wanted, reports = whole
    with monkeypatch.context() as patch, pytest.raises(Killed):
        counted(patch, reports - 1)
        small_run(Checkpoints(tmp_path, 0.0), lists)
    newest, before = (tmp_path / name for name in (NEWEST, BEFORE))
    good = newest.read_bytes()
    said = []
    newest.write_bytes(good[: len(good) // 2])
    assert_same(small_run(Checkpoints(tmp_path, 1e6, say=said.append), lists), wanted)
    assert "cannot be read" in said[0] and said[0].endswith("going on from the one before it.")
    newest.write_bytes(good.replace(b"steps", b"stops"))  # one that only its sums betray
    before.write_bytes(b"")
    with pytest.raises(InputError, match=f"{NEWEST}` cannot be read: .*; `.*{BEFORE}` cannot be read: .*--overwrite"):
        small_run(Checkpoints(tmp_path), lists)


@pytest.fixture
def left(tmp_path):
    """A folder with a checkpoint of some run."""
    run = Checkpoints(tmp_path)
    run.open({"density.temperature": "0.7", "dynamics.steps": "20"})
    run.put("run", {"x": jnp.ones(3)}, "after 3 of 20 steps")
    return tmp_path


def test_another_run_is_refused_with_the_difference(left, monkeypatch):
    same = {"density.temperature": "0.7", "dynamics.steps": "20"}

    def refused(match, **changes):
        with pytest.raises(InputError, match=match):
            Checkpoints(left).open({k: v for k, v in (same | changes).items() if v is not None})

    refused("`dynamics.steps` was 20 and is 30 now. Undo", **{"dynamics.steps": "30"})
    refused("`density.temperature` was 0.7 and is not set now, and 1 more differ", **dict.fromkeys(same))
    refused("`density.start` was not set and is a.xyz now", **{"density.start": "a.xyz"})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_version", lambda: "99.0")
        refused("`version of jaxmd-iz` was .* and is 99.0 now")
    opened = Checkpoints(left)
    opened.open(same)
    np.testing.assert_array_equal(opened.take("run")["x"], np.ones(3))
    assert opened.take("run") is None


def test_other_arguments_are_refused_by_name(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        counted(patch, 3)
        small_run(Checkpoints(tmp_path, 0.0))
    with pytest.raises(InputError, match="`steps` was 16 and is 18 now"):
        small_run(Checkpoints(tmp_path), steps=18)
    with pytest.raises(InputError, match="`sampling` was another"):
        small_run(Checkpoints(tmp_path), sampling=iz.Sampling(4, 16, leapfrog=3, step=0.006))


def test_what_is_there_and_what_is_asked_must_agree(left, tmp_path_factory):
    with pytest.raises(InputError, match=r"holds one after 3 of 20 steps. Go on with it by `--resume`"):
        Checkpoints(left, resume=False).open({})
    with pytest.raises(InputError, match="there is none"):
        Checkpoints(tmp_path_factory.mktemp("empty"), resume=True).open({})
    with pytest.raises(InputError, match="not go with `overwrite`"):
        Checkpoints(left, resume=True, overwrite=True)
    with pytest.raises(InputError, match="`checkpoint_every` must be 0 or more seconds, but it is -1"):
        Checkpoints(left, -1.0)
    with pytest.raises(InputError, match="`folder` must be a folder that can be made"):
        Checkpoints(left / NEWEST / "below").open({})
    assert "after 3 of 20 steps" in checkpoint.hint(left)
    Checkpoints(left, overwrite=True).open({})
    assert not list(left.iterdir())
    assert "There is no checkpoint" in checkpoint.hint(left)


def test_a_full_disk_leaves_what_was_there(left):
    """A limit on the size of files is what a test can set; a write beyond it fails as on a full disk."""
    good = (left / NEWEST).read_bytes()
    run = Checkpoints(left)
    run.open({"density.temperature": "0.7", "dynamics.steps": "20"})
    store.write_text("earlier", left / "report.html")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        with pytest.raises(
            InputError, match=r"can be written, but .* cannot: .* An earlier one is in .* go on by `--resume`"
        ):
            run.put("run", {"x": jnp.ones(10_000)}, "later")
        with pytest.raises(InputError, match="can be written"):
            store.write_text("x" * 100_000, left / "report.html")
        with pytest.raises(InputError, match=r"can be written, but .* cannot: File too large\.$"):
            store.write_netcdf(xr.Dataset({"rho": ("y", np.arange(100_000))}), left / "fields.nc")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (left / NEWEST).read_bytes() == good
    assert (left / "report.html").read_text() == "earlier"
    assert {p.name for p in left.iterdir()} == {NEWEST, "report.html"}


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOENT, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_any_more_ends_in_a_sentence(left, monkeypatch, number):
    def fails(*_):
        raise OSError(number, os.strerror(number))

    run = Checkpoints(left, overwrite=True)
    run.open({})
    monkeypatch.setattr(checkpoint.packing, "dump", fails)
    with pytest.raises(
        InputError, match=f"must name a file that can be written, but .* cannot: {os.strerror(number)}.$"
    ):
        run.put("run", {}, "")


def test_trees_come_back_as_they_were():
    tree = {
        "text": "ρ",
        "none": None,
        "numbers": [1, 0.1, float("inf"), True],
        "pair": (jnp.arange(3, dtype=jnp.int32), jnp.float32(0.1)),
        "class": Phase(jnp.ones((2, 1)), jnp.zeros((2, 1)), jnp.ones((2, 1))),
    }
    stream = io.BytesIO()
    packing.dump(tree | {"keys": jax.random.split(jax.random.key(1))}, stream)
    found = packing.load(stream.getvalue())
    keys = found.pop("keys")
    assert jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    np.testing.assert_array_equal(jax.random.key_data(keys), jax.random.key_data(jax.random.split(jax.random.key(1))))
    assert jax.tree.structure(found) == jax.tree.structure(tree)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(tree), strict=True):
        assert one == other if isinstance(one, str) else np.array_equal(one, other)
        assert getattr(one, "dtype", None) == getattr(other, "dtype", None)
    with pytest.raises(TypeError, match="Killed cannot be packed"):
        packing.dump({"a": Killed()}, io.BytesIO())


class Trap:
    """Something whose reading by pickle runs code."""

    def __reduce__(self):
        return os.abort, ()


def test_nothing_that_is_read_can_run_code():
    stream = io.BytesIO()
    np.savez(stream, tree=np.array([Trap()], dtype=object))
    with pytest.raises(packing.Unreadable, match="allow_pickle"):
        packing.load(stream.getvalue())
    for text in ('{"class": "Popen", "fields": {}}', '{"list": 3}', "[", '{"array": "a7"}', "[" * 100_000):
        stream = io.BytesIO()
        np.savez(stream, tree=np.frombuffer(text.encode(), np.uint8))
        with pytest.raises(packing.Unreadable):
            packing.load(stream.getvalue())
    for data in (b"", b"PK", os.urandom(1000)):
        with pytest.raises(packing.Unreadable):
            packing.load(data)


def test_signals_are_heard_and_the_second_one_ends():
    before = signal.getsignal(signal.SIGINT)
    with interrupts.heard() as asked:
        assert asked() == 0
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        assert asked() == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before
    script = "import os, signal, threading, time\nfrom jaxmd_iz import interrupts\ninterrupts.TWICE = 0.0\n"
    script += (
        "with interrupts.heard():\n    os.kill(os.getpid(), 15)\n    time.sleep(0.2)\n    os.kill(os.getpid(), 15)\n"
    )
    script += "    time.sleep(60)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 143
