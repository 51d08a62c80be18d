"""Matching of the local Gibbs density: closed forms, quadrature, derivatives of the dual, data out of reach."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import dual
from jaxmd_iz.checks import InputError
from jaxmd_iz.dual import Configurations, configurations
from jaxmd_iz.local_gibbs import Cells, Natural
from jaxmd_iz.matching import Data, match, solve
from jaxmd_iz.mollifiers import Cubic
from jaxmd_iz.potentials.base import FromFunction
from jaxmd_iz.space import Periodic
from jaxmd_iz.system import System

# Two particles of different mass on a ring of length 6 that do not interact, each with two states of known energy:
# d = 4 states of the system, and every average a quadrature. The tests share these shapes, which compile once.
POINTS, SAMPLES, MASSES, BETA_0 = 6, 600, np.array([1.0, 2.5]), 0.8
GRID = (np.arange(6000) + 0.5) * (POINTS / 6000)
CELLS = Cells(jnp.arange(POINTS, dtype=float)[:, None], jnp.ones(POINTS), Cubic(1.0, 1))
WAVE = 2 * np.pi * np.arange(POINTS) / POINTS
SIN = jnp.asarray(np.sin(WAVE))
THETA = Natural(jnp.asarray(1 + 0.3 * np.cos(WAVE)), 0.4 * SIN[:, None] + 0.2, 0.5 * SIN)
START = Natural(jnp.full(POINTS, 0.8), jnp.zeros((POINTS, 1)), jnp.zeros(POINTS))
STATES = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])  # of each particle in each state of the system


def cubic(x):
    """a_k(x), (…, K), of ε = v = 1 in one dimension: C = 1."""
    r = np.abs((x[..., None] - np.arange(POINTS) + 3) % 6 - 3)
    return np.where(r < 1, 1 - 3 * r**2 + 2 * r**3, 0)


def nothing(x):
    """λ_s(x) of the ideal gas, (2, …)."""
    return 0.0 * np.stack([x, x])


def electrons(x):
    """λ_s(x) of one particle, (2, …): the gap goes from 0.5 to 1.1."""
    return np.stack([-0.4 * np.cos(np.pi * x / 3), 0.8 + 0.3 * np.sin(np.pi * x / 3)])


def exact(theta, levels):
    """Data of θ by the midpoint rule, error about 1e-7, and the density of each particle on the grid."""
    a, lam = cubic(GRID), levels(GRID)
    big_b = BETA_0 + a @ (np.asarray(theta.beta) - BETA_0)
    big_u, nu = a @ np.asarray(theta.beta_u)[:, 0], a @ np.asarray(theta.nu)
    total, densities = np.zeros((3, POINTS)), []
    for mass in MASSES:
        log_states = -big_b * lam + 0.5 * np.log(mass / big_b) + mass * big_u**2 / (2 * big_b) + mass * nu
        f = np.exp(log_states - np.max(log_states))
        f /= np.sum(f)
        kinetic = 1 / (2 * big_b) + mass * big_u**2 / (2 * big_b**2)
        energy = np.sum(f * (kinetic + lam), axis=0)
        density = np.sum(f, axis=0)
        total += np.stack([energy, density * mass * big_u / big_b, density * mass]) @ a
        densities.append(density)
    return Data(jnp.asarray(total[2]), jnp.asarray(total[1])[:, None], jnp.asarray(total[0])), densities


def sampled(x, levels):
    """Configurations of positions (S, 2)."""
    lam = np.swapaxes(levels(x), 0, 1)  # (S, 2 states, 2 particles)
    each = np.stack([lam[:, STATES[:, n], n] for n in range(2)], axis=2)
    return Configurations(jnp.asarray(cubic(x)), jnp.asarray(each))


def sampler(levels, seed=0):
    """Positions of exactly the density, independent in each round, by the inverse of the distribution function."""

    def draw(theta, number):
        rng = np.random.default_rng([seed, number])
        whole = [np.cumsum(density) for density in exact(theta, levels)[1]]
        return sampled(np.stack([np.interp(rng.random(SAMPLES), each, GRID) for each in whole], axis=1), levels)

    return draw


def matched(data, draw, **options):
    return match(data, CELLS, BETA_0, jnp.asarray(MASSES), draw, START, **options)


def conjugate(data):
    """The averages (−E, m, ρ), (K, 3); v = 1."""
    return dual.pack(Natural(-data.energy, data.momentum, data.rho))


def centred(theta):
    """θ as a matrix, with the mean of ν taken away."""
    rows = np.array(dual.pack(theta))
    rows[:, -1] -= rows[:, -1].mean()
    return rows


@pytest.mark.parametrize(("levels", "given", "dof"), [(nothing, "E", 15), (electrons, "E", 16), (electrons, "T", 10)])
def test_a_known_theta_is_recovered_from_its_exact_moments(levels, given, dof):
    """To 4.5 standard errors of each of 18 numbers, and fresh samples refuse the start.

    Noise has 18 − 1 directions (12 − 1 if T is given) less one for each identity that holds for every x:
    Σ β_k m_k = Σ βu_k ρ_k, since B·MU/B = MU, and for the ideal gas Σ β_k E_k − Σ βu_k·m_k/2 = nD/2. The energy of the
    electrons is seen: the ideal gas of the same θ misses the data.
    """
    data = exact(THETA, levels)[0]
    hot = Data(data.rho, data.momentum, temperature=1 / THETA.beta)
    found = matched(data if given == "E" else hot, sampler(levels))
    assert found.converged and found.rounds <= 8
    assert found.history[0].chi2 > 30 * found.history[0].dof
    assert abs(found.dof - dof) < 0.1
    error = np.asarray(dual.pack(found.theta_error))
    z = np.abs(centred(found.theta) - centred(THETA))
    assert np.all(z <= 4.5 * error + 1e-15), z / error
    assert abs(float(jnp.mean(found.theta.nu))) < 1e-12  # that of the start
    for residual, noise in zip(jax.tree.leaves(found.residual), jax.tree.leaves(found.error), strict=True):
        assert np.max(np.abs(residual / noise)) < 4.5 * np.sqrt(2)  # θ has the errors of another set of samples
    if given == "T":
        assert found.residual.energy is None and np.all(error[:, 0] == 0)
    elif levels is electrons:
        for f, seen in ((electrons, False), (nothing, True)):
            missed = np.abs(exact(found.theta, f)[0].energy - data.energy) / found.error.energy
            assert (np.max(missed) > 4.5) == seen


def test_the_exact_theta_has_as_much_chi_square_as_directions_with_noise():
    """The mean over 40 sets of samples is dof to 4 standard errors √(2 dof/40): neither lenient nor strict."""
    target, draw = conjugate(exact(THETA, electrons)[0]), sampler(electrons, 9)
    rest = [jnp.asarray(value) for value in (BETA_0, MASSES, 0, 1e-8)]
    tests = [dual.assess(dual.pack(THETA), target, draw(THETA, s), *rest) for s in range(40)]
    dof = float(tests[0].dof)
    assert abs(np.mean([float(t.chi2) for t in tests]) - dof) < 4 * np.sqrt(2 * dof / 40)


def test_the_shares_and_levels_of_a_system():
    """Those of this file's own formulas, to rounding, through a potential that is a function of x."""

    def two(x):
        levels = jnp.stack([-0.4 * jnp.cos(np.pi * x[:, 0] / 3), 0.8 + 0.3 * jnp.sin(np.pi * x[:, 0] / 3)])
        return jnp.moveaxis(levels[:, None, :] * jnp.eye(2)[:, :, None], 2, 0)

    x = np.random.default_rng(1).uniform(-3, 9, (70, 2))
    system = System(FromFunction(two, states=2), Periodic([6.0]), MASSES, correction="none")
    found = configurations(system, CELLS, jnp.asarray(x)[:, :, None])
    np.testing.assert_allclose(found.shares, cubic(x), rtol=0, atol=1e-13)
    both = np.swapaxes(electrons(x), 0, 1)
    # the two particles share their electrons here, so that the states are ordered by the sum
    order = np.argsort(both.sum(axis=2), axis=1)
    np.testing.assert_allclose(found.levels, np.take_along_axis(both, order[:, :, None], axis=1), rtol=0, atol=1e-13)


