"""Equations of state: thermodynamic identities, limits, and fits to known models."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxmd_iz.checks import InputError
from jaxmd_iz.equation_of_state import (
    ElectronicLevels,
    FreeEnergySeries,
    IdealGas,
    NeuralFreeEnergy,
    StatePoints,
    fit_equation_of_state,
)
from jaxmd_iz.equation_of_state.fitting import normalised_residuals

LEVELS = ElectronicLevels([[1.0, 0.4], [2.0, -0.3]], degeneracies=(2, 1, 3), particles=2)
VIRIAL = ((1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (2.0, 0.5, 2.0))
MODELS = {
    "ideal": IdealGas(2.0, 3, LEVELS),
    "series": FreeEnergySeries(IdealGas(2.0, 3, LEVELS), jnp.array([1.2, -0.8, 0.3]), VIRIAL),
    "neural": NeuralFreeEnergy(IdealGas(0.5, 2), 0.5, 1.2, key=jax.random.key(3)),
}
RHO, T = jnp.array([0.05, 0.4, 0.9]), jnp.array([2.1, 0.7, 1.3])
EVERY = pytest.mark.parametrize("name", MODELS)


def slope(f, x, h=1e-5):
    return (f(x + h) - f(x - h)) / (2 * h)


@EVERY
def test_all_quantities_come_from_one_free_energy(name):
    """Gibbs's relation, Maxwell's, c_p and the speed of sound, each by finite differences of other quantities."""
    m = MODELS[name]
    p, s, e = m.pressure(RHO, T), m.entropy(RHO, T), m.energy(RHO, T)
    np.testing.assert_allclose(p, RHO**2 * slope(lambda r: m.free_energy(r, T), RHO), rtol=1e-7)
    np.testing.assert_allclose(
        slope(lambda t: m.energy(RHO, t), T), T * slope(lambda t: m.entropy(RHO, t), T), rtol=1e-7
    )
    # Maxwell: ∂p/∂T = −ρ² ∂s/∂ρ
    p_t = slope(lambda t: m.pressure(RHO, t), T)
    np.testing.assert_allclose(p_t, -(RHO**2) * slope(lambda r: m.entropy(r, T), RHO), rtol=1e-7)
    np.testing.assert_allclose(m.pressure_slopes(RHO, T)[1], p_t, rtol=1e-7)
    np.testing.assert_allclose(m.heat_capacity_volume(RHO, T), slope(lambda t: m.energy(RHO, t), T), rtol=1e-7)
    # along an isentrope dT/dρ = T p_T/(ρ² c_v), by definition of s: c² = dp/dρ there
    h, path = 1e-5, -slope(lambda r: m.entropy(r, T), RHO) / slope(lambda t: m.entropy(RHO, t), T)
    up, down = (m.pressure(RHO + k * h, T + k * h * path) for k in (1, -1))
    np.testing.assert_allclose(m.sound_speed(RHO, T) ** 2, (up - down) / (2 * h), rtol=1e-6)
    # c_p = ∂(e + p/ρ)/∂T along p = const, dρ/dT = −p_T/p_ρ
    path = -p_t / slope(lambda r: m.pressure(r, T), RHO)
    up, down = (m.energy(RHO + k * h * path, T + k * h) + p / (RHO + k * h * path) for k in (1, -1))
    np.testing.assert_allclose(m.heat_capacity_pressure(RHO, T), (up - down) / (2 * h), rtol=1e-6)
    np.testing.assert_allclose(m.free_energy(RHO, T), e - T * s, rtol=1e-12)


@EVERY
def test_temperature_inverts_the_energy_and_differentiates(name):
    m = MODELS[name]
    e = m.energy(RHO, T)
    for guess in (1.0, 1e-4, 1e4):
        np.testing.assert_allclose(m.temperature(RHO, e, guess), T, rtol=1e-12)

    def t_of(r, energy):
        return m.temperature(r, energy)

    one = jax.jit(jax.grad(t_of, (0, 1)))
    d_rho, d_e = one(RHO[1], e[1])
    np.testing.assert_allclose(d_e, 1 / m.heat_capacity_volume(RHO[1], T[1]), rtol=1e-10)
    np.testing.assert_allclose(d_rho, slope(lambda r: t_of(r, e[1]), RHO[1]), rtol=1e-6, atol=1e-9)
    twice = jax.jit(jax.grad(lambda x: one(RHO[1], x)[1]))(e[1])
    np.testing.assert_allclose(twice, slope(lambda x: one(RHO[1], x)[1], e[1]), rtol=1e-6, atol=1e-9)
    assert jnp.isnan(m.temperature(0.4, -100.0))  # below every energy of these models


def test_ideal_gas_is_ideal():
    m = IdealGas(2.0, 3)
    np.testing.assert_allclose(m.pressure(RHO, T), RHO / 2 * T)
    np.testing.assert_allclose(m.energy(RHO, T), 1.5 * T / 2)
    np.testing.assert_allclose(m.sound_speed(RHO, T), jnp.sqrt(5 / 3 * T / 2))
    np.testing.assert_allclose(m.entropy(2 * RHO, T) - m.entropy(RHO, T), -np.log(2) / 2)
    # Sackur–Tetrode with ħ = 1: s = (1/m)[5/2 − log(nΛ³)]
    np.testing.assert_allclose(
        m.entropy(RHO, T), (2.5 - jnp.log(RHO / 2 * (2 * np.pi / (2.0 * T)) ** 1.5)) / 2, rtol=1e-13
    )


@EVERY
def test_every_form_is_ideal_at_low_density(name):
    m = MODELS[name]
    ideal = getattr(m, "ideal", m)
    if name != "ideal":  # the first correction is of order n
        gaps = [float(m.pressure(r, 1.0) / ideal.pressure(r, 1.0) - 1) for r in (1e-4, 1e-5)]
        assert abs(gaps[0]) > 1e-6 and abs(gaps[0] / gaps[1] - 10) < 0.1
    np.testing.assert_allclose(m.pressure(1e-9, 1.0), 1e-9 / ideal.mass, rtol=1e-7)


def test_electronic_levels_give_schottky_peak():
    """c = (ε/T)² g e^{−ε/T}/(1 + g e^{−ε/T})², whose peak for g = 1 is 0.4392 at T = 0.4168 ε; it moves with ρ."""
    m, bare = IdealGas(1.0, 3, ElectronicLevels([[1.5, 1.0]])), IdealGas()
    t = jnp.linspace(0.05, 3, 400)
    for rho in (0.1, 0.8):
        peak = m.heat_capacity_volume(rho, t) - bare.heat_capacity_volume(rho, t)
        x = (1.5 + rho) / t
        np.testing.assert_allclose(peak, x**2 * jnp.exp(-x) / (1 + jnp.exp(-x)) ** 2, rtol=1e-9, atol=1e-14)
        assert abs(float(t[jnp.argmax(peak)]) / (1.5 + rho) - 0.4168) < 0.005
    # a level that rises with the density resists compression: p_el = n² q₁ ∂ε/∂n
    q = m.electronic.populations(jnp.array(0.8), jnp.array(1.0))[1]
    np.testing.assert_allclose(m.pressure(0.8, 1.0) - bare.pressure(0.8, 1.0), 0.8**2 * q, rtol=1e-12)


def synthetic(model, seed: int, error: float = 2e-3) -> StatePoints:
    """State points of a known model with correlated noise."""
    rng = np.random.default_rng(seed)
    rho, t = (np.array(a).ravel() for a in np.meshgrid(np.linspace(0.1, 0.8, 6), np.linspace(0.3, 2.0, 8)))
    c = error**2 * np.array([[1.0, 0.6], [0.6, 0.8]])
    noise = rng.multivariate_normal([0, 0], c, len(rho))
    return StatePoints(
        rho, t, model.pressure(rho, t) + noise[:, 0], model.energy(rho, t) + noise[:, 1], np.tile(c, (len(rho), 1, 1))
    )


def test_fit_recovers_a_known_model_within_its_errors():
    """Coefficients and an electronic level that depends on the density, in which the model is not linear."""
    truth = FreeEnergySeries(IdealGas(electronic=ElectronicLevels([[1.0, 0.5]])), jnp.array([1.2, -0.8]), VIRIAL[:2])
    start = FreeEnergySeries(IdealGas(electronic=ElectronicLevels([[1.4, 0.0]])), jnp.zeros(2), VIRIAL[:2])
    fit = fit_equation_of_state(start, synthetic(truth, 0), rounds=4, steps=10)
    got, want = (np.array([*m.ideal.electronic.energies[0], *m.coefficients]) for m in (fit.model, truth))
    off = (got - want) / np.sqrt(np.diag(np.asarray(fit.covariance)))
    print("errors off:", off, "χ²", float(fit.chi2), fit.degrees)
    assert np.max(np.abs(off)) < 3.5 and np.max(np.abs(got - want)) < 0.05
    assert abs(fit.chi2 - fit.degrees) < 4 * np.sqrt(2 * fit.degrees)


def test_neural_form_learns_a_fluid():
    truth = FreeEnergySeries(IdealGas(), jnp.array([1.2, -0.8]), VIRIAL[:2])
    start = NeuralFreeEnergy(IdealGas(), 0.5, 1.0, key=jax.random.key(0), width=5, depth=1)
    fit = fit_equation_of_state(start, synthetic(truth, 1), rounds=6, steps=15, ridge=0.1)
    print("neural χ²", float(fit.chi2), fit.degrees)
    assert fit.chi2 < 1.6 * fit.degrees
    rho, t = jnp.array([0.25, 0.5, 0.7]), jnp.array([0.5, 1.3, 1.9])  # between the points
    np.testing.assert_allclose(fit.model.pressure(rho, t), truth.pressure(rho, t), atol=8e-3)
    np.testing.assert_allclose(fit.model.energy(rho, t), truth.energy(rho, t), atol=8e-3)


def test_gradient_of_the_loss_meets_finite_differences():
    model = MODELS["series"]
    points = synthetic(MODELS["ideal"], 2, 0.05)
    free, fixed = eqx.partition(model, eqx.is_inexact_array)
    theta, unravel = ravel_pytree(free)

    @jax.jit
    @jax.value_and_grad
    def loss(theta):
        return jnp.sum(normalised_residuals(eqx.combine(unravel(theta), fixed), points) ** 2)

    _, got = loss(theta)
    numeric = [slope(lambda a, i=i: loss(theta.at[i].set(a))[0], theta[i]) for i in range(len(theta))]
    np.testing.assert_allclose(got, numeric, rtol=1e-6)


POINTS = dict(density=np.ones(2), temperature=np.ones(2), pressure=np.ones(2), energy=np.ones(2),
              covariance=np.tile(np.eye(2), (2, 1, 1)))  # fmt: skip


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: IdealGas(-1.0), "Argument `mass` must be positive, but it is -1"),
        (lambda: ElectronicLevels([1.0]), "Argument `energies` must have shape"),
        (lambda: ElectronicLevels([[1.0]], degeneracies=(1,)), "Argument `degeneracies` must hold 2 numbers"),
        (lambda: FreeEnergySeries(IdealGas(), jnp.ones(2), VIRIAL), "Argument `terms` must be 2"),
        (lambda: FreeEnergySeries(IdealGas(), jnp.ones(1), ((0, 1, 0),)), "powers d ≥ 1 of the density"),
        (lambda: NeuralFreeEnergy(IdealGas(), 0, 1, key=jax.random.key(0)), "Argument `density` must be positive"),
        (lambda: StatePoints(**POINTS | {"pressure": np.ones(3)}), "Argument `pressure` must have shape"),
        (lambda: StatePoints(**POINTS | {"temperature": np.zeros(2)}), "Argument `temperature` must be positive"),
        (lambda: StatePoints(**POINTS | {"covariance": np.zeros((2, 2, 2))}), "must be positive definite"),
        (lambda: fit_equation_of_state(IdealGas(), StatePoints(**POINTS)), "Argument `model` must have arrays to fit"),
    ],
)
def test_bad_input_is_named(make, says):
    with pytest.raises(InputError, match=says):
        make()
