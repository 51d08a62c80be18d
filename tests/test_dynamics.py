"""Integrators: order, symplecticity, reversal, energy over long times, and the density of Langevin dynamics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.stats import kstest

from jaxmd_iz.integrators import Baoab, ForestRuth, OptimisedForestRuth, Phase, VelocityVerlet, trajectory
from jaxmd_iz.potentials.pair import LennardJones, Morse
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.system import System

MASSES = np.array([1.0, 2.5, 0.7])
START = np.array([[0.8, -0.3], [-0.5, 0.9], [0.1, 0.4]])
PUSH = np.array([[0.2, 1.1], [-0.6, 0.3], [0.5, -0.4]])


def anharmonic(x):
    """Force of ¼ Σ x⁴ + ½ Σ |xⁿ − xᵐ|²/n over pairs, for three particles in the plane."""
    return -(x**3) - (x - x.mean(axis=0, keepdims=True))


def exact(time):
    """The same motion by an eighth-order Runge–Kutta method, to 1e-13."""
    m = MASSES[:, None]

    def flow(_, z):
        x, p = z.reshape(2, 3, 2)
        return np.concatenate([(p / m).ravel(), anharmonic(x).ravel()])

    start = np.concatenate([START.ravel(), PUSH.ravel()])
    return solve_ivp(flow, (0, time), start, method="DOP853", rtol=1e-13, atol=1e-14).y[:, -1]


@pytest.mark.parametrize(
    ("scheme", "order", "finest"),
    [(VelocityVerlet, 2, 2e-4), (ForestRuth, 4, 2e-6), (OptimisedForestRuth, 4, 1e-7)],
    ids=["verlet", "forest-ruth", "optimised"],
)
def test_order(scheme, order, finest):
    """Halving the step divides the error by 2^order; the next term of the error bends the slope by a few percent."""
    errors = []
    for steps in (64, 128, 256):
        x, p = trajectory(scheme(2.0 / steps), anharmonic, *map(jnp.asarray, (MASSES, START, PUSH)), steps)
        errors.append(np.max(np.abs(np.concatenate([x.ravel(), p.ravel()]) - exact(2.0))))
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(slopes - order) < 0.1), slopes
    assert errors[-1] < finest


def test_harmonic_bond_turns_with_the_reduced_mass():
    """Verlet on r̈ = −(k/μ)(r − r₀) is exactly cos nθ with cos θ = 1 − h²k/2μ; 400 steps round to 1e-13."""
    masses, k, h, steps = jnp.asarray([1.5, 4.0]), 3.0, 0.1, 400
    reduced = 1 / (1 / 1.5 + 1 / 4.0)

    def force(x):
        pull = k * (x[1] - x[0] - 1.0)
        return jnp.stack([pull, -pull])

    x, p = trajectory(VelocityVerlet(h), force, masses, jnp.asarray([[0.0], [1.2]]), jnp.zeros((2, 1)), steps)
    theta = np.arccos(1 - h**2 * k / (2 * reduced))
    assert abs(float(x[1, 0] - x[0, 0]) - 1 - 0.2 * np.cos(steps * theta)) < 1e-12
    assert abs(float(masses @ x[:, 0]) - 4.0 * 1.2) < 1e-12 and abs(float(p.sum())) < 1e-13


def cluster():
    """Seven Lennard-Jones particles, bound and hot, of two masses."""
    rng = np.random.default_rng(3)
    a = 2 ** (1 / 6)
    angles = 2 * np.pi * np.arange(5) / 5
    ring = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1) * a / (2 * np.sin(np.pi / 5))
    x = np.concatenate([ring, [[0, 0, 0.55], [0, 0, -0.55]]])
    masses = np.array([1.0, 3.0, 1.0, 3.0, 1.0, 3.0, 1.0])
    p = rng.normal(size=x.shape) * np.sqrt(0.15 * masses)[:, None]
    system = System(LennardJones(1.0, 1.0, np.inf), Free(3), masses, correction="none")
    return system, jnp.asarray(x), jnp.asarray(p - p.mean(axis=0))


@pytest.mark.parametrize(
    ("integrator", "spread"), [(VelocityVerlet(0.005), 5e-5), (ForestRuth(0.01), 5e-6)], ids=["verlet", "forest-ruth"]
)
def test_energy_fluctuates_and_does_not_drift(integrator, spread):
    """6000 steps: from the first to the last quarter the mean moves by less than half the fluctuation."""
    system, x, p = cluster()

    @jax.jit
    def energies(x, p):
        def body(phase, _):
            kinetic = jnp.sum(phase.p**2 / system.masses[:, None]) / 2
            after = integrator(phase, lambda y: system.force(y, 0), system.masses, None)
            return after, kinetic + system.levels(phase.x)[0]

        return jax.lax.scan(body, Phase(x, p, system.force(x, 0)), None, length=6000)[1]

    seen = np.asarray(energies(x, p))
    noise = seen.std()
    assert 1e-9 < noise < spread * abs(seen[0])
    assert abs(seen[:1500].mean() - seen[-1500:].mean()) < noise / 2


@pytest.mark.parametrize("scheme", [VelocityVerlet, ForestRuth, OptimisedForestRuth])
def test_a_negative_step_returns_to_the_start(scheme):
    """Each of 600 steps rounds by 1e-16, and the cluster is too short a time on its way to magnify that by 1e3."""
    system, x, p = cluster()

    @jax.jit
    def run(step, x, p):
        return trajectory(scheme(step), lambda y: system.force(y, 0), system.masses, x, p, 300)

    there = run(0.005, x, p)
    back = run(-0.005, *there)
    assert float(jnp.max(jnp.abs(there[0] - x))) > 0.1
    assert max(float(jnp.max(jnp.abs(a - b))) for a, b in zip(back, (x, p), strict=True)) < 1e-12


def interaction(x):
    """Force of a pair potential of the package."""
    return System(Morse(1.0, 1.2, 1.1, np.inf), Free(2), MASSES, correction="none").force(x, 0)


@pytest.mark.parametrize(
    ("integrator", "force", "scale"),
    [
        (VelocityVerlet(0.05), interaction, 1.0),
        (ForestRuth(0.05), anharmonic, 1.0),
        (Baoab(0.05, 1.3, 0.8), anharmonic, np.exp(-1.3 * 0.05)),
    ],
    ids=["verlet", "forest-ruth", "baoab"],
)
def test_one_step_is_symplectic(integrator, force, scale):
    """MᵀJM = J for the Jacobian M, to rounding; Langevin dynamics shrinks it by e^{−γh}."""

    @jax.jit
    def jacobian(z):
        def step(z):
            x, p = z.reshape(2, 3, 2)
            after = integrator(Phase(x, p, force(x)), force, jnp.asarray(MASSES), jax.random.key(0))
            return jnp.concatenate([after.x.ravel(), after.p.ravel()])

        return jax.jacfwd(step)(z)

    m = np.asarray(jacobian(jnp.concatenate([jnp.asarray(START).ravel(), jnp.asarray(PUSH).ravel()])))
    j = np.block([[np.zeros((6, 6)), np.eye(6)], [-np.eye(6), np.zeros((6, 6))]])
    assert np.max(np.abs(m - np.eye(12))) > 1e-2
    assert np.max(np.abs(m.T @ j @ m - scale * j)) < 1e-12


def test_total_momentum_is_constant_in_a_periodic_box():
    """Forces of opposite bonds cancel to rounding at every step: 1e-15 of some 10² for each of 200 steps."""
    rng = np.random.default_rng(5)
    x = np.stack(np.meshgrid(*[np.arange(3) * 1.4] * 3), -1).reshape(-1, 3) + rng.uniform(-0.1, 0.1, (27, 3))
    masses = rng.uniform(0.5, 4.0, 27)
    system = System(LennardJones(1.0, 1.0, 2.1, "force_shift"), Periodic([4.2] * 3), masses)
    p = rng.normal(size=(27, 3)) * 2

    @jax.jit
    def run(x, p):
        return trajectory(VelocityVerlet(0.004), lambda y: system.force(y, 0), system.masses, x, p, 200)

    x_new, p_new = run(jnp.asarray(x), jnp.asarray(p))
    assert np.min(x_new) < -0.5  # particles left the cell
    assert np.max(np.abs(p_new.sum(axis=0) - p.sum(axis=0))) < 1e-11


def test_trajectory_is_the_loop_over_steps():
    """One compiled scan against single steps, with the key of each step folded in: 1e-13."""
    masses, key = jnp.asarray(MASSES), jax.random.key(7)
    for integrator in (VelocityVerlet(0.03), ForestRuth(0.03), OptimisedForestRuth(0.03), Baoab(0.03, 0.8, 0.5)):
        x, p = trajectory(integrator, anharmonic, masses, jnp.asarray(START), jnp.asarray(PUSH), 20, key)
        phase = Phase(jnp.asarray(START), jnp.asarray(PUSH), anharmonic(jnp.asarray(START)))
        for i in range(20):
            phase = integrator(phase, anharmonic, masses, jax.random.fold_in(key, i))
        np.testing.assert_allclose(x, phase.x, rtol=0, atol=1e-13)
        np.testing.assert_allclose(p, phase.p, rtol=0, atol=1e-13)


def test_langevin_dynamics_has_the_density_of_a_harmonic_trap():
    """BAOAB keeps ⟨x²⟩ = T/k exact at any step and has ⟨p²⟩ = MT(1 − h²k/4M), 25 % low here; both Gaussian.

    20 000 particles a mass, each a chain of its own; the standard error of a variance is √(2/n) of it.
    """
    n, k, temperature, h = 20_000, 2.0, 0.7, 1.0
    masses = jnp.asarray(np.repeat([2.0, 8.0], n))
    start = jnp.zeros((2 * n, 1))

    @jax.jit
    def run(key):
        return trajectory(Baoab(h, 1.5, temperature), lambda x: -k * x, masses, start, start, 60, key)

    x, p = (np.asarray(a).reshape(2, n) for a in run(jax.random.key(1)))
    for m, at, momenta in zip((2.0, 8.0), x, p, strict=True):
        error = np.sqrt(2 / n)
        expected = m * temperature * (1 - h**2 * k / (4 * m))
        assert abs(np.mean(at**2) / (temperature / k) - 1) < 3 * error
        assert abs(np.mean(momenta**2) / expected - 1) < 3 * error
        assert abs(np.mean(at * momenta)) < 3 * np.sqrt(temperature / k * expected / n)
        assert kstest(at, "norm", args=(0, np.sqrt(temperature / k)), method="asymp").pvalue > 1e-3
        assert kstest(momenta, "norm", args=(0, np.sqrt(expected)), method="asymp").pvalue > 1e-3


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda: VelocityVerlet(0.0), "`step` must be a finite time step"),
        (lambda: ForestRuth(float("nan")), "`step` must be a finite time step"),
        (lambda: Baoab(0.1, -1.0, 1.0), "`friction` must be zero or more"),
        (lambda: Baoab(0.1, 1.0, 1.0)(None, None, None, None), "`key` must be given"),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(act, sentence):
    with pytest.raises(ValueError, match=sentence):
        act()
