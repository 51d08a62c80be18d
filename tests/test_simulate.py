"""`simulate` from end to end on eight particles in the plane, against loops written by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import chunks, frames, simulate
from jaxmd_iz.checks import InputError
from jaxmd_iz.ensemble import Walkers, advance_chains, group_sums, start_chains
from jaxmd_iz.fields import fields
from jaxmd_iz.gibbs import Canonical
from jaxmd_iz.integrators import Phase, VelocityVerlet, trajectory
from jaxmd_iz.mollifiers import Polynomial
from jaxmd_iz.neighbours import neighbour_list
from jaxmd_iz.potentials.diabatic import Gaussian, TwoStateFluid
from jaxmd_iz.potentials.external import HarmonicTrap
from jaxmd_iz.potentials.pair import LennardJones, Morse
from jaxmd_iz.sampling import Sampling
from jaxmd_iz.simulation import Grid
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.statistics import group_of, jackknife
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


def given(system=TWO_STATES, grids=GRID, x=STARTS, p=MOMENTA, temperature=0.7, key=0, **options):
    """The phase points x, p carried along every surface, with two frames after the first."""
    options = {"integrator": VelocityVerlet(STEP), "steps": 4, "every": 2} | options
    sampling = Sampling(SAMPLES, 6, leapfrog=3, step=0.02)
    key = jax.random.key(key)
    return simulate(system, Canonical(temperature), grids, x, p=p, key=key, sampling=sampling, **options)


def sampled(**options):
    """Starting points by hybrid Monte Carlo, and their momenta drawn."""
    return given(x=jnp.asarray(X), p=None, keep=("positions",), **options)


@pytest.fixture(scope="module")
def first():
    return sampled()


@pytest.fixture(scope="module")
def carried():
    return given(keep=("positions",))


@pytest.fixture(scope="module", autouse=True)
def unchecked():
    """Without the balance check, which takes long to compile and has its own tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "_residual", lambda *_: jnp.zeros(3))
        yield


def close(value, expected, bound):
    for a, b in zip(jax.tree.leaves(value), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=bound * max(np.max(np.abs(np.asarray(b))), 1e-300))


def test_run_holds_what_it_promises(first):
    f = first.series["points"].fields
    assert abs(np.sum(np.asarray(first.q_star)) - 1) < 1e-14 and np.all(np.asarray(first.q_star) > 0)
    assert np.all(np.asarray(first.q_star_err) > 0) and np.all(np.isfinite(first.q_star_err))
    assert 0 <= first.sampling["acceptance"] <= 1 and first.atom_steps == 4 * N * SAMPLES * 2
    np.testing.assert_allclose(first.series["points"].time, [0.0, 2 * STEP, 4 * STEP], rtol=1e-15)
    assert f.sigma.shape == (3, 5, 2, 2) and f.q.shape == (3, 5, 2) and np.all(np.asarray(f.valid))
    assert first.positions.shape == (3, SAMPLES * 2, N, 2)
    assert np.min(np.std(np.asarray(first.positions[0]), axis=0)) > 0  # the chains went their own ways


def test_q_star_is_the_mean_weight_of_the_samples(first):
    """(5.22): w_j of each starting point, equal for its two walkers, and the jackknife of a plain mean."""
    starts = np.asarray(first.positions[0])
    np.testing.assert_array_equal(starts[::2], starts[1::2])
    w = np.asarray(jax.jit(jax.vmap(lambda a: Canonical(0.7).weights(TWO_STATES, a)))(starts[::2]))
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
    assert abs(float(second.q_star[0] - first.q_star[0])) > 1e-4
    assert count == 0, f"{count} programs were compiled again"


@pytest.fixture(scope="module")
def by_hand():
    """Moments (frame, sample, state, …), totals, positions and weights, one sample and state at a time."""

    @eqx.filter_jit
    def look(x, p, k, steps):
        x, p = jax.lax.fori_loop(0, steps, lambda _, z: step(*z, k), (x, p))
        (moments,), totals = TWO_STATES.observe([(Y, GRID.mollifier)], x, p, k)
        return moments, totals, x, Canonical(0.7).weights(TWO_STATES, x)

    def step(x, p, k):
        return trajectory(VelocityVerlet(STEP), lambda y: TWO_STATES.force(y, k), TWO_STATES.masses, x, p, 1)

    def at(frame, sample, k):
        return look(STARTS[sample], MOMENTA[sample], jnp.asarray(k), jnp.asarray(2 * frame))

    every = [at(f, s, k) for f in range(3) for s in range(SAMPLES) for k in (0, 1)]
    moments, totals, x, w = jax.tree.map(lambda *a: np.stack(a).reshape(3, SAMPLES, 2, *np.shape(a[0])), *every)
    return moments, totals, x, w[0, :, 0]


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
    drift = weighted(np.sum(totals.momentum**2, axis=-1)).mean(axis=1) / (2 * MASSES.sum())
    close(carried.temperature, 2 * (mean[1].kinetic - drift) / (2 * (N - 1)), 1e-12)  # each keeps its own momentum
    trace = 2 * mean[1].kinetic - np.trace(np.asarray(mean[1].virial), axis1=1, axis2=2)
    close(carried.pressure, trace / (2 * BOX.volume), 1e-12)
    close(carried.positions, positions.reshape(3, SAMPLES * 2, N, 2), 1e-12)


