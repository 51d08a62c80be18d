"""The sampler of the global canonical density against exact formulas: Gaussians, quadrature, weights, momenta."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest

from jaxmd_iz.checks import InputError
from jaxmd_iz.ensemble import advance_chains, start_chains, walkers_from_samples
from jaxmd_iz.gibbs import Canonical, draw_momenta
from jaxmd_iz.potentials.base import FromFunction
from jaxmd_iz.potentials.diabatic import Gaussian, TwoStateFluid
from jaxmd_iz.potentials.external import HarmonicTrap
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.sampling import Sampling
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.system import System

CHAINS = 4000


def sample(system, temperature, sampling, start, parts=1):
    """Positions at the end of every chain, (chains, n, D), run in so many chunks, and the mean acceptance."""
    density = Canonical(temperature)
    x = jnp.broadcast_to(start, (sampling.samples, *start.shape))
    chains, keys = start_chains(system, density, sampling, x, jax.random.key(1), None)
    count = sampling.burn_in // parts
    for part in range(parts):
        chains, *_ = advance_chains(system, density, sampling, chains, keys, jnp.asarray(part * count), count, None)
    return np.asarray(chains.x), float(jnp.mean(chains.accepted)) / (sampling.burn_in // 2)


STIFFNESS, CENTRE = np.array([1.0, 4.0]), np.array([0.5, -2.0])
TRAPPED = {"hmc": {"step": 0.3, "leapfrog": 6, "burn_in": 40}, "langevin": {"step": 0.8, "burn_in": 80}}


def nothing(x):
    """No interaction."""
    return jnp.zeros(x.shape[0], x.dtype)


def in_trap(sampler, parts):
    """Three particles of different mass, from the centre of a trap at T = 0.7."""
    system = System(FromFunction(nothing), Free(2), np.array([1.0, 2.0, 5.0]), external=HarmonicTrap(STIFFNESS, CENTRE))
    sampling = Sampling(CHAINS, sampler=sampler, **TRAPPED[sampler])
    return sample(system, 0.7, sampling, jnp.broadcast_to(jnp.asarray(CENTRE)[None], (3, 2)), parts)


@pytest.mark.parametrize("sampler", ["hmc", "langevin"])
def test_positions_in_a_harmonic_trap_are_gaussian_however_they_are_chunked(sampler):
    """Variance T/k along each axis, whatever the mass: within 4 standard errors, √(2/N) of it.

    Langevin dynamics (BAOAB) is exact here at any step; with this one a scheme that halves the friction instead of
    the drift has ⟨x²⟩ larger by the factor 1/(1 − h²k/4M) = 2.8. Two chunks repeat the operations of one: the same bits
    but for the order in which the compiler sums, which grows by less than 10³ in 40 proposals.
    """
    x, acceptance = in_trap(sampler, 1)
    u = (x - CENTRE) * np.sqrt(STIFFNESS / 0.7)
    for particle, axis in np.ndindex(3, 2):
        at = u[:, particle, axis]
        assert abs(np.mean(at)) < 4 / np.sqrt(CHAINS)
        assert abs(np.mean(at**2) - 1) < 4 * np.sqrt(2 / CHAINS), (particle, axis, np.mean(at**2))
        assert kstest(at, "norm", method="asymp").pvalue > 1e-3
    assert sampler == "langevin" or 0.65 < acceptance < 0.95  # the step was adapted to 0.8
    np.testing.assert_allclose(in_trap(sampler, 2)[0], x, rtol=0, atol=1e-12)


COUPLING, GAP, MASS, TEMPERATURE = 0.5, 0.4, 0.25, 0.5


def crossing(x):
    """Two states of one particle on a line: V = [[0.9x, c], [c, Δ − 0.9x]]."""
    slope, off = 0.9 * x[:, 0], jnp.full(x.shape[:1], COUPLING, x.dtype)
    return jnp.stack([jnp.stack([slope, off], -1), jnp.stack([off, GAP - slope], -1)], -2)


def exact(correction):
    """q_0*, q_1*, ⟨x²⟩ and ⟨x⟩ by the trapezoidal rule, spectrally accurate for e^{−x²/T}, from (5.27)–(5.28)."""
    x = np.linspace(-12, 12, 20_001)
    half = 0.9 * x - GAP / 2
    r = np.sqrt(half**2 + COUPLING**2)
    turn = (0.9 * COUPLING / r**2) ** 2  # |∇α|²
    shift = {"none": 0.0, "paper": 1 / 16}[correction] * turn / MASS
    f = np.exp(-(GAP / 2 + np.array([-r, r]) + shift + x**2) / TEMPERATURE)
    mean = np.sum(f, axis=0) / np.sum(f)
    return *np.sum(f, axis=1) / np.sum(f), mean @ x**2, mean @ x


def line(correction="paper"):
    """The two states in a trap."""
    return System(
        FromFunction(crossing, states=2), Free(1), np.array([MASS]), external=HarmonicTrap(2.0), correction=correction
    )


@pytest.mark.parametrize(
    ("sampler", "correction", "options"),
    [
        ("hmc", "paper", {"step": 0.3, "leapfrog": 6, "burn_in": 60}),
        ("langevin", "none", {"step": 0.08, "burn_in": 200}),
    ],
)
def test_two_states_have_the_averages_of_quadrature(sampler, correction, options):
    """q_j*, ⟨x⟩ and ⟨x²⟩ within 4 standard errors of 4000 chains, which tell the two corrections apart.

    The bias of Langevin dynamics, (hω)²/24 of ⟨x²⟩ at most, is 2e-3 at this step and hides in them (2e-2).
    """
    sampling = Sampling(CHAINS, sampler=sampler, **options)
    x, _ = sample(line(correction), TEMPERATURE, sampling, jnp.zeros((1, 1)))
    w = np.asarray(jax.jit(jax.vmap(lambda a: Canonical(TEMPERATURE).weights(line(correction), a)))(x))
    np.testing.assert_allclose(w.sum(axis=1), 1, rtol=0, atol=1e-15)
    other = exact("paper" if correction == "none" else "none")
    differs = []
    for values, expected, wrong in zip((w[:, 0], w[:, 1], x**2, x), exact(correction), other, strict=True):
        error = np.std(values) / np.sqrt(CHAINS)
        assert abs(np.mean(values) - expected) < 4 * error
        differs.append(abs(np.mean(values) - wrong) > 4 * error)
    assert any(differs)


def fluid():
    """Five particles of two masses on two surfaces with the nonlinear correction."""
    x = jnp.asarray([[0.3, 0.2, 0.1], [1.4, 0.3, 0.4], [0.4, 1.5, 0.2], [1.6, 1.5, 1.2], [2.6, 0.9, 1.9]])
    fluid = TwoStateFluid(
        LennardJones(1.0, 1.0, 1.9, "force_shift"), Gaussian(0.9, 0.5, 1.1), Gaussian(0.5, 0.6, 1.3), 0.6, 5
    )
    return System(fluid, Periodic([4.0] * 3), np.array([1.0, 1.0, 4.0, 4.0, 4.0])), x


@pytest.mark.parametrize("name", ["fluid", "function"])
def test_gradient_of_the_free_energy(name):
    """T∇Φ = Σ_j w_j ∇λ̄_j + ∇V_b to rounding, and the finite difference of Φ (fourth order, 1e-9)."""
    system, x = fluid() if name == "fluid" else (line(), jnp.asarray([[0.31]]))
    temperature = 0.8

    @eqx.filter_jit
    def look(s, x):
        forces = jax.vmap(lambda k: s.force(x, k))(jnp.arange(2))
        density = Canonical(temperature)
        return density.action(s, x), density.weights(s, x), s.levels(x), forces

    (value, slope), w, levels, forces = look(system, x)
    value, slope = value * temperature, slope * temperature
    mixed = -np.einsum("k,knD->nD", w, forces)
    scale = np.max(np.abs(slope))
    assert np.max(np.abs(slope - mixed)) < 1e-12 * scale
    np.testing.assert_allclose(w, jax.nn.softmax(-levels / temperature), rtol=1e-14)
    outside = 0.0 if system.external is None else float(jnp.sum(system.external.energy(x, system.species)))
    total = -temperature * np.log(np.sum(np.exp(-np.asarray(levels) / temperature))) + outside
    assert abs(float(value) - total) < 1e-13 * (1 + abs(total))
    way, h = np.random.default_rng(0).normal(size=x.shape), 2e-4
    up, down, up2, down2 = (temperature * float(look(system, x + s * h * way)[0][0]) for s in (1, -1, 2, -2))
    difference = (8 * (up - down) - (up2 - down2)) / (12 * h)
    assert abs(difference - np.sum(way * slope)) < 1e-9 * np.linalg.norm(slope) * np.linalg.norm(way)


def test_weights_survive_energies_far_apart():
    """A gap of 10⁴ T leaves weights 1 and 0, without overflow."""
    deep = FromFunction(lambda x: jnp.asarray([[[-3000.0, 0.0], [0.0, 2000.0]]]) + 0.0 * x[:, :, None], states=2)
    system = System(deep, Free(1), np.ones(1), correction="none")
    density = Canonical(0.5)
    w, (value, _) = jax.jit(lambda x: (density.weights(system, x), density.action(system, x)))(jnp.zeros((1, 1)))
    np.testing.assert_array_equal(w, [1.0, 0.0])
    assert value == -6000.0


def test_momenta_are_gaussian_and_shared_by_the_states():
    """pⁿ ~ N(0, M_n T), independent; every surface starts from the same phase point."""
    masses, samples = np.array([1.0, 1.0, 4.0, 4.0, 4.0]), CHAINS
    system = System(FromFunction(crossing, states=2), Free(1), masses, correction="none")
    x = jnp.asarray([[0.3], [0.2], [0.1], [-0.2], [-0.5]])
    at = jnp.broadcast_to(x, (samples, 5, 1))
    walkers = walkers_from_samples(system, Canonical(0.8), at, None, jax.random.key(3), None)
    p = np.asarray(walkers.phase.p).reshape(samples, 2, 5)
    np.testing.assert_array_equal(p[:, 0], p[:, 1])
    u = p[:, 0] / np.sqrt(0.8 * masses)
    assert kstest(u.ravel(), "norm", method="asymp").pvalue > 1e-3
    assert np.max(np.abs(u.T @ u / samples - np.eye(5))) < 4 * np.sqrt(2 / samples)
    w = np.asarray(walkers.weight).reshape(samples, 2)
    np.testing.assert_allclose(w.sum(axis=1), 1, rtol=0, atol=1e-15)
    np.testing.assert_allclose(w[0], jax.jit(lambda x: Canonical(0.8).weights(system, x))(x), rtol=1e-13)


def test_fixed_total_momentum_takes_one_degree_of_freedom_from_each_axis():
    """Σp = 0, and ⟨|pⁿ|²⟩ = D M_n T (1 − M_n/ΣM)."""
    masses = jnp.asarray([1.0, 2.0, 5.0])
    keys = jax.random.split(jax.random.key(5), CHAINS)
    p = np.asarray(jax.jit(jax.vmap(lambda k: draw_momenta(k, masses, 0.6, 3, fixed=True)))(keys))
    assert np.max(np.abs(p.sum(axis=1))) < 1e-13
    expected = 0.6 * np.asarray(masses) * (1 - np.asarray(masses) / 8)
    assert np.all(np.abs(np.mean(p**2, axis=(0, 2)) / expected - 1) < 4 * np.sqrt(2 / (3 * CHAINS)))


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        (Canonical, {"temperature": 0.0}, "`temperature` must be positive"),
        (Sampling, {"samples": 0}, "`samples` must be 1 or more"),
        (Sampling, {"burn_in": -1}, "`burn_in` must be 0 or more"),
        (Sampling, {"leapfrog": 0}, "`leapfrog` must be 1 or more"),
        (Sampling, {"sampler": "gibbs"}, "`sampler` must be .*`hmc`"),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(kind, options, sentence):
    with pytest.raises(InputError, match=sentence):
        kind(**options)
