"""Chains of every sampler against exact densities and, proposal by proposal, against those of blackjax."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import beta, kstest

from jaxmd_iz import tempering
from jaxmd_iz.checks import InputError
from jaxmd_iz.ensemble import advance_chains, start_chains
from jaxmd_iz.gibbs import Canonical
from jaxmd_iz.neighbours import neighbour_list
from jaxmd_iz.potentials.base import FromFunction
from jaxmd_iz.potentials.external import HarmonicTrap
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.sampling import Sampling, advance_chain, check_start, start_chain, swap_rates
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.system import System


def begin(system, temperature, sampling, start, state=None):
    """Chains at one start, and a function (chains, first, count) → (chains, trace of Φ)."""
    density = Canonical(temperature)
    x = jnp.broadcast_to(start, (sampling.samples, *start.shape))
    chains, keys = start_chains(system, density, sampling, x, jax.random.key(1), None, state)

    def advance(now, first, count):
        at = jnp.asarray(first)
        after, stale, trace = advance_chains(system, density, sampling, now, keys, at, count, None, state)
        assert not stale
        return after, trace

    return chains, advance


MASSES = np.array([1.0, 2.0, 5.0])


def wavy(x):
    """λ^n, none of it harmonic, with all particles coupled."""
    return jnp.sum(x**4, axis=1) + jnp.sin(jnp.sum(x))


@pytest.mark.parametrize("sampler", ["hmc", "mala", "nuts"])
def test_every_proposal_is_that_of_blackjax(sampler):
    """The same keys give the same chain as blackjax with the autodiff of Φ, for 20 proposals, to rounding.

    Rounding grows by less than 10³ here. HMC's own jitter of the step is handed over; MALA knows no masses there, and
    works on x√m with diffusion time h²/2. At these steps proposals are taken as well as refused.
    """
    import blackjax

    system, density, count = System(FromFunction(wavy), Free(2), MASSES), Canonical(0.4), 20
    h = {"hmc": 0.5, "mala": 0.4, "nuts": 0.25}[sampler]
    sampling = Sampling(1, 0, sampler, leapfrog=3, step=h, doublings=3)
    m = np.broadcast_to(MASSES[:, None] / 0.4, (3, 2))
    root = np.sqrt(m) if sampler == "mala" else np.ones((3, 2))
    x, key = jnp.asarray([[0.3, 0.1], [-0.2, 0.5], [0.4, -0.1]]), jax.random.key(4)
    module = getattr(blackjax, sampler)
    kernel = module.build_kernel()

    def log_density(y):
        return jax.nn.logsumexp(-density.actions(system, y / root))

    def body(state, i):
        here = jax.random.fold_in(key, i)
        jitter = jax.random.uniform(jax.random.fold_in(here, 2), (), float, -1.0, 1.0)
        options = {
            "hmc": (h * (1 + 0.2 * jitter), 1 / m.ravel(), 3), "mala": (h**2 / 2,), "nuts": (h, 1 / m.ravel(), 3)
        }  # fmt: skip
        after, _ = kernel(here, state, log_density, *options[sampler])
        return after, (-after.logdensity, jnp.any(after.position != state.position))

    @jax.jit
    def both():
        chain = start_chain(system, density, sampling, x, key)
        _, stale, trace = advance_chain(system, density, sampling, chain, key, 0, count)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            _, (expected, moved) = jax.lax.scan(body, module.init(x * root, log_density), jnp.arange(count))
        return stale, trace, expected, moved

    stale, trace, expected, moved = both()
    assert not stale and np.sum(moved) > 5 and (sampler == "nuts" or np.sum(~moved) > 1)
    np.testing.assert_allclose(trace, expected, rtol=0, atol=1e-11)


STIFFNESS = np.array([1.0, 400.0])
ILL = {
    "hmc": {"samples": 1000, "burn_in": 240, "leapfrog": 6, "step": 0.05},
    "nuts": {"samples": 400, "burn_in": 160, "doublings": 3, "step": 0.05},
}


@pytest.fixture(scope="module")
def in_trap():
    """Chains of three particles in a trap of frequencies 1 : 45, after the adaptation and after the burn-in."""
    system = System(FromFunction(lambda x: 0 * x[:, 0]), Free(2), MASSES, external=HarmonicTrap(STIFFNESS))
    found = {}
    for sampler, options in ILL.items():
        sampling = Sampling(sampler=sampler, mass="adapted", **options)
        chains, advance = begin(system, 0.7, sampling, jnp.zeros((3, 2)))
        half = sampling.adapting
        middle, _ = advance(chains, 0, half)
        last, _ = advance(middle, half, half)
        found[sampler] = middle, last, sampling
    return found


@pytest.mark.parametrize("sampler", ILL)
def test_an_adapted_mass_samples_stiff_and_soft_alike(in_trap, sampler):
    """Variances T/k, Gaussian, uncorrelated; and 1/inertia has come close to the variances from a factor 2000 away.

    Six coordinates of N chains are independent: four standard errors are 4/√N of σ and of covariances, 4√(2/N) of σ².
    What remains of the factor, 1.8 to 3.5, is that windows are no longer than the soft coordinates' memory.
    """
    _, last, sampling = in_trap[sampler]
    count = sampling.samples
    u = (np.asarray(last.x) * np.sqrt(STIFFNESS / 0.7)).reshape(count, 6)
    assert np.max(np.abs(np.mean(u, axis=0))) < 4 / np.sqrt(count)
    square = u.T @ u / count - np.eye(6)
    assert np.max(np.abs(np.diag(square))) < 4 * np.sqrt(2 / count)
    assert np.max(np.abs(square - np.diag(np.diag(square)))) < 4 / np.sqrt(count)
    assert kstest(u.ravel(), "norm", method="asymp").pvalue > 1e-3
    ratio = np.exp(np.mean(np.log(np.asarray(last.spread.inertia) / STIFFNESS), axis=0))
    assert np.max(ratio) < 6 * np.min(ratio)


@pytest.mark.parametrize("sampler", ILL)
def test_the_step_is_frozen_after_half_the_burn_in_at_its_target(in_trap, sampler):
    """Step and inertia end as they were in the middle."""
    middle, last, sampling = in_trap[sampler]
    np.testing.assert_array_equal(middle.step, last.step)
    np.testing.assert_array_equal(middle.spread.inertia, last.spread.inertia)
    assert np.all(np.asarray(middle.step) != sampling.step)
    acceptance = float(np.mean(last.accepted)) / sampling.adapting
    assert abs(acceptance - 0.8) < 0.06  # the last of four restarts leaves 10 to 15 proposals to tune it


HEIGHT, TILT, COLD, HOT = 4.0, 0.3, 0.4, 12.0  # a barrier of 10 T, of less than one on the last rung


def wells(x):
    """λ = h (x² − 1)² + s x of one particle on a line, NaN beyond 1.4."""
    x = x[:, 0]
    return HEIGHT * (x**2 - 1) ** 2 + TILT * x + 0 * jnp.sqrt(1.4 - jnp.abs(x))


def from_shallow_well(rungs, chunks=(40,) * 12):
    """800 chains from the shallow well. In one dimension long steps hop over barriers: hence the high target."""
    sampling = Sampling(800, 200, leapfrog=5, step=0.1, target=0.95, mass="adapted", rungs=rungs, hottest=HOT)
    chains, advance = begin(System(FromFunction(wells), Free(1), np.ones(1)), COLD, sampling, jnp.ones((1, 1)))
    traces = []
    for i, chunk in enumerate(chunks):
        chains, trace = advance(chains, sum(chunks[:i]), chunk)
        traces.append(trace)
    return chains, np.concatenate(traces, axis=1)


def test_replica_exchange_fills_both_wells_and_plain_chains_do_not():
    """Populations and ⟨x²⟩ of the coldest and the hottest rung by quadrature within 4 standard errors.

    480 proposals are nine times the time in which populations relax. Without exchange few chains leave the start. The
    hottest ones often propose places without a finite Φ.
    """
    grid, count = np.linspace(-1.4, 1.4, 4001)[1:-1], 800  # the trapezoidal rule's error is 1e-6 and less
    chains, trace = from_shallow_well(3)
    assert np.all(np.isfinite(trace))
    for at, b in ((chains.x, 1.0), (chains.ladder.hot.point.x[:, -1], 1 / HOT)):
        weight = np.exp(-b * np.asarray(wells(grid[:, None])) / COLD)
        weight = weight / np.sum(weight)
        left, x = float(np.sum(weight[grid < 0])), np.asarray(at)[:, 0, 0]
        assert left > 0.5 and abs(np.mean(x < 0) - left) < 4 * np.sqrt(left * (1 - left) / count)
        assert abs(np.mean(x**2) - weight @ grid**2) < 4 * np.std(x**2) / np.sqrt(count)
    np.testing.assert_allclose(chains.action, wells(chains.x[:, 0]) / COLD, rtol=1e-12, atol=1e-14)
    rates = swap_rates(chains)
    assert rates.shape == (2,) and np.all((rates > 0.3) & (rates < 0.9))
    np.testing.assert_array_equal(chains.ladder.tried, (480 - 100) / 2)  # every other proposal after the adaptation
    assert np.mean(np.asarray(from_shallow_well(1)[0].x) < 0) < 0.1


def test_swaps_balance_in_detail():
    """P(A → B)/P(B → A) = e^{(b_r − b_{r+1})(Φ_r − Φ_{r+1})}, pairs in turn; frequencies within 4 standard errors."""
    b, action, count = jnp.asarray([1.0, 0.6, 0.36, 0.2]), jnp.asarray([2.0, 3.5, 2.5, 5.0]), 20_000
    np.testing.assert_allclose(tempering.factors(3, 9.0, jnp.float64), [1, 1 / 3, 1 / 9], rtol=1e-15)

    @jax.jit
    def frequencies(i, action):
        keys = jax.random.split(jax.random.key(2), count)
        order, tried, taken = jax.vmap(lambda k: tempering.swap(k, i, b, action))(keys)
        fits = jnp.sort(order, axis=1) == jnp.arange(4)[None, :]
        moved = order[:, :-1] == jnp.arange(1, 4)[None, :]
        return jnp.mean(taken, axis=0), jnp.mean(tried, axis=0), jnp.all(fits) & jnp.all(moved == (taken > 0))

    for i, pairs in ((0, [0, 2]), (1, [1])):
        for values in (action, action[::-1]):
            rate, tried, valid = frequencies(jnp.asarray(i), values)
            expected = np.exp(np.minimum((b[:-1] - b[1:]) * (values[:-1] - values[1:]), 0))
            expected = np.where(np.isin(np.arange(3), pairs), expected, 0)
            assert valid
            np.testing.assert_array_equal(tried, expected > 0)
            assert np.all(np.abs(rate - expected) <= 4 * np.sqrt(expected * (1 - expected) / count))


def crossing(x):
    """Two states of one particle on a line: V = [[0.9x, c], [c, Δ − 0.9x]], c = ½, Δ = 0.4."""
    slope, off = 0.9 * x[:, 0], jnp.full(x.shape[:1], 0.5, x.dtype)
    return jnp.stack([jnp.stack([slope, off], -1), jnp.stack([off, 0.4 - slope], -1)], -2)


def test_states_together_or_one_by_one_have_the_averages_of_quadrature():
    """⟨x⟩ and ⟨x²⟩ of MALA in either state, and summed over them, within 4 standard errors of 600 chains each."""
    system = System(FromFunction(crossing, states=2), Free(1), np.ones(1), None, HarmonicTrap(2.0), "none")
    x, count = np.linspace(-8, 8, 4001), 600
    r = np.sqrt((0.9 * x - 0.2) ** 2 + 0.25)
    f = np.exp(-(0.2 + np.array([-r, r]) + x**2) / 0.5)
    sampling = Sampling(2 * count, 30, "mala", step=0.5)
    for state, density in ((None, np.stack([f[0] + f[1]] * 2)), (jnp.tile(jnp.arange(2), count), f)):
        chains, advance = begin(system, 0.5, sampling, jnp.zeros((1, 1)), state)
        found = np.asarray(advance(chains, 0, 60)[0].x)[:, 0, 0]
        for k in range(2):
            mine = found[k::2]
            for power in (1, 2):
                exact = density[k] @ x**power / np.sum(density[k])
                assert abs(np.mean(mine**power) - exact) < 4 * np.std(mine**power) / np.sqrt(count)


def test_two_chunks_are_one():
    """Every field and the trace, for tuning and swaps, to rounding, which 40 proposals amplify less than 10⁴ times."""
    (whole, trace), (parts, joined) = (from_shallow_well(3, chunks) for chunks in ((40,), (20, 20)))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)
    np.testing.assert_allclose(trace, joined, rtol=0, atol=1e-11)
    assert not np.allclose(trace[:, 10], trace[:, 39])


def test_nuts_stays_where_the_action_is_finite():
    """e^{−Φ} = (1 − x²)² on (−1, 1), a Beta(3, 3) density, at a step that often leads out of it."""
    system = System(FromFunction(lambda x: -2 * jnp.log(1 - x[:, 0] ** 2)), Free(1), np.ones(1))
    sampling = Sampling(1000, 0, "nuts", step=0.4, doublings=3)
    chains, advance = begin(system, 1.0, sampling, jnp.zeros((1, 1)))
    chains, trace = advance(chains, 0, 40)
    assert np.all(np.isfinite(trace)) and np.all(np.isfinite(chains.gradient))
    assert np.mean(chains.accepted) < 38  # so many were refused
    assert kstest(np.asarray(chains.x).ravel(), beta(3, 3, loc=-1, scale=2).cdf, method="asymp").pvalue > 1e-3
    check_start(chains)
    with pytest.raises(InputError, match="`chain` must have `rungs` of 2 or more"):
        swap_rates(chains)
    bad, _ = begin(system, 1.0, sampling, jnp.full((1, 1), 1.5))
    with pytest.raises(InputError, match="`x` must be positions of finite energy and forces, but 1000 of 1000 chains"):
        check_start(bad)


@pytest.mark.parametrize(("sampler", "step"), [("hmc", 0.0025), ("nuts", 0.002)])
def test_a_neighbour_list_that_is_outrun_is_seen(sampler, step):
    """Chains that stay within the skin have the trace of all pairs, to rounding; the others say so.

    Also when a place beyond it was visited and left again; NUTS never stays there.
    """
    side, cutoff, skin = 4.6, 1.5, 0.1
    grid = (np.stack(np.meshgrid(*[np.arange(4)] * 2, indexing="ij"), -1).reshape(-1, 2) + 0.5) * side / 4
    system = System(LennardJones(1.0, 1.0, cutoff, "force_shift"), Periodic([side] * 2), np.ones(16), correction="none")
    density, x, count = Canonical(1.0), jnp.asarray(grid), 60
    sampling = Sampling(count, 0, sampler, leapfrog=5, step=step, doublings=3)
    short = neighbour_list(system.space, grid, cutoff, skin, 15)
    full = dataclasses.replace(neighbour_list(system.space, grid, cutoff, 1.1 * side, 15), skin=skin)
    assert np.sum(short.mask) == 4 * 16 and np.all(full.mask)
    lists = jax.tree.map(lambda *a: jnp.stack(a), short, full)
    keys = jax.random.split(jax.random.key(0), count)

    @jax.jit
    def run(keys):
        def one(key, nl):
            chain = start_chain(system, density, sampling, x, key, nl)
            return advance_chain(system, density, sampling, chain, key, 0, 3, nl)

        return jax.vmap(lambda nl: jax.vmap(lambda key: one(key, nl))(keys))(lists)

    after, (stale, _), (trace, expected) = run(keys)
    moved = jax.vmap(lambda a: short.moved(system.space, a))(after.x[0])
    assert 2 < np.sum(stale) < count - 2
    assert np.all(stale | ~moved) and np.any(stale & ~moved) and np.any(moved) == (sampler == "hmc")
    np.testing.assert_allclose(trace[~stale], expected[~stale], rtol=0, atol=1e-11)
    with pytest.raises(InputError, match="`rungs` must be 1 with a neighbour list, but it is 2"):
        advance_chain(system, density, Sampling(rungs=2), after, keys[0], 0, 1, short)


def test_float32_stays_float32():
    """Every field of a chain keeps its type through tuning, swaps and blackjax."""
    system = System(FromFunction(wells), Free(1), np.ones(1, np.float32))
    for options in ({"rungs": 3}, {"sampler": "nuts"}, {"sampler": "mala"}):
        sampling = Sampling(mass="adapted", **options)

        def both(x, sampling=sampling):
            chain = start_chain(system, Canonical(COLD), sampling, x, jax.random.key(0))
            return chain, advance_chain(system, Canonical(COLD), sampling, chain, jax.random.key(0), 0, 2)

        chain, (after, _, trace) = jax.eval_shape(both, jax.ShapeDtypeStruct((1, 1), jnp.float32))
        assert chain == after and trace.dtype == jnp.float32
        assert {a.dtype for a in jax.tree.leaves(after)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sampler": "gibbs"}, "`sampler` must be one of `hmc`, `nuts`, `mala`, `langevin`, but it is `gibbs`"),
        ({"states": "both"}, "`states` must be one of `together`, `apart`"),
        ({"mass": "dense"}, "`mass` must be one of `given`, `adapted`"),
        ({"target": 1.0}, "`target` must lie between 0 and 1, but it is 1"),
        ({"step": 0.0}, "`step` must be above 0, but it is 0"),
        ({"step": float("nan")}, "`step` must be above 0, but it is nan"),
        ({"friction": -1.0}, "`friction` must be zero or more, but it is -1"),
        ({"hottest": 1.0}, "`hottest` must be above 1, but it is 1"),
        ({"sampler": "nuts", "rungs": 2}, "`rungs` must be 1 with `nuts`, but it is 2"),
        ({"sampler": "langevin", "mass": "adapted"}, "`mass` must be `given` with `langevin`"),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Sampling(**options)


def test_nuts_without_blackjax_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "blackjax", None)
    with pytest.raises(InputError, match=r"but it is `nuts`. Install it: pip install 'jaxmd-iz\[sample\]'"):
        Sampling(sampler="nuts")
    Sampling(sampler="mala")
