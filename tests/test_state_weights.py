"""q_j* from samples of every state by itself, and from samples of all together, against quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz.checks import InputError
from jaxmd_iz.chunks import ListKeeper, progress_bar
from jaxmd_iz.gibbs import Canonical
from jaxmd_iz.mollifiers import Polynomial
from jaxmd_iz.potentials.base import FromFunction
from jaxmd_iz.potentials.external import HarmonicTrap
from jaxmd_iz.sampled import sample
from jaxmd_iz.sampling import Sampling
from jaxmd_iz.simulation import Grid, simulate
from jaxmd_iz.space import Free
from jaxmd_iz.state_weights import bennett, grouped
from jaxmd_iz.statistics import GROUPS, group_of, jackknife
from jaxmd_iz.system import System

STIFF, LEVEL = np.array([1.0, 3.0, 0.5]), np.array([0.0, 0.4, 4.0])
EXACT = np.exp(-LEVEL) / np.sqrt(STIFF) / np.sum(np.exp(-LEVEL) / np.sqrt(STIFF))  # ∫e^{−kx²/2 − c}


def gaussians(samples, seed):
    """Φ_k(x_ij) with x_ij drawn from the density of state j itself."""
    x = np.random.default_rng(seed).normal(size=(samples, 3)) / np.sqrt(STIFF)
    return jnp.asarray(STIFF * x[:, :, None] ** 2 / 2 + LEVEL)


def test_bennett_finds_the_weights_of_gaussians():
    """Three states, one of them with q* = 0.012: within 3 standard errors, by pseudo-values over 16 groups."""
    samples = 1600
    actions = gaussians(samples, 0)
    group = group_of(samples)
    member = (jnp.arange(GROUPS)[:, None] == group[None, :]).astype(float)
    q, weight = jax.jit(grouped)(actions, member)
    np.testing.assert_allclose(jnp.sum(weight, axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(jnp.mean(weight, axis=0), q, rtol=1e-12)
    sums = jnp.zeros((GROUPS, 3)).at[group].add(weight)
    value, error = jackknife(lambda a: a, sums, jnp.bincount(group, length=GROUPS).astype(float))
    assert np.all(np.abs(np.asarray(value) - EXACT) < 3 * np.asarray(error))
    assert np.all(np.asarray(error) < 0.08 * EXACT)
    # the error is that of independent repetitions: 25 of them, whose width is known to 1/√50, and 16 groups to 1/√30
    repeated = jax.jit(lambda a: bennett(a, jnp.ones(samples)))
    spread = np.std([np.asarray(repeated(gaussians(samples, 1 + k))) for k in range(25)], axis=0)
    assert np.all(np.abs(np.log(np.asarray(error) / spread)) < 0.7)


def test_one_group_has_no_error_to_carry():
    actions = gaussians(5, 2)
    q, weight = grouped(actions, jnp.ones((1, 5)))
    np.testing.assert_array_equal(weight, jnp.broadcast_to(q[None], (5, 3)))


COUPLING, GAP, MASS, TEMPERATURE = 0.5, 0.9, 0.25, 0.5


def crossing(x):
    """Two states of one particle on a line: V = [[0.9x, c], [c, Δ − 0.9x]]."""
    slope, off = 0.9 * x[:, 0], jnp.full(x.shape[:1], COUPLING, x.dtype)
    return jnp.stack([jnp.stack([slope, off], -1), jnp.stack([off, GAP - slope], -1)], -2)


SYSTEM = System(
    FromFunction(crossing, states=2), Free(1), np.array([MASS]), external=HarmonicTrap(2.0), correction="none"
)


def quadrature():
    """q_j* and ⟨λ_j⟩ over both states, by the trapezoidal rule."""
    x = np.linspace(-12, 12, 20_001)
    half = np.sqrt((0.9 * x - GAP / 2) ** 2 + COUPLING**2)
    levels = GAP / 2 + np.array([-half, half])
    f = np.exp(-(levels + x**2) / TEMPERATURE)
    return np.array([*f.sum(axis=1), np.sum(f * levels)]) / f.sum()


@pytest.mark.parametrize("states", ["together", "apart"])
def test_two_states_have_the_weights_and_the_energy_of_quadrature(states):
    """q_j* and ⟨λ⟩ within 3 standard errors and 1 %; every surface from shared or from own samples."""
    samples = 48_000
    sampling = Sampling(samples, 40, leapfrog=6, step=0.3, states=states)
    keys, lists = jax.random.split(jax.random.key(0)), ListKeeper(SYSTEM, False, 1.0)
    found = sample(SYSTEM, Canonical(TEMPERATURE), sampling, jnp.zeros((1, 1)), keys, lists, progress_bar(False, 0))
    walkers = found.walkers
    levels = jax.jit(jax.vmap(SYSTEM.levels))(walkers.phase.x)[jnp.arange(2 * samples), walkers.state]
    weight = walkers.weight.reshape(samples, 2)
    sums = jnp.concatenate([weight, jnp.sum(weight * levels.reshape(samples, 2), axis=1)[:, None]], axis=1)
    group = group_of(samples)
    sums = jnp.zeros((GROUPS, 3)).at[group].add(sums)
    value, error = (
        np.asarray(a) for a in jackknife(lambda a: a, sums, jnp.bincount(group, length=GROUPS).astype(float))
    )
    exact = quadrature()
    assert np.all(np.abs(value - exact) < 3 * error)
    assert np.all(np.abs(value / exact - 1) < 0.01)
    assert found.warnings == () and found.quality["acceptance"] > 0.6
    assert ("weights_effective" in found.quality) == (states == "together")


def test_poor_sampling_is_flagged_or_stops_before_the_dynamics():
    """Two chains of two proposals cannot be judged; `poor = "stop"` says so in a sentence."""
    sampling = Sampling(2, 2, leapfrog=1, step=1e-3)
    start = Grid(jnp.zeros((1, 1)), Polynomial(3.0, 1))
    options = {"key": jax.random.key(0), "sampling": sampling}
    flagged = simulate(SYSTEM, Canonical(TEMPERATURE), start, jnp.zeros((1, 1)), **options)
    assert any("cannot be judged" in w for w in flagged.warnings)
    with pytest.raises(InputError, match=r"`sampling` must be good enough to go on, but .*cannot be judged"):
        simulate(SYSTEM, Canonical(TEMPERATURE), start, jnp.zeros((1, 1)), poor="stop", **options)