def test_time_average_is_the_mean_of_the_frames(carried):
    """The frames of equal weight, summed into groups of (sample, time)."""
    averaged = given(average="time").series["points"]

    def mean(series):
        return jax.tree.map(lambda a: np.asarray(a).sum(axis=(0, 1)) / np.sum(series.weight), series.moments)

    close(mean(averaged), mean(carried.series["points"]), 1e-13)
    assert averaged.fields.rho.shape == (1, 5)
    np.testing.assert_allclose((averaged.time[0], np.sum(averaged.weight)), (2 * STEP, 3 * SAMPLES), rtol=1e-14)


def test_result_does_not_depend_on_chunks(carried, monkeypatch):
    """The same operations step by step: 1e-13."""
    monkeypatch.setattr(chunks, "CHUNK", 1)
    close(given().series, carried.series, 1e-13)


def test_group_sums_do_not_depend_on_batches():
    """Σ w observe in each group, however many walkers are seen together, also when the last batch is not full."""
    x, p = jnp.asarray(np.random.default_rng(3).normal(size=(2, 7, 2, 1)))
    w, group = jnp.linspace(0.1, 0.7, 7), jnp.asarray([0, 0, 1, 2, 2, 2, 4])
    walkers = Walkers(Phase(x, p, x), jnp.arange(7), group, w, jax.random.split(jax.random.key(0), 7))
    one_hot = np.eye(5)[np.asarray(group)].T * np.asarray(w)
    expected = one_hot @ (np.sum(np.asarray(x * p), axis=(1, 2)) + np.arange(7)), np.einsum("gb,bnD->gnD", one_hot, x)

    def look(x, p, k, _):
        return jnp.sum(x * p) + k.astype(float), x

    for batch in (1, 3, 100):
        close(group_sums(look, walkers, group, 5, None, batch), expected, 1e-14)


def test_list_gives_what_all_pairs_give_when_outrun(monkeypatch):
    """Fast particles outrun half of the skin within a chunk of four: rebuilt on the way, the same to 1e-9."""
    system, built, build = System(LJ, BOX, MASSES), [], chunks.ListKeeper.build
    monkeypatch.setattr(chunks, "CHUNK", 4)
    monkeypatch.setattr(chunks.ListKeeper, "build", lambda self, x: built.append(1) or build(self, x))
    x, p = STARTS[:2], 8 * MOMENTA[:2]
    listed = given(system, x=x, p=p, steps=12, every=12, neighbours="list", skin=0.2)
    assert len(built) == 4  # by the host: at the start, before the first step and at the two frames

    @jax.jit
    def dense(x, p):
        force = VelocityVerlet(STEP), lambda y: system.force(y, 0), system.masses
        (moments,), totals = system.observe([(Y, GRID.mollifier)], *trajectory(*force, x, p, 12), 0)
        return moments, totals.potential

    moments, potential = jax.tree.map(lambda *a: np.stack(a), *[dense(*z) for z in zip(x, p, strict=True)])
    close(jax.tree.map(lambda a: a[1, :2], listed.series["points"].moments), moments, 1e-9)
    close(listed.potential[1], potential.mean(), 1e-9)
    keeper = chunks.ListKeeper(system, True, 0.2)
    shapes = {tuple(a.shape for a in jax.tree.leaves(keeper.build(z[None]))) for z in STARTS}
    assert len(shapes) == 1  # or the step is compiled again at every rebuild
    with pytest.raises(InputError, match=r"`skin` must cover one step, but particles move more than 0\.1 in one step"):
        keeper.advance(lambda *_: (x, jnp.asarray(True)), x, lambda s: s, 9, print)


def test_chains_on_a_list_are_those_on_all_pairs_or_stale():
    """A list too short for any energy of a chain is reported, also when the proposal was rejected."""
    x = jnp.asarray(np.stack(np.meshgrid(2.1 * np.arange(4), 2.1 * np.arange(3)), -1).reshape(-1, 2))
    system = System(Morse(3.0, 1.0, 0.7, 2.0, "force_shift"), Free(2), np.ones(12), external=HarmonicTrap(0.05, 3.0))
    density, hmc = Canonical(jnp.asarray(1.5)), Sampling(1, 1, leapfrog=10, step=jnp.asarray(0.3))
    lists = [neighbour_list(system.space, scale * x, 2.0, 0.3, capacity=11) for scale in (1.0, 0.1)]
    near, whole = (jax.tree.map(lambda a: a[None], built) for built in lists)  # the second holds every pair
    chain, _ = start_chains(system, density, hmc, x[None], jax.random.key(0), None)
    outrun = 0
    for seed in range(100):
        keys = jax.random.split(jax.random.key(seed), 1)
        listed, stale, _ = advance_chains(system, density, hmc, chain, keys, jnp.asarray(1), 1, near)
        outrun += bool(stale)
        if not stale:
            dense, *_ = advance_chains(system, density, hmc, chain, keys, jnp.asarray(1), 1, whole)
            np.testing.assert_allclose(listed.x, dense.x, rtol=0, atol=1e-9, err_msg=f"seed {seed}")
    assert outrun > 0


