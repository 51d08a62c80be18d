"""What goes wrong on the way is told with time, sample and state, or ends the run; what goes well is not told of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmd_iz as iz
from jaxmd_iz import build, cli, commands, config
from jaxmd_iz.checks import InputError
from jaxmd_iz.watch import Broken, Watch

N, STEP = 3, 0.002
START = jnp.asarray([[0.0, 0.0], [1.2, 0.0], [0.6, 1.0]])


def coupled(x):
    """V = [[a, c], [c, a + ½]] of each particle, in a trap; beyond x = 5 it has no value."""
    trap = jnp.where(jnp.max(jnp.abs(x)) > 5, jnp.nan, 0.5) * jnp.sum(x**2, axis=1)
    off = jnp.full_like(trap, 0.1)
    return jnp.stack([jnp.stack([trap, off], -1), jnp.stack([off, trap + 0.5], -1)], -2)


def run(p, potential=None, x=START, step=STEP, **options):
    """300 steps of four samples from given phase points, frames at both ends."""
    potential = iz.FromFunction(coupled, 2) if potential is None else potential
    system = iz.System(potential, iz.Free(2), jnp.ones(N), correction="none")
    grid = iz.Grid(x[:1], iz.Polynomial(1.0, 2))
    x = jnp.broadcast_to(x, p.shape)
    scheme = iz.VelocityVerlet(step)
    return iz.simulate(system, iz.Canonical(1.0), grid, x, p=p, key=jax.random.key(0), integrator=scheme, steps=300,
                       residual_points=1, **options)  # fmt: skip


def thrown(sample, speed=20.0):
    """Momenta of four samples; one particle of one of them flies away."""
    p = 0.1 * jax.random.normal(jax.random.key(1), (4, N, 2))
    return p.at[sample, 1, 0].set(speed)


def test_a_quiet_run_says_nothing():
    assert run(thrown(0, 0.1)).events == ()


def test_numbers_that_are_none_are_told_with_time_sample_and_state():
    """The particle of sample 2 leaves x = 5 at t = 3.8/20 = 0.19 or a little later, after 95 to 110 steps."""
    found = run(thrown(2))
    (event,) = found.events
    assert (event["what"], event["sample"], event["state"], event["walkers"]) == ("finite", 2, 0, 2)
    assert (event["from"], event["to"]) in ((0.0, 0.2), (0.2, 0.4)) and event["of"] == 8
    (said,) = [w for w in found.warnings if "no longer finite" in w]
    assert "sample 2 on state 0, and 1 more of 8 walkers, between t = 0" in said
    assert not np.all(np.isfinite(found.series["fields"].fields.sigma[-1]))  # flagged, not hidden


def test_the_same_can_end_the_run():
    with pytest.raises(Broken, match="sample 2 on state 0, and 1 more of 8 walkers, between t = 0"):
        run(thrown(2), watch=Watch(action="stop"))


def test_energy_that_drifts_is_told():
    """A step that is too long for the bond of one sample alone, which is stretched: nothing is infinite."""
    bond = iz.LennardJones(1.0, 1.0, 2.5, "force_shift")
    close = START.at[1, 0].set(0.93)
    found = run(jnp.zeros((4, N, 2)), bond, close, step=0.02)
    assert "energy" in [event["what"] for event in found.events]
    event = next(event for event in found.events if event["what"] == "energy")
    assert event["value"] > event["bound"] == 0.1 and event["state"] == 0
    assert run(jnp.zeros((4, N, 2)), bond, close, step=0.001).events == ()


def test_an_atom_that_is_lost_is_told_with_its_sample():
    """Beyond ten times the largest distance at the start, about 7, in the default; or where one says."""
    bond = iz.LennardJones(1.0, 1.0, 2.5, "force_shift")
    found = run(thrown(1, 30.0), bond)
    assert [(e["what"], e["sample"], e["walkers"]) for e in found.events] == [("lost", 1, 1)]
    assert "An atom is lost, further than" in found.warnings[-1]
    assert run(thrown(1, 30.0), bond, watch=Watch(distance=100.0)).events == ()
    assert (
        run(thrown(1, 6.0), bond, watch=Watch(distance=1.5, lengths=(0.5, "σ")))
        .warnings[-1]
        .startswith("An atom is lost, further than 3 σ")
    )


def test_surfaces_that_touch_are_told_and_do_not_end_the_run():
    """V has twice the same level where every particle is at rest in the middle: exactly, in sample 3 alone."""

    def matrix(x):
        a, b = x[:, 0], x[:, 1]
        return jnp.stack([jnp.stack([a, b], -1), jnp.stack([b, -a], -1)], -2)

    p = jnp.zeros((4, N, 2))
    x = jnp.broadcast_to(START, p.shape).at[3].set(jnp.asarray([[1.0, 0.5], [-1.0, 0.0], [0.0, -0.5]]))
    system = iz.System(iz.FromFunction(matrix, 2), iz.Free(2), jnp.ones(N), correction="none")
    found = iz.simulate(system, iz.Canonical(1.0), iz.Grid(START[:1], iz.Polynomial(1.0, 2)), x, p=p,
                        key=jax.random.key(0), residual_points=1, watch=Watch(action="stop"))  # fmt: skip
    assert [(e["what"], e["sample"], e["walkers"], e["to"]) for e in found.events] == [("crossing", 3, 2, 0.0)]


def test_bad_bounds_are_refused():
    with pytest.raises(InputError, match="`energy_drift` must be positive"):
        Watch(energy_drift=0.0)
    with pytest.raises(InputError, match="`action` must be one of"):
        Watch(action="ignore")


def test_the_command_ends_with_a_sentence_and_a_code_of_its_own(monkeypatch, capsys, tmp_path):
    def broken(*_):
        raise Broken("The energy has drifted.")

    monkeypatch.setattr(commands, "run", broken)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["run", "lj_liquid", "--out", str(tmp_path)])
    assert stopped.value.code == 4
    assert capsys.readouterr().err == "jaxmd-iz: Stopped. The energy has drifted.\n"


def test_bounds_of_a_configuration_are_in_its_units():
    changes = ("watch.action=stop", "watch.distance=3")
    watch = build.watch_of(config.load("silicon", changes))
    assert watch.action == "stop" and watch.distance == 3.0 and watch.lengths == (1.0, "Å")
    # the internal unit is √(amu Å²/eV) = 10.1805 fs
    assert watch.times[1] == "ps" and watch.times[0] == pytest.approx(1 / 0.0101805, rel=1e-5)
