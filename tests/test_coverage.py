"""Coverage of the 95 % bands: how often they hold a known truth, over 4000 replicates with a fixed key.

The standard error of such a share is √(0.95·0.05/4000) = 0.34 %, so 93 to 97 % is six of them either way; the cases
that must fail lie outside by more than that.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import lfilter

from jaxmd_iz.diagnostics import degenerate_states, standard_error, weight_sizes
from jaxmd_iz.statistics import band, jackknife

REPLICATES = 4000
LOW, HIGH = 93.0, 97.0
A = 9 / 11  # AR(1) coefficient with integrated autocorrelation time (1 + A)/(1 − A) = 10


def groups_of(samples, groups):
    """(replicates, samples, …) → sums over contiguous blocks, (replicates, groups, …)."""
    return samples.reshape(REPLICATES, groups, -1, *samples.shape[2:]).sum(axis=2)


def autoregressive(rng, draws, chains=1):
    """Stationary AR(1) chains of mean 0 and variance 1, end to end: (replicates, chains · draws)."""
    noise = rng.normal(size=(REPLICATES * chains, draws))
    noise[:, 1:] *= np.sqrt(1 - A**2)
    return lfilter([1.0], [1.0, -A], noise, axis=1).reshape(REPLICATES, -1)


def means(samples, groups):
    """Case of a plain mean: sums, weights and the truth 0."""
    counts = np.full((REPLICATES, groups), samples.shape[1] // groups, float)
    return groups_of(samples, groups)[..., None], counts, 0.0


def gaussian(rng, groups):
    return means(rng.normal(size=(REPLICATES, groups * 4)), groups)


def exponential(rng, per_group):
    return means(rng.exponential(size=(REPLICATES, 16 * per_group)) - 1, 16)


def blocks(rng, length, chains=1, groups=16):
    return means(autoregressive(rng, length * groups // chains, chains), groups)


def unequal(rng):
    """Fifteen groups of 1 sample and one of 50."""
    x = rng.normal(size=(REPLICATES, 65))
    counts = np.array([1.0] * 8 + [50.0] + [1.0] * 7)
    return np.add.reduceat(x, [*range(9), *range(58, 65)], axis=1)[..., None], np.tile(counts, (REPLICATES, 1)), 0.0


def ratio(rng, per_group=128, shift=0.5):
    """u = m/ρ of correlated positive ρ and m under N(s, 1), from samples of g = N(0, 1) with w = f/g = e^{sx − s²/2}.

    ρ = e^{0.3x + 0.3η}, m = ρ(2 + x/2): E[wρx]/E[wρ] = s + 0.3. The last entry is Σw of each group.
    """
    x, eta = rng.normal(size=(2, REPLICATES, 16 * per_group))
    w = np.exp(shift * x - shift**2 / 2)
    rho = np.exp(0.3 * x + 0.3 * eta)
    sums = np.stack([w * rho * (2 + x / 2), w * rho], axis=-1)
    counts = np.full((REPLICATES, 16), float(per_group))
    return groups_of(sums, 16), counts, 2 + 0.5 * (shift + 0.3), groups_of(w, 16)


def two_states(rng, c=0.1, distance=1.0, per_group=40):
    """(5.22): w_1, w_2 of f_1 = N(0, 1), f_2 = c N(a, 1), from samples of g = f_1 + f_2; q_2* = c/(1 + c)."""
    second = rng.random((REPLICATES, 16 * per_group)) < c / (1 + c)
    x = rng.normal(size=second.shape) + distance * second
    w = 1 / (1 + np.exp(distance**2 / 2 - distance * x) / c)
    return groups_of(np.stack([1 - w, w], axis=-1), 16), np.full((REPLICATES, 16), float(per_group)), c / (1 + c), w


def last(averages):
    return averages[-1]


def quotient(averages):
    return averages[0] / averages[1]


@jax.jit(static_argnames=("estimate", "chains"))
def all_bands(sums, weight, estimate, chains):
    return jax.vmap(lambda s, w: jackknife(estimate, s, w, chains))(sums, weight)


def coverage(case, estimate=last, chains=None):
    """Per cent of the replicates whose band holds the truth."""
    sums, weight, truth, *_ = case
    value, error = all_bands(jnp.asarray(sums), jnp.asarray(weight), estimate, chains)
    low, high = band(value, error, sums.shape[1])
    return 100 * float(np.mean((np.asarray(low) <= truth) & (truth <= np.asarray(high))))


def rng(number=0):
    return np.random.default_rng(number)


CASES = {
    "gaussian mean, 16 groups": (lambda: gaussian(rng(), 16), last, None),
    "gaussian mean, 4 groups": (lambda: gaussian(rng(), 4), last, None),
    "gaussian mean, 2 groups": (lambda: gaussian(rng(), 2), last, None),
    "15 groups of 1 sample and one of 50": (lambda: unequal(rng()), last, None),
    "independent, but taken for one chain": (lambda: gaussian(rng(), 16), last, 1),
    "AR(1), blocks of 10 times": (lambda: blocks(rng(), 100), last, 1),
    "AR(1), blocks of 2 times": (lambda: blocks(rng(), 20), last, 1),
    "AR(1), blocks of 1 time": (lambda: blocks(rng(), 10), last, 1),
    "AR(1), blocks of 1/2 time": (lambda: blocks(rng(), 5), last, 1),
    "AR(1), 4 chains, blocks of 1 time": (lambda: blocks(rng(), 10, 4), last, 4),
    "AR(1), 16 whole chains of 1 time": (lambda: blocks(rng(), 10, 16), last, 16),
    "AR(1), 8 blocks of 1 time": (lambda: blocks(rng(), 10, 1, 8), last, 1),
    "ratio m/ρ with weights": (lambda: ratio(rng()), quotient, None),
    "q* of two states": (lambda: two_states(rng()), last, None),
    "exponential, 8 to a group": (lambda: exponential(rng(), 8), last, None),
}


@pytest.mark.parametrize("name", CASES)
def test_95_per_cent_bands_hold_the_truth_93_to_97_per_cent_of_the_time(name):
    draw, estimate, chains = CASES[name]
    share = coverage(draw(), estimate, chains)
    assert LOW <= share <= HIGH, f"{share:.2f} %"


def test_error_without_autocorrelation_fails():
    """The same chains in the same blocks, taken for independent groups; and every sample for an independent one."""
    sums, weight, truth = blocks(rng(), 10)
    assert coverage((sums, weight, truth)) < 90
    x = autoregressive(rng(), 160)
    naive = 1.96 * x.std(axis=1, ddof=1) / np.sqrt(x.shape[1])
    assert 100 * np.mean(np.abs(x.mean(axis=1)) <= naive) < 60  # errors too small by √10


def test_gaussian_factor_for_four_groups_fails():
    sums, weight, _ = gaussian(rng(), 4)
    value, error = all_bands(jnp.asarray(sums), jnp.asarray(weight), last, None)
    assert 100 * np.mean(np.abs(value) <= 1.96 * error) < 88  # t with 3 degrees of freedom: 85.5


def test_squared_error_of_unequal_groups_is_unbiased_and_the_form_for_equal_groups_is_not():
    """n⟨error²⟩ = 1 for unit variance. It scatters by √(2/15/4000) = 0.6 %, so 3 % is five standard errors.

    (G − 1)/G Σ(θ_(g) − mean)² expects 15/16 Σ_g m_g/(n − m_g) less what the mean takes: about 3.2.
    """
    sums, weight, _ = unequal(rng())
    _, error = all_bands(jnp.asarray(sums), jnp.asarray(weight), last, None)
    np.testing.assert_allclose(65 * np.mean(error**2), 1, rtol=0.03)
    total, mass = sums.sum(axis=1, keepdims=True), weight.sum(axis=1, keepdims=True)
    deleted = ((total - sums) / (mass - weight)[..., None])[..., 0]
    square = 15 / 16 * np.sum((deleted - deleted.mean(axis=1, keepdims=True)) ** 2, axis=1)
    assert 65 * np.mean(square) > 2


def test_random_weights_as_sizes_of_groups_make_errors_too_small():
    """⟨error²⟩ is the variance of the ratio when groups count samples, and half of it when they count weight.

    Strong weights, few samples: the variance of 4000 skew ratios is known to 3 %, so 12 % is four standard errors.
    """
    sums, counts, _, weight = ratio(rng(3), per_group=8, shift=1.0)
    value, error = all_bands(jnp.asarray(sums), jnp.asarray(counts), quotient, None)
    np.testing.assert_allclose(np.mean(error**2), np.var(value), rtol=0.12)
    _, small = all_bands(jnp.asarray(sums), jnp.asarray(weight), quotient, None)
    assert np.mean(small**2) < 0.6 * np.var(value)


def test_state_that_few_samples_carry_is_named_and_its_band_is_too_narrow():
    """40 of 640 samples carry the second state: above 50 coverage holds, here it does not."""
    case = two_states(rng(), c=0.005, distance=2.0)
    few = case[-1]
    sizes = weight_sizes(few[:1000].T)  # each replicate in the place of a state
    assert 30 < np.median(sizes) < 50
    assert coverage(case) < 92
    named = [degenerate_states(np.stack([1 - w, w], axis=1)) for w in few[:200]]
    assert np.mean([n == [1] for n in named]) > 0.5 and all(n in ([], [1]) for n in named)
    many = two_states(rng())[-1][:200]
    assert all(degenerate_states(np.stack([1 - w, w], axis=1)) == [] for w in many)


@pytest.mark.parametrize("chains", [1, 4])
def test_standard_error_of_correlated_draws(chains):
    """±1.96 √(σ²τ/draws) for 100 autocorrelation times in all."""
    x = autoregressive(rng(1), 1000 // chains, chains).reshape(REPLICATES, chains, -1)
    error = standard_error(np.moveaxis(x, 0, -1))
    share = 100 * np.mean(np.abs(x.mean(axis=(1, 2))) <= 1.96 * error)
    assert LOW <= share <= HIGH, f"{share:.2f} %"


if __name__ == "__main__":  # the table
    jax.config.update("jax_enable_x64", True)
    for name, (draw, estimate, chains) in CASES.items():
        print(f"{coverage(draw(), estimate, chains):6.2f}  {name}")