def difference(f, h):
    """Derivative at 0 by central differences of fourth order."""
    f = [np.asarray(f(jnp.asarray(s * h))) for s in (-2, -1, 1, 2)]
    return (8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * h)


@pytest.fixture(scope="module")
def drawn():
    """Data of θ, samples of it and the value of log g there."""
    samples = sampler(electrons, seed=5)(THETA, 0)
    reference = dual.log_densities(dual.pack(THETA), samples, BETA_0, jnp.asarray(MASSES))
    return exact(THETA, electrons)[0], samples, reference


def solved(samples, data, reference):
    return dual.pack(solve(samples, data, CELLS, BETA_0, jnp.asarray(MASSES), THETA, reference=reference))


@pytest.mark.parametrize("given", ["energy", "temperature"])
def test_the_implicit_derivative_is_that_of_solving_again(drawn, given):
    """In data and levels at once: 1e-8 of the largest, h⁴ ≈ 1e-10 and 1e-12/h of rounding; forwards and backwards."""
    data, samples, reference = drawn
    if given == "temperature":
        data = Data(data.rho, data.momentum, temperature=1 / THETA.beta)
    rng = np.random.default_rng(6)
    move = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)) * 0.1, data)
    move = eqx.tree_at(lambda d: d.rho, move, move.rho - jnp.mean(move.rho))  # no other total mass
    bend = jnp.sin(3 * samples.levels + jnp.asarray(rng.normal(size=(1, 4, 2))))

    def along(t):
        changed = eqx.tree_at(lambda s: s.levels, samples, samples.levels + t * bend)
        return solved(changed, jax.tree.map(lambda a, b: a + t * b, data, move), reference)

    value, slope = jax.jvp(along, (jnp.zeros(()),), (jnp.ones(()),))
    expected = difference(along, 3e-3)
    scale = np.max(np.abs(expected))
    assert scale > 0.1
    np.testing.assert_allclose(slope, expected, rtol=0, atol=1e-7 * scale)
    way = jnp.asarray(rng.normal(size=value.shape))
    back = jax.grad(lambda t: jnp.sum(way * along(t)))(0.0)
    assert abs(float(back - jnp.sum(way * slope))) < 1e-12 * scale
    # what was solved: the averages of the samples are the data
    mean = dual.mean_slope(value, samples, BETA_0, jnp.asarray(MASSES), reference)[0].reshape(value.shape)
    first = int(given == "temperature")
    np.testing.assert_allclose(mean[:, first:], conjugate(drawn[0])[:, first:], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(value[:, :first], dual.pack(THETA)[:, :first])


def test_a_moving_frame_changes_the_velocity_alone(drawn):
    """m + ρw and E + m·w + ρw²/2 shift βu by βw and ν by −βu·w − βw²/2, and leave β: to rounding."""
    data, samples, reference = drawn
    w, still = 0.7, np.asarray(solved(samples, data, reference))
    energy = data.energy + w * data.momentum[:, 0] + w**2 / 2 * data.rho
    moving = np.asarray(solved(samples, Data(data.rho, data.momentum + w * data.rho[:, None], energy), reference))
    np.testing.assert_allclose(moving[:, 0], still[:, 0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(moving[:, 1], still[:, 1] + w * still[:, 0], rtol=0, atol=1e-10)
    shift = moving[:, 2] - still[:, 2] + w * still[:, 1] + w**2 / 2 * still[:, 0]
    np.testing.assert_allclose(shift, np.mean(shift), rtol=0, atol=1e-10)


@pytest.mark.parametrize("start", [0.03, 40.0])
def test_one_cell_has_the_temperature_of_its_energy(start):
    """E = N (D/2) T + |m|²/2ρ with a = 1: T = 0.9 and u in closed form, with no Monte Carlo error at all."""
    n, dim, volume, u = 5, 3, 2.0, np.array([[0.3, -0.1, 0.2]])
    masses = jnp.asarray([1.0, 1.0, 2.0, 3.0, 3.0])
    cell = Cells(jnp.zeros((1, 3)), jnp.full(1, volume), Cubic(1.0, 3))
    samples = Configurations(jnp.ones((12, n, 1)), jnp.zeros((12, 1, n)))
    energy = (n * dim / 2 * 0.9 + 10 * np.sum(u**2) / 2) / volume
    data = Data(jnp.full(1, 10 / volume), jnp.asarray(10 * u / volume), jnp.full(1, energy))
    at = Natural(jnp.full(1, start), jnp.zeros((1, 3)), jnp.full(1, 0.4))
    found = match(data, cell, 1.3, masses, lambda *_: samples, at)
    assert found.converged and found.dof < 1e-6
    np.testing.assert_allclose(found.theta.beta, 1 / 0.9, rtol=1e-9)
    np.testing.assert_allclose(found.theta.beta_u, u / 0.9, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(found.theta.nu, [0.4])  # any value would do


# --- data that no density reaches ---------------------------------------------------------------------------------


def changed(name, k, value):
    data = exact(THETA, nothing)[0]
    return eqx.tree_at(lambda d: getattr(d, name), data, getattr(data, name).at[k].set(value))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (lambda: changed("rho", 2, -0.1), r"`rho` must be positive, but it is -0\.1 at point 2, y = \[2\.\]"),
        (lambda: changed("momentum", 1, np.nan), r"`momentum` must be finite, but it is \[nan\] at point 1"),
        (lambda: changed("rho", 0, 2.0), r"`rho` must have the total mass Σ v ρ of the particles, 3\.5, but it is"),
        (lambda: changed("energy", 4, -0.01), r"`energy` must exceed .* of the mean flow and 0 .* at point 4"),
        (lambda: Data(jnp.ones(6), jnp.zeros((6, 1))), "`data` must have either `energy` or `temperature`"),
        (lambda: Data(jnp.ones(6), jnp.zeros((6, 1)), temperature=jnp.zeros(6)), "`temperature` must be positive"),
        (lambda: Data(jnp.ones(5), jnp.zeros((5, 1)), jnp.ones(5)), r"`rho` must have shape \(6,\), as the points"),
    ],
)
def test_wrong_data_are_refused_in_a_sentence(data, sentence):
    with pytest.raises(InputError, match=sentence):
        matched(data(), sampler(nothing), lowest=0.0)


@pytest.mark.parametrize("levels", [nothing, electrons])
def test_an_energy_below_the_lowest_is_named(levels):
    """No bound of the potential is given: point 3 lies 0.05 below, and β_3 runs away."""
    data = exact(THETA, levels)[0]
    least = float(np.min(levels(GRID))) / MASSES[0] * data.rho[3] if levels is electrons else 0.0
    low = data.momentum[3, 0] ** 2 / (2 * data.rho[3]) + least - 0.05
    data = Data(data.rho, data.momentum, data.energy.at[3].set(low))
    with pytest.raises(InputError, match=r"`energy` must exceed .* of the lowest potential energy seen at point 3"):
        matched(data, sampler(levels))


def apart(theta, number):
    """Two particles that stay 1.5 apart, so that ρ at a point is at most the 2.5 of the heavier."""
    rng, grid = np.random.default_rng(number), GRID[::30]
    one, other = (density[::30] for density in exact(theta, nothing)[1])
    r = np.abs(grid[:, None] - grid[None, :])
    joint = np.where(np.minimum(r, 6 - r) > 1.5, one[:, None] * other[None, :], 0.0).ravel()
    whole = np.cumsum(joint)
    at = np.searchsorted(whole, rng.random(SAMPLES) * whole[-1])
    return sampled(np.stack([grid[at // grid.size], grid[at % grid.size]], axis=1), nothing)


def test_a_density_above_packing_is_named():
    """ρ = 2.8 at point 1, with the right total mass."""
    rho = jnp.full(6, (3.5 - 2.8) / 5).at[1].set(2.8)
    with pytest.raises(InputError, match=r"`rho` must be a density that samples reach at point 1, .* 2\.8 there"):
        matched(Data(rho, jnp.zeros((6, 1)), temperature=jnp.ones(6)), apart)


def test_points_without_particles_and_bad_samples_are_named():
    data, good = exact(THETA, nothing)[0], sampler(nothing)(START, 0)
    cases = [
        (
            sampled(np.tile([4.5, 0.5], (SAMPLES, 1)), nothing),
            r"`rho` must be 0 at point 2, .* where no sample of round 0",
        ),
        (eqx.tree_at(lambda s: s.levels, good, good.levels * np.nan), "`draw` must return finite samples"),
        (jax.tree.map(lambda a: a[:20], good), "`draw` must return more than 20 samples, but there are 20"),
        (eqx.tree_at(lambda s: s.shares, good, good.shares[:, :, :5]), r"`draw` must return shares \(S, 2, 6\)"),
    ]
    for samples, sentence in cases:
        with pytest.raises(InputError, match=sentence):
            matched(data, lambda *_, out=samples: out)
    assert not matched(data, sampler(nothing), rounds=1).converged
