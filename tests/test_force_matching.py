"""Force and stress matching: parameters behind data of LAMMPS, errors from noise, gradients of the loss."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz.checks import InputError
from jaxmd_iz.fit import Snapshots, interactions, match_forces, mismatch
from jaxmd_iz.mollifiers import Polynomial
from jaxmd_iz.potentials.many_body import SW_NAMES, StillingerWeber
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.system import System

DATA = Path(__file__).parent / "data"
VOIGT = [0, 3, 4, 3, 1, 5, 4, 5, 2]


def numbers(system):
    return system.potential.epsilon, system.potential.sigma


@pytest.mark.parametrize("kind", ["forces", "pressure"])
def test_lennard_jones_is_found_behind_data_of_lammps(kind):
    """From ε = 0.8, σ = 0.95: the forces alone, or the pressure tensor alone, kinetic part included."""
    ref = np.load(DATA / "lj500_cut_shift.npz")
    start = System(LennardJones(0.8, 0.95, 2.5, "shift"), Periodic(ref["box"]), np.ones(500))
    given = {
        "forces": {"forces": ref["f"][None]},
        "pressure": {"pressure": ref["p_tensor"][VOIGT].reshape(1, 3, 3), "momenta": ref["v"][None]},
    }
    found = match_forces(start, Snapshots(ref["x"][None], **given[kind]), numbers)
    assert found.converged
    np.testing.assert_allclose(found.parameters, 1.0, rtol=1e-6)
    assert found.misfit[kind] < 1e-8
    np.testing.assert_array_equal(found.parameters, numbers(found.system))


def test_stillinger_weber_is_found_behind_forces_of_lammps():
    """σ and λ of silicon, on a list whose range leaves room for a longer σ."""
    ref = np.load(DATA / "sw_si216.npz")
    silicon = {name: np.asarray(getattr(StillingerWeber.silicon(), name)) for name in SW_NAMES}
    near = StillingerWeber(**silicon | {"sigma": 2.0, "lam": 15.0}, cutoff=4.1)
    start = System(near, Periodic(ref["box"]), np.full(216, float(ref["mass"])))
    snapshots = Snapshots(ref["x"][None], forces=ref["f_lammps"][None])
    found = match_forces(start, snapshots, lambda s: {"sigma": s.potential.sigma, "lam": s.potential.lam})
    assert found.converged and found.degrees == 3 * 216 - 2
    for name, value in found.parameters.items():
        np.testing.assert_allclose(value, silicon[name], rtol=1e-6, err_msg=name)


BOX = Periodic([4.4, 4.6])
N, S = 6, 3
GRID = jnp.asarray([[0.7, 1.0], [2.0, 2.0]]), Polynomial(1.4, 2)
ERRORS = {"forces": 0.3, "energies": 0.05, "pressure": 0.02, "stress": 0.05}


def fluid(epsilon, sigma):
    return System(LennardJones(epsilon, sigma, 2.1, "force_shift"), BOX, np.ones(N))


def places():
    rng = np.random.default_rng(6)
    grid = np.array([[0.2, 0.3], [1.6, 0.5], [3.0, 0.4], [0.9, 2.6], [2.5, 2.7], [3.9, 2.2]])
    return grid + rng.uniform(-0.2, 0.2, (S, N, 2)), rng.normal(size=(S, N, 2))


@functools.cache
def noisy(each=True):
    """Forces, energies (of particles or sums), pressures and stresses of ε = σ = 1, with noise of ERRORS."""
    x, p = places()
    shape = (S, N) if each else (S,)
    zero = Snapshots(x, np.zeros((S, N, 2)), np.zeros(shape), np.zeros((S, 2, 2)), np.zeros((S, 2, 2, 2)), momenta=p)
    exact = jax.jit(lambda data: interactions(fluid(1.0, 1.0), data, GRID))(zero)
    rng = np.random.default_rng(2)
    found = {k: np.asarray(v) + ERRORS[k] * rng.normal(size=v.shape) for k, v in exact.items()}
    return Snapshots(x, **found, momenta=p)


@pytest.fixture(scope="module")
def fitted():
    data = noisy()
    return data, match_forces(fluid(1.2, 0.95), data, numbers, errors=ERRORS, grid=GRID)


def residuals(theta, data):
    return mismatch(interactions(fluid(*theta), data, GRID), data, ERRORS)


def test_noise_of_the_data_becomes_the_error_of_the_parameters(fitted):
    """ε and σ within their errors of the truth, χ² that of noise, and a covariance that is that of differences."""
    data, found = fitted
    theta = jnp.stack(found.parameters)
    off = np.asarray(theta) - 1
    assert found.converged and off @ np.linalg.solve(found.covariance, off) < 13.8  # of χ² with 2 degrees: 0.1 %
    assert np.all(np.sqrt(np.diag(found.covariance)) < 0.02)
    assert found.degrees == 36 + 18 + 12 + 24 - 2
    assert abs(float(found.chi2) - found.degrees) < 4 * np.sqrt(2 * found.degrees)
    h = 1e-5
    look = jax.jit(residuals)
    slope = np.stack([(look(theta + h * e, data) - look(theta - h * e, data)) / (2 * h) for e in jnp.eye(2)], axis=1)
    np.testing.assert_allclose(found.covariance, np.linalg.inv(slope.T @ slope), rtol=1e-6)
    at_rest = slope.T @ np.asarray(look(theta, data))  # a minimum: the gradient vanishes
    assert np.all(np.abs(at_rest) < 1e-4 * np.linalg.norm(slope, axis=0))
    for kind, value in found.misfit.items():
        assert 0.4 * ERRORS[kind] < value < 1.6 * ERRORS[kind]


def test_without_errors_the_covariance_comes_from_what_is_left():
    """Σ r² over 34 degrees is the variance of a datum, whatever the scale."""
    data = noisy()
    data = Snapshots(data.x, forces=data.forces)
    found = match_forces(fluid(1.2, 0.95), data, numbers)

    def force(theta):
        return interactions(fluid(*theta), data)["forces"].reshape(-1)

    theta = jnp.stack(found.parameters)
    slope = np.asarray(jax.jit(jax.jacfwd(force))(theta))
    variance = 36 / 34 * found.misfit["forces"] ** 2
    np.testing.assert_allclose(found.covariance, variance * np.linalg.inv(slope.T @ slope), rtol=1e-8)


def test_gradient_of_the_loss_is_that_of_finite_differences():
    """In reverse mode, of all four kinds together; sums of energies this time."""
    data = noisy(each=False)
    loss = jax.jit(jax.value_and_grad(lambda theta: 0.5 * jnp.sum(residuals(theta, data) ** 2)))
    theta, h = jnp.asarray([1.1, 0.97]), 1e-4
    for row, way in enumerate(jnp.eye(2)):
        a, b, c, d = (float(loss(theta + s * h * way)[0]) for s in (-2, -1, 1, 2))
        np.testing.assert_allclose(loss(theta)[1][row], (a - 8 * b + 8 * c - d) / (12 * h), rtol=1e-8)


def test_bad_input_is_refused():
    data = noisy()
    system = fluid(1.0, 1.0)
    with pytest.raises(InputError, match="`forces` must be given"):
        Snapshots(data.x)
    with pytest.raises(InputError, match=r"`stress` must have shape \(3, Y, 2, 2\)"):
        Snapshots(data.x, stress=np.zeros((3, 2, 2)))
    with pytest.raises(InputError, match="`energies` must be finite"):
        Snapshots(data.x, energies=np.full(3, np.nan))
    with pytest.raises(InputError, match="`grid` must be given"):
        match_forces(system, data, numbers)
    with pytest.raises(InputError, match="`errors` must name forces, energies"):
        match_forces(system, data, numbers, errors={"forces": 1.0}, grid=GRID)
    with pytest.raises(InputError, match=r"take parameters that the data depend on, but .* number 0, 1, 2, 3, 4, 5"):
        match_forces(system, Snapshots(data.x, forces=data.forces), lambda s: s.masses)
    free = System(LennardJones(1.0, 1.0, 2.1), Free(2), np.ones(N))
    with pytest.raises(InputError, match="periodic space"):
        match_forces(free, Snapshots(data.x, pressure=data.pressure), numbers)
