"""Jackknife of unequal and of linked groups, bands and their gradients; autocorrelation, R̂ and weight sizes."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import lfilter

from jaxmd_iz.checks import InputError
from jaxmd_iz.diagnostics import (
    autocorrelation_time,
    degenerate_states,
    effective_sample_size,
    split_r_hat,
    standard_error,
    weight_sizes,
)
from jaxmd_iz.moments import Moments
from jaxmd_iz.statistics import FieldSeries, band, field_bands, fields_with_errors, jackknife, student_factor


def ratio(a):
    return a[0] / a[1]


def same(a):
    return a


@partial(jax.jit, static_argnums=2)
def jackknife_of_one(sums, weight, chains=None):
    return jackknife(same, sums, weight, chains)


@partial(jax.jit, static_argnums=2)
def jackknife_of_ratio(sums, weight, chains=None):
    return jackknife(ratio, sums, weight, chains)


def test_error_of_a_mean_over_unequal_groups_is_its_closed_form():
    """error² = Σ_g (ȳ_g − θ̂)²/(h_g − 1)/G, its expectation s²/n: exact algebra, so rounding alone remains."""
    rng = np.random.default_rng(0)
    m = np.array([1.0, 1.0, 2.0, 3.0, 5.0, 13.0])
    y = rng.normal(size=(6, 3))
    value, error = jackknife_of_one(jnp.asarray(m[:, None] * y), jnp.asarray(m))
    theta = m @ y / 25
    np.testing.assert_allclose(value, theta, rtol=1e-13)
    expected = np.sqrt(np.mean((y - theta) ** 2 * (m / (25 - m))[:, None], axis=0))
    np.testing.assert_allclose(error, expected, rtol=1e-12)
    # E (ȳ_g − θ̂)² = s²(1/m_g − 1/n), so every group expects s²/n
    np.testing.assert_allclose((1 / m - 1 / 25) * m / (25 - m), 1 / 25, rtol=1e-14)


def test_equal_groups_and_ratios_keep_the_plain_delete_one_form():
    """(G − 1)/G Σ(θ_(g) − mean θ_(g))² for a nonlinear function; groups without samples do not count."""
    rng = np.random.default_rng(1)
    sums = np.exp(rng.normal(size=(16, 2)))
    deleted = ratio((sums.sum(axis=0) - sums).T)
    expected = np.sqrt(15 / 16 * np.sum((deleted - deleted.mean()) ** 2))
    np.testing.assert_allclose(jackknife_of_ratio(jnp.asarray(sums), jnp.full(16, 3.0))[1], expected, rtol=1e-12)
    padded = np.concatenate([sums[:5], np.zeros((3, 2))])
    weight = np.array([2.0] * 5 + [0.0] * 3)
    for chains in (None, 1, 5):
        short = jackknife_of_ratio(jnp.asarray(sums[:5]), jnp.asarray(weight[:5]), chains)
        np.testing.assert_allclose(
            jackknife_of_ratio(jnp.asarray(padded), jnp.asarray(weight), chains), short, rtol=1e-13
        )


def test_whole_chains_are_independent_and_blocks_of_one_are_not():
    """Groups that rise steadily are one slow chain: its error is larger; 16 chains of one group each are not linked."""
    slow = jnp.arange(16.0)
    weight = jnp.ones(16)
    plain = float(jackknife_of_one(slow, weight)[1])
    np.testing.assert_allclose(jackknife_of_one(slow, weight, 16)[1], plain, rtol=1e-14)
    # r̂ = 0.82, mended (16 r̂ + 1)/13 = 1.08, held at 0.9: v = 19, v·15/1
    np.testing.assert_allclose(jackknife_of_one(slow, weight, 1)[1], plain * np.sqrt(19 * 15), rtol=1e-12)
    alternating = jnp.asarray([1.0, -1.0] * 8)  # negative correlation never lowers an error
    pair = jackknife_of_one(alternating, weight, 1)[1], jackknife_of_one(alternating, weight)[1]
    np.testing.assert_allclose(*pair, rtol=1e-14)
    # two chains of eight: seven links in each and none between; by hand
    z = np.asarray(slow) - 7.5
    z[:8] = np.sort(z[:8])[::-1]
    linked = [g for g in range(15) if g != 7]
    r = (16 * np.mean(z[linked] * z[np.array(linked) + 1]) / np.mean(z**2) + 1) / 13
    v = (1 + r) / (1 - r) if 0 <= r <= 0.9 else 19.0
    by_hand = z.std(ddof=1) / 4 * np.sqrt(v * 15 / max(16 - v, 1.0))
    np.testing.assert_allclose(jackknife_of_one(jnp.asarray(z), weight, 2)[1], by_hand, rtol=1e-12)


@pytest.mark.parametrize("chains", [None, 1])
def test_gradients_of_errors_are_those_of_differences_and_finite_at_zero_error(chains):
    rng = np.random.default_rng(2)
    sums = jnp.asarray(3 + np.cumsum(rng.normal(size=(8, 2)), axis=0) / 4)
    weight = jnp.asarray([1.0, 2.0, 1.0, 3.0, 1.0, 1.0, 2.0, 1.0])
    along = jnp.asarray(rng.normal(size=(8, 2)))

    @jax.jit
    def both(t, s):
        return jax.jvp(lambda t: jackknife(ratio, s + t * along, weight, chains), (t,), (jnp.ones(()),))

    _, slope = both(jnp.zeros(()), sums)
    h = 1e-5  # central differences: (h/0.1)² = 1e-8, as errors change over steps of about 0.1, and 1e-16/h = 1e-11
    above, below = (np.asarray(both(jnp.asarray(t), sums)[0]) for t in (h, -h))
    np.testing.assert_allclose(slope, (above - below) / (2 * h), rtol=1e-7)
    equal = 0.5 * jnp.stack([weight, weight], axis=1)  # every deleted ratio is exactly 1
    (_, error), at_zero = both(jnp.zeros(()), equal)
    assert float(error) == 0 and np.all(np.isfinite(at_zero))
    grad = jax.jit(jax.grad(lambda s, w: jackknife(ratio, s, w, chains)[1], argnums=(0, 1)))
    assert all(np.all(np.isfinite(g)) for g in grad(equal, weight))
    alone = jnp.zeros(8).at[0].set(2.0)  # a single group: the error is infinite, its slope is not
    assert all(np.all(np.isfinite(g)) for g in grad(sums, alone))


def test_student_factors_are_the_tabulated_ones():
    """Two-sided 95 % points of t with 1, 3 and 15 degrees of freedom, and 99 % with 15, to the printed decimals."""
    np.testing.assert_allclose(student_factor(np.array([2, 4, 16])), [12.7062, 3.1824, 2.1314], atol=5e-5)
    np.testing.assert_allclose(student_factor(16, 0.99), 2.9467, atol=5e-5)
    assert np.isinf(student_factor(1)) and np.isinf(student_factor(0))


def test_bands_follow_leading_axes_and_leave_booleans():
    value = {"a": jnp.ones((3, 2, 2), jnp.float32), "valid": jnp.array([[True], [False], [True]])}
    error = {"a": jnp.full((3, 2, 2), 0.5, jnp.float32), "valid": value["valid"]}
    low, high = band(value, error, jnp.array([16, 4, 1]))
    assert low["a"].dtype == jnp.float32 and low["valid"].dtype == bool
    half = (high["a"] - low["a"])[:, 0, 0] / 2
    np.testing.assert_allclose(half, [2.1314 / 2, 3.1824 / 2, np.inf], rtol=1e-4)
    exact = band(jnp.ones(2), jnp.zeros(2), 1)  # one group tells nothing, whatever its error
    assert np.all(np.isinf(exact[0])) and np.all(np.isinf(exact[1]))


@pytest.fixture(scope="module")
def raw():
    """Moments of 16 groups at 2 points in 1D, all positive, drifting from group to group."""
    rng = np.random.default_rng(3)

    def some(*shape):
        return jnp.asarray(5 + np.cumsum(rng.normal(size=(16, *shape)), axis=0) / 4)

    tensor, vector, scalar = (2, 1, 1), (2, 1), (2,)
    shapes = (scalar, (2, 1), vector, scalar, scalar, tensor, tensor, vector, vector, tensor, vector, scalar)
    return Moments(*[some(*s) for s in shapes]), some(1)


def test_errors_of_fields_know_their_chains_and_give_bands(raw):
    """`chains` reaches the jackknife of every field, here of ρ, an average itself; bands of a series are ± t errors."""
    moments, momentum = raw
    weight, mass = jnp.full(16, 2.0), jnp.ones(())
    value, error, w = fields_with_errors(moments, momentum, weight, mass, 1)
    plain, linked = (jackknife_of_one(moments.rho, weight, c)[1] for c in (None, 1))
    np.testing.assert_allclose(error.rho, linked, rtol=1e-12)
    assert np.all(np.asarray(linked) > 1.2 * np.asarray(plain))
    once, errors = (jax.tree.map(lambda a: a[None], tree) for tree in (value, error))
    sums = jax.tree.map(lambda a: a[None], moments)
    series = FieldSeries(jnp.zeros(1), jnp.zeros((2, 1)), once, errors, sums, weight[None], w[None])
    low, high = field_bands(series)
    np.testing.assert_allclose((high.q - low.q) / 2, student_factor(16) * errors.q, rtol=1e-9)
    np.testing.assert_allclose((high.q + low.q) / 2, once.q, rtol=1e-9, atol=1e-9)
    assert eqx.tree_equal(low.valid, once.valid)


def autoregressive(a, chains, draws, quantities, seed=0):
    noise = np.random.default_rng(seed).normal(size=(quantities, chains, draws))
    noise[..., 1:] *= np.sqrt(1 - a**2)
    return np.moveaxis(lfilter([1.0], [1.0, -a], noise, axis=-1), 0, -1)


@pytest.mark.parametrize("a", [-0.5, 0.0, 0.5, 0.9])
def test_autocorrelation_time_of_an_autoregressive_chain(a):
    """τ = (1 + a)/(1 − a). One estimate scatters by τ√(2(2·window + 1)/draws), with a window of 5τ and 4 chains of
    4000 draws at most 15 % at τ = 19, so the mean of 40 by 2.4 %; noise in the first lag left out biases it up by less.
    """
    tau = autocorrelation_time(autoregressive(a, 4, 4000, 40))
    np.testing.assert_allclose(tau.mean(), (1 + a) / (1 - a), rtol=0.07)


def test_sizes_and_r_hat_are_those_of_blackjax():
    """To rounding, but where the first lag left out exceeds the last pair P kept, blackjax adds 3P/2 and not the lag.

    That is 1e-4 to 1e-3 of the size for these chains, and Stan's rule is the one kept here.
    """
    diagnostics = pytest.importorskip("blackjax.diagnostics")
    trace = autoregressive(0.8, 4, 1001, 20)
    trace[:, :, 0] = np.round(trace[:, :, 0])  # ties
    trace[:, :, 1] = np.exp(3 * trace[:, :, 1])  # heavy tail
    trace[0, :, 2] += 1.0  # a chain that stands apart
    halves = np.concatenate([trace[:, :500], trace[:, 500:1000]])
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        r_hat, bulk = diagnostics.rhat(trace), diagnostics.ess_bulk(trace)
        plain = diagnostics.effective_sample_size(halves)
    np.testing.assert_allclose(split_r_hat(trace), r_hat, rtol=1e-12)
    for mine, theirs in ((effective_sample_size(trace), bulk), (effective_sample_size(trace, rank=False), plain)):
        off = np.abs(mine / np.asarray(theirs) - 1)
        assert np.median(off) < 1e-10 and np.max(off) < 1e-3


def test_r_hat_sees_shifts_widths_and_drifts():
    """Stationary chains are below 1.01; a chain shifted by 1, one three times as wide, and a trend are not."""
    rng = np.random.default_rng(4)
    good = rng.normal(size=(4, 1000))
    shifted, wide, trend = good.copy(), good.copy(), good + np.linspace(-1, 1, 1000)
    shifted[0] += 1
    wide[0] *= 3
    r = split_r_hat(np.stack([good, shifted, wide, trend], axis=-1))
    assert r[0] < 1.01 and np.all(r[1:] > 1.05), r


def test_traces_that_do_not_move_have_no_error_and_stuck_chains_have_r_hat_infinity():
    still = np.full((3, 20), 0.1)
    assert float(standard_error(still)) == 0 and float(split_r_hat(still)) == 1
    assert float(effective_sample_size(still)) == 60 and float(autocorrelation_time(still)) == 1
    stuck = still + np.arange(3)[:, None]
    assert np.isinf(split_r_hat(stuck)) and float(effective_sample_size(stuck)) < 7  # six halves, three places
    single = jnp.asarray(autoregressive(0.5, 1, 100, 2), jnp.float32)
    assert standard_error(single).dtype == np.float64 and np.all(standard_error(single) > 0)


def test_weight_sizes_are_kishs_and_name_the_states_that_few_samples_carry():
    w = np.zeros((1000, 5))
    w[:, 0] = 0.9  # all alike
    w[:10, 1] = 0.1  # ten of them
    w[:, 2] = np.arange(1000) / 1e4
    w[0, 3] = 1e-200  # a square that is nothing, and no matter
    np.testing.assert_allclose(weight_sizes(w)[[0, 1, 3, 4]], [1000, 10, 1, 0], rtol=1e-12)
    # Σk = S(S − 1)/2, Σk² = (S − 1)S(2S − 1)/6
    np.testing.assert_allclose(weight_sizes(w)[2], 1.5 * 1000 * 999 / 1999, rtol=1e-12)
    assert degenerate_states(jnp.asarray(w)) == [1]
    assert degenerate_states(w, least=5.0) == [] and degenerate_states(w, negligible=0.0) == [1, 3]


def test_kish_size_gives_the_relative_error_of_q_star():
    """√(1/size − 1/S) is s/(q*√S) of independent samples, with the variance about the mean: exact algebra."""
    w = np.random.default_rng(5).random((200, 2)) ** 4
    relative = w.std(axis=0) / w.mean(axis=0) / np.sqrt(200)
    np.testing.assert_allclose(np.sqrt(1 / weight_sizes(w) - 1 / 200), relative, rtol=1e-11)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: jackknife(same, jnp.ones(4), jnp.ones(4), 0), "Argument `chains` must be 1 or more, but it is 0"),
        (lambda: student_factor(16, 1.0), "Argument `level` must lie between 0 and 1, but it is 1.0"),
        (lambda: split_r_hat(np.ones((4, 7))), "Argument `trace` must hold chains of 8 draws or more"),
        (lambda: autocorrelation_time(np.full((1, 9), np.nan)), "Argument `trace` must be finite"),
        (lambda: weight_sizes(np.zeros((0, 2))), "Argument `w` must hold samples"),
        (lambda: degenerate_states(-np.ones((3, 2))), "Argument `w` must be finite and not negative"),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(InputError) as error:
        call()
    assert says in str(error.value)
