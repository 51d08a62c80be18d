"""`simulate` from end to end on eight particles in the plane, against loops written by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import chunks, simulate, simulation
from jaxmd_iz.checks import InputError
from jaxmd_iz.ensemble import advance_chains, start_chains
from jaxmd_iz.fields import fields
from jaxmd_iz.gibbs import Canonical, weights
from jaxmd_iz.integrators import VelocityVerlet, trajectory
from jaxmd_iz.mollifiers import Polynomial
from jaxmd_iz.neighbours import neighbour_list
from jaxmd_iz.potentials.diabatic import Gaussian, TwoStateFluid
from jaxmd_iz.potentials.external import HarmonicTrap
from jaxmd_iz.potentials.pair import LennardJones, Morse
from jaxmd_iz.simulation import Grid
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.statistics import GROUPS, group_of, jackknife
from jaxmd_iz.system import System

N, SAMPLES, STEP = 8, 5, 0.005
LJ = LennardJones(1.0, 1.0, 1.8, "force_shift")
FLUID = TwoStateFluid(LJ, Gaussian(0.9, 0.5, 1.1), Gaussian(0.5, 0.6, 1.3), 0.5, N)
BOX, MASSES = Periodic([7.6, 3.8]), np.linspace(1.0, 2.0, N)
RNG = np.random.default_rng(0)
X = np.stack(np.meshgrid(1.9 * np.arange(4), 1.9 * np.arange(2)), -1).reshape(-1, 2) + 0.05 * RNG.normal(size=(N, 2))
STARTS = jnp.asarray(X + 0.05 * RNG.normal(size=(SAMPLES, N, 2)))
MOMENTA = jnp.asarray(RNG.normal(size=(SAMPLES, N, 2)) + 0.2)
Y = jnp.asarray(RNG.uniform(0, 3.8, (5, 2)))
GRID = Grid(Y, Polynomial(1.5, 2), "points")
TWO_STATES = System(FLUID, BOX, MASSES, correction="none")
ONE_STATE = System(LJ, BOX, MASSES)


def density(temperature=0.7):
    return Canonical(temperature, SAMPLES, 6, leapfrog=3, step=0.02)


def sampled(temperature=0.7, key=0):
    """Sampled by hybrid Monte Carlo, then two frames after the first."""
    options = {"integrator": VelocityVerlet(STEP), "steps": 4, "every": 2, "keep": ("positions",)}
    return simulate(TWO_STATES, density(temperature), GRID, jnp.asarray(X), key=jax.random.key(key), **options)


def given(system=TWO_STATES, x=STARTS, p=MOMENTA, steps=4, **options):
    """The phase points x, p carried along every surface."""
    options = {"integrator": VelocityVerlet(STEP), "every": 2, "grids": GRID} | options
    grids = options.pop("grids")
    return simulate(system, density(), grids, x, p=p, key=jax.random.key(0), steps=steps, **options)


@pytest.fixture(scope="module")
def first():
    return sampled()


@pytest.fixture(scope="module")
def carried():
    return given(keep=("positions",))


@pytest.fixture
def unchecked(monkeypatch):
    """Without the balance check, which is half the time of compilation."""
    monkeypatch.setattr(simulation, "_residual", lambda *_: jnp.zeros(3))


def close(value, expected, bound):
    for a, b in zip(jax.tree.leaves(value), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=bound * max(np.max(np.abs(np.asarray(b))), 1e-300))


def test_run_holds_what_it_promises(first):
    f = first.series["points"].fields
    assert abs(float(np.sum(first.q_star)) - 1) < 1e-14 and 0 < np.min(first.q_star)
    assert np.all(np.asarray(first.q_star_err) > 0) and np.all(np.isfinite(first.q_star_err))
    assert 0 <= first.acceptance <= 1 and first.atom_steps == 4 * N * SAMPLES * 2
    assert np.max(np.asarray(first.residuals)) < 1e-12  # rounding, relative to the sum of the terms' norms
    np.testing.assert_allclose(first.series["points"].time, [0.0, 2 * STEP, 4 * STEP], rtol=1e-15)
    assert f.sigma.shape == (3, 5, 2, 2) and f.q.shape == (3, 5, 2) and np.all(np.asarray(f.valid))
    assert first.positions.shape == (3, SAMPLES * 2, N, 2)
    assert np.min(np.std(np.asarray(first.positions[0]), axis=0)) > 0  # the chains went their own ways


def test_q_star_is_the_mean_weight_of_the_samples(first):
    """(5.22): w_j of each starting point, equal for its two walkers, and the jackknife of a plain mean."""
    starts = np.asarray(first.positions[0]).reshape(SAMPLES, 2, N, 2)
    np.testing.assert_array_equal(starts[:, 0], starts[:, 1])
    w = np.asarray(jax.jit(jax.vmap(lambda a: weights(TWO_STATES, a, 0.7)))(starts[:, 0]))
    np.testing.assert_allclose(first.q_star, w.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(first.q_star_err, w.std(axis=0, ddof=1) / np.sqrt(SAMPLES), rtol=1e-10)


def test_second_call_with_another_key_and_temperature_compiles_nothing(first):
    compiled = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        second = sampled(temperature=0.9, key=1)
        count = len(compiled)
        eqx.filter_jit(lambda a: a * 3.25 + 1)(jnp.ones(7))  # the listener does listen
        assert len(compiled) > count
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert np.max(np.abs(np.asarray(second.q_star - first.q_star))) > 1e-4
    assert count == 0, f"{count} programs were compiled again"


@pytest.fixture(scope="module")
def by_hand():
    """Moments (frame, sample, state, …), totals, positions and weights, one sample and state at a time."""

    @eqx.filter_jit
    def look(x, p, k, steps):
        x, p = jax.lax.fori_loop(0, steps, lambda _, z: step(*z, k), (x, p))
        (moments,), totals = TWO_STATES.observe([(Y, GRID.mollifier)], x, p, k)
        return moments, totals, x, weights(TWO_STATES, x, 0.7)

    def step(x, p, k):
        return trajectory(VelocityVerlet(STEP), lambda y: TWO_STATES.force(y, k), TWO_STATES.masses, x, p, 1)

    def at(frame, sample, k):
        return look(STARTS[sample], MOMENTA[sample], jnp.asarray(k), jnp.asarray(2 * frame))

    every = [[[at(f, s, k) for k in (0, 1)] for s in range(SAMPLES)] for f in range(3)]
    leaves = jax.tree.leaves(every, is_leaf=lambda t: isinstance(t, tuple) and len(t) == 4)
    stacked = jax.tree.map(lambda *a: np.stack(a).reshape(3, SAMPLES, 2, *np.shape(a[0])), *leaves)
    w = stacked[3][0, :, 0]
    return stacked[0], stacked[1], stacked[2], w


def test_ensemble_average_is_the_loop_over_samples_and_states(carried, by_hand):
    """(5.21): Σ_j w_j A_j in each group of samples, fields of their mean; the order of sums leaves 1e-12."""
    moments, totals, positions, w = by_hand
    series = carried.series["points"]

    def weighted(a):
        return np.einsum("sk,fsk...->fs...", w, a)

    close(jax.tree.map(lambda a: a[:, :SAMPLES], series.moments), jax.tree.map(weighted, moments), 1e-12)
    assert not np.any(np.asarray(series.moments.rho)[:, SAMPLES:])  # one group a sample, the others empty
    np.testing.assert_allclose(series.weight[:, :SAMPLES], 1.0, rtol=1e-14)
    np.testing.assert_allclose(carried.q_star, w.mean(axis=0), rtol=1e-13)
    mean = jax.tree.map(lambda a: jnp.asarray(weighted(a).mean(axis=1)), (moments, totals))
    centre = mean[1].momentum / MASSES.sum()
    close(series.fields, jax.tree.map(np.asarray, eqx.filter_jit(fields)(mean[0], centre)), 1e-12)
    close(series.w, centre, 1e-12)
    close(carried.potential, mean[1].potential, 1e-12)
    drift = np.sum(np.asarray(mean[1].momentum) ** 2, axis=-1) / (2 * MASSES.sum())
    close(carried.temperature, 2 * (mean[1].kinetic - drift) / (2 * (N - 1)), 1e-12)  # a given momentum is conserved
    trace = 2 * mean[1].kinetic - np.trace(np.asarray(mean[1].virial), axis1=1, axis2=2)
    close(carried.pressure, trace / (2 * BOX.volume), 1e-12)
    close(carried.positions, positions.reshape(3, SAMPLES * 2, N, 2), 1e-12)


def test_time_average_is_the_mean_of_the_frames(carried):
    """The frames of equal weight summed into groups of (sample, time)."""
    averaged = given(average="time").series["points"]

    def mean(series):
        return jax.tree.map(lambda a: np.asarray(a).sum(axis=(0, 1)) / np.sum(series.weight), series.moments)

    close(mean(averaged), mean(carried.series["points"]), 1e-13)
    assert averaged.fields.rho.shape == (1, 5) and np.sum(averaged.weight) == pytest.approx(3 * SAMPLES, rel=1e-14)
    np.testing.assert_allclose(averaged.time, [2 * STEP], rtol=1e-14)


def test_result_does_not_depend_on_chunks_and_batches(carried, monkeypatch, unchecked):
    """The same sums in another order: 1e-13."""
    monkeypatch.setattr(chunks, "CHUNK", 1)
    monkeypatch.setattr(simulation, "BATCH", 3)
    other = given()
    for name in ("fields", "errors", "moments", "weight"):
        close(getattr(other.series["points"], name), getattr(carried.series["points"], name), 1e-13)


def test_list_gives_what_all_pairs_give_and_is_redone_when_outrun(monkeypatch, unchecked):
    """Particles cross half of the skin in three steps: stale chunks are run again, and nothing differs to 1e-9."""
    built = []
    build = chunks.ListKeeper.build
    monkeypatch.setattr(chunks, "CHUNK", 8)
    monkeypatch.setattr(chunks.ListKeeper, "build", lambda self, x: built.append(1) or build(self, x))
    options = {"system": ONE_STATE, "x": STARTS[:2], "p": 6 * MOMENTA[:2], "steps": 16, "every": 8}
    listed = given(**options, neighbours="list", skin=0.1)
    assert len(built) > 2 * 3 + 2  # each interval and frame once, and more
    dense = given(**options, neighbours="dense")
    close(listed.series["points"].fields, dense.series["points"].fields, 1e-9)
    close((listed.pressure, listed.potential), (dense.pressure, dense.potential), 1e-9)
    with pytest.raises(InputError, match=r"`skin` must cover one step, but particles move more than 0\.0005"):
        given(**options, neighbours="list", skin=0.001)


def test_chains_on_a_list_are_those_on_all_pairs_or_stale():
    """A list that is too short for any energy of a chain is reported, also when the proposal was rejected."""
    x = jnp.asarray(np.stack(np.meshgrid(2.1 * np.arange(4), 2.1 * np.arange(3)), -1).reshape(-1, 2))
    system = System(Morse(3.0, 1.0, 0.7, 2.0, "force_shift"), Free(2), np.ones(12), external=HarmonicTrap(0.05, 3.0))
    hmc = Canonical(jnp.asarray(1.5), 1, 1, leapfrog=10, step=0.3)
    near = jax.tree.map(lambda a: a[None], neighbour_list(system.space, x, 2.0, 0.3, capacity=11))
    fresh = 0
    for seed in range(150):
        chain, keys = start_chains(system, hmc, x[None], jax.random.key(seed), None)
        listed, stale = advance_chains(system, hmc, chain, keys, jnp.asarray(1), 1, near)
        if not stale:
            dense, _ = advance_chains(system, hmc, chain, keys, jnp.asarray(1), 1, None)
            np.testing.assert_allclose(listed.x, dense.x, rtol=0, atol=1e-9, err_msg=f"seed {seed}")
            fresh += 1
    assert fresh < 150
