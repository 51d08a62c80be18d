"""Interrupted runs go on bit for bit; files are whole or not there; what does not fit is refused, with the reason."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmd_iz as iz
from jaxmd_iz import chunks, simulation
from jaxmd_iz.checkpoint import NEWEST, Checkpoints


class Killed(Exception):
    """In place of a signal that nothing can catch."""


def small_run(checkpoints=None, lists=False, steps=12, **options):
    """Four walkers of five particles on a ring: 4 chunks of proposals, then 2 + 2 of steps between three frames."""
    system = iz.System(iz.WCA(1.0, 1.0), iz.Periodic([6.4]), jnp.ones(5))
    x = jnp.linspace(0.0, 5.2, 5)[:, None]
    # Langevin chains that outrun their lists, so that chunks become shorter; dynamics that renew them
    sampling = iz.Sampling(4, 16, "langevin", step=0.01) if lists else iz.Sampling(4, 16, leapfrog=3)
    options = {"every": 6, "sampling": sampling, "keep": ["positions"], **options}
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


@pytest.fixture(scope="module", params=[False, True], ids=["dense", "list"])
def whole(request):
    """Whether lists are used, the uninterrupted run, and the number of its reports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK", 4)
        reports = counted(patch)
        return request.param, small_run(lists=request.param), len(reports)


@pytest.mark.parametrize("part", [0.2, 0.4, 0.6, 0.75, 0.9])
def test_a_killed_run_goes_on_bit_for_bit(whole, tmp_path, monkeypatch, part):
    lists, wanted, reports = whole
    with monkeypatch.context() as patch, pytest.raises(Killed):
        counted(patch, max(2, round(part * reports)))
        small_run(Checkpoints(tmp_path, 0.0), lists)
    assert (tmp_path / NEWEST).exists()
    assert_same(small_run(Checkpoints(tmp_path, 0.0), lists), wanted)
    assert not list(tmp_path.iterdir())