def test_groups_are_contiguous_and_even():
    """Each sample a group of its own up to 16 of them, then 16 blocks whose sizes differ by one at most."""
    for samples in (1, 5, 16, 17, 40):
        sizes = np.bincount(group := np.asarray(group_of(samples)))
        assert np.all(np.diff(group) >= 0) and len(sizes) == min(samples, 16) and np.ptp(sizes) <= 1


def test_jackknife_of_a_mean_is_the_textbook_error_and_of_a_ratio_its_linearisation():
    """For equal groups exactly s/√G; a ratio of small fluctuation has the error of its first-order expansion."""
    rng = np.random.default_rng(4)
    a, b = 2 + 0.01 * rng.normal(size=16), 5 + 0.02 * rng.normal(size=16)
    weight = jnp.full(16, 3.0)
    value, error = jackknife(lambda m: (m[0], m[0] / m[1]), (jnp.asarray(3 * a), jnp.asarray(3 * b)), weight)
    np.testing.assert_allclose(value, (a.mean(), a.mean() / b.mean()), rtol=1e-14)
    np.testing.assert_allclose(error[0], a.std(ddof=1) / 4, rtol=1e-10)
    expanded = (a - b * a.mean() / b.mean()) / b.mean()
    np.testing.assert_allclose(error[1], expanded.std(ddof=1) / 4, rtol=1e-2)  # the next order is 0.02/5/√16 of it
    here = (np.arange(16) < 4).astype(float)
    few = jackknife(lambda m: m, jnp.asarray(a * here), jnp.asarray(here))
    np.testing.assert_allclose(few, (a[:4].mean(), a[:4].std(ddof=1) / 2), rtol=1e-10)  # empty groups do not count
    assert np.isinf(jackknife(lambda m: m, jnp.eye(16)[0], jnp.eye(16)[0])[1])


def test_float32_stays_float32_and_vacuum_is_masked():
    """No mass at the last point: `valid` is False, quotients are 0, and NaN in the file alone."""

    def single(tree):
        return jax.tree.map(lambda a: a.astype(jnp.float32) if eqx.is_inexact_array(a) else a, tree)

    grid = Grid(jnp.concatenate([Y / 2, jnp.full((1, 2), 50.0)]), Polynomial(1.5, 2), "points")
    system, grid, x, p = single((System(LJ, Free(2), MASSES), grid, STARTS[:3], MOMENTA[:3]))
    run = given(system, grid, x, p, steps=0)
    series = run.series["points"]
    kinds = {str(a.dtype) for a in jax.tree.leaves(series)}
    assert kinds == {"float32", "bool"} and run.q_star.dtype == jnp.float32 and run.pressure is None
    np.testing.assert_array_equal(series.fields.valid, [[True] * 5 + [False]])
    for a in jax.tree.leaves(eqx.tree_at(lambda f: f.valid, series.fields, None)):
        assert np.all(np.isfinite(a)) and not np.any(np.asarray(a)[:, 5])
    data = run.to_xarray("points")
    nan = [name for name in ("u", "T", "sigma", "q") if np.isnan(data[name].values[0, 5]).all()]
    assert nan == ["u", "T", "q"] and not np.isnan(data["sigma"].values[0, :5]).any()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"grids": []}, "`grids` must hold at least one grid"),
        ({"grids": [GRID, GRID]}, " must "),
        ({"grids": Grid(Y, Polynomial(1.5, 3))}, " must "),
        ({"grids": Grid(Y[:, :1], Polynomial(1.5, 2))}, " must "),
        ({"integrator": None}, "`integrator` must be given"),
        ({"steps": -1}, " must "),
        ({"every": 0}, "`every` must be 1 or more"),
        ({"average": "mean"}, "`average` must be one of"),
        ({"neighbours": "cells"}, "`neighbours` must be one of"),
        ({"neighbours": "list", "skin": -0.1}, " must "),
        ({"keep": ("momenta",)}, " must "),
        ({"x": STARTS[:, :3], "p": MOMENTA[:, :3]}, "`x` must end in"),
        ({"x": STARTS.at[1, 2, 0].set(np.nan)}, "`x` must be finite"),
        ({"p": MOMENTA[:2]}, " must "),
        ({"p": MOMENTA.at[1, 2, 0].set(np.nan)}, " must "),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        given(**options)
