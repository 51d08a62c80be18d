"""Wave functions in real and imaginary time against dense diagonalisation, thermal mixtures, and QuTiP.

Ĥ reaches 20 to 40 and phases Eτ/ħ reach 10², so 1e-12 is rounding.
"""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz.checks import InputError
from jaxmd_iz.quantum import propagation
from jaxmd_iz.quantum import spectrum as sp
from jaxmd_iz.quantum.grid import Grid

ROUNDING = 1e-12
RECORDED = Path(__file__).parent / "data" / "qutip_spin_boson.npz"
TIMES = np.linspace(0.0, 6.0, 13)
ONE = Grid((-4.0,), (4.2,), (31,), hbar=0.5)
TWO = Grid((-2.6, -2.0), (2.4, 2.2), (11, 13), hbar=0.6, masses=(1.0, 1.8))


def apart(one, other):
    """The largest difference."""
    return np.max(np.abs(np.asarray(one) - np.asarray(other)))


class Case(eqx.Module):
    """Two states with real or complex couplings, three packets, and all levels."""

    grid: Grid
    v: jax.Array
    phi: jax.Array
    of: sp.Spectrum


@pytest.fixture(scope="module", params=["1 real", "1 complex", "2 real", "2 complex"])
def case(request):
    coordinates, kind = request.param.split()
    grid = ONE if coordinates == "1" else TWO
    x = np.asarray(grid.x)
    off = 0.4 + 0.3 * x[:, -1] * (1j if kind == "complex" else 1.0)
    v = np.stack([np.stack([0.7 * x[:, 0], off], -1), np.stack([off.conj(), -0.7 * x[:, 0]], -1)], -2)
    v = jnp.asarray(v + (np.sum(x**2, 1) / 2)[:, None, None] * np.eye(2))
    rng = np.random.default_rng(3)
    at, p = rng.uniform(-0.5, 0.5, (2, 3, x.shape[1]))
    packet = np.exp(-np.sum((x[:, None, :] - at) ** 2, -1) + 2j * x @ p.T)[:, None, :] * rng.normal(size=(1, 2, 3))
    return Case(grid, v, jnp.asarray(packet / np.linalg.norm(packet, axis=(0, 1))), sp.spectrum(grid, v))


def overlaps(phi):
    flat = np.asarray(phi).reshape(-1, phi.shape[-1])
    return flat.conj().T @ flat


@pytest.mark.parametrize("time", [1.5, -0.4])
def test_all_three_propagators_agree_and_are_unitary(case, time):
    exact = sp.evolve(case.of, case.phi, time)
    series = propagation.chebyshev(case.grid, case.v, case.phi, time, 1e-14)
    steps = propagation.split(case.grid, case.v, case.phi, time, 200, order=4)
    for phi in (exact, series, steps):
        assert apart(overlaps(phi), overlaps(case.phi)) < ROUNDING
    assert apart(exact, case.phi) > 0.1  # it moves
    assert apart(series, exact) < ROUNDING
    assert apart(steps, exact) < 1e-8  # δ = 0.0075 to the fourth, and the orders below


@pytest.mark.parametrize(("order", "steps"), [(2, 40), (4, 20)])
def test_order_of_the_splitting(case, order, steps):
    exact = sp.evolve(case.of, case.phi, 1.0)
    errors = [apart(propagation.split(case.grid, case.v, case.phi, 1.0, n, order), exact) for n in (steps, 2 * steps)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1), errors  # of the next term in the error


def test_tolerance_bounds_the_error_of_the_expansion(case):
    exact = sp.evolve(case.of, case.phi, 3.0)
    for tolerance in (1e-3, 1e-6, 1e-9):
        found = propagation.chebyshev(case.grid, case.v, case.phi, 3.0, tolerance)
        assert np.max(np.linalg.norm(np.asarray(found - exact), axis=(0, 1))) < tolerance


def test_expansion_with_traced_wave_functions(case):
    """Compiled as a whole: nothing of the loop is on the host."""
    compiled = jax.jit(lambda phi: propagation.chebyshev(case.grid, case.v, phi, 1.5))
    assert apart(compiled(case.phi), sp.evolve(case.of, case.phi, 1.5)) < ROUNDING


@pytest.mark.parametrize("beta", [0.0, 0.3, 2.5])
def test_imaginary_time(case, beta):
    lowest = float(np.linalg.eigvalsh(np.asarray(case.v)).min())
    vectors = np.asarray(case.of.vectors).reshape(-1, len(case.of.energies))
    start = jnp.real(case.phi) if not jnp.iscomplexobj(case.v) else case.phi
    damped = np.exp(-beta * (np.asarray(case.of.energies) - lowest))[:, None]
    exact = vectors @ (damped * (vectors.conj().T @ np.asarray(start).reshape(len(vectors), -1)))
    found = propagation.imaginary_time(case.grid, case.v, start, beta)
    assert jnp.iscomplexobj(found) == jnp.iscomplexobj(case.v)
    assert apart(found.reshape(exact.shape), exact) < ROUNDING / 10  # nothing is larger than 1 here


def test_thermal_mixture_of_a_basis_is_the_gibbs_operator(case):
    d, size = 2, case.grid.size
    basis = jnp.eye(size * d).reshape(size, d, -1)
    f = propagation.thermal_mixture(case.grid, case.v, 0.7, basis)
    g = sp.gibbs(case.of, 0.7, least=None)
    for a in (jnp.asarray(case.grid.x[:, :1, None] ** 2 * jnp.eye(d)[None]), case.v):
        assert apart(sp.mean(f, a), sp.mean(g, a)) < ROUNDING


def test_standard_error_of_random_phases(case):
    """100 estimates from 8 vectors each: their mean is right, their scatter is the standard error that they give."""
    a = case.grid.x[:, :1, None] ** 2 * jnp.eye(2)[None]
    exact = float(sp.mean(sp.gibbs(case.of, 0.7, least=None), a))
    chi = propagation.random_phases(case.grid, 2, 800, jax.random.key(5))
    f = propagation.thermal_mixture(case.grid, case.v, 0.7, chi)
    mean, error = propagation.mean_with_error(f, a)
    assert 1e-3 < error / exact < 0.1
    assert abs(mean - exact) < 4 * error
    vectors, weights = f.vectors.reshape(f.grid.size, 2, 100, 8), f.weights.reshape(100, 8)
    few = jax.jit(jax.vmap(lambda phi, w: propagation.mean_with_error(sp.Mixture(f.grid, phi, w), a), in_axes=(2, 0)))
    means, errors = few(vectors, weights)
    # the scatter of 100 has 7 %, and 8 vectors give their own error to first order in 1/8 only
    assert np.std(means, ddof=1) == pytest.approx(np.sqrt(np.mean(np.asarray(errors) ** 2)), rel=0.35)


# --- QuTiP ------------------------------------------------------------------------------------------------------------


def qutip_spin_boson(levels=36):
    """Ĥ = p̂²/2 + x²/2 + 0.4σ_z + 0.7xσ_x + 0.3σ_y in QuTiP's number basis with its matrix exponentials, T = 0.8.

    Thermal Re⟨x_τ x⟩ and Re⟨x_τ σ_x⟩; ⟨x_τ⟩ and ⟨σ_z(τ)⟩ from a coherent state at x = 1, p = ½ with spin up.
    """
    import qutip

    spin = [qutip.tensor(qutip.qeye(levels), s) for s in (qutip.sigmax(), qutip.sigmay(), qutip.sigmaz())]
    a = qutip.tensor(qutip.destroy(levels), qutip.qeye(2))
    x = (a + a.dag()) / np.sqrt(2)
    h = a.dag() * a + 0.5 + 0.4 * spin[2] + 0.7 * x * spin[0] + 0.3 * spin[1]
    gibbs = (-h / 0.8).expm()
    state = qutip.tensor(qutip.coherent(levels, (1 + 0.5j) / np.sqrt(2), method="analytic"), qutip.basis(2, 0))
    found = {"xx": [], "xs": [], "x": [], "z": []}
    for time in TIMES:
        u = (-1j * time * h).expm()
        later = u.dag() * x * u
        found["xx"].append(np.real((later * x * gibbs).tr() / gibbs.tr()))
        found["xs"].append(np.real((later * spin[0] * gibbs).tr() / gibbs.tr()))
        found["x"].append(np.real(qutip.expect(x, u * state)))
        found["z"].append(np.real(qutip.expect(spin[2], u * state)))
    return found


@pytest.fixture(scope="module")
def spin_boson():
    """What `qutip_spin_boson` returns, on a grid: thermal from the levels, moving by `chebyshev`."""
    grid = Grid((-8.5,), (8.5,), (49,))
    points = np.asarray(grid.x)[:, 0]
    x = jnp.asarray(points[:, None, None] * np.eye(2, dtype=complex))
    sigma = jnp.asarray([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
    v = x @ x / 2 + 0.7 * x @ sigma[:1] + 0.3 * sigma[1:2] + 0.4 * sigma[2:]
    of = sp.spectrum(grid, v)
    one, two = sp.elements(of, x), sp.elements(of, jnp.broadcast_to(sigma[:1], v.shape))
    packet = np.exp(-((points - 1) ** 2) / 2 + 0.5j * points)[:, None, None] * np.array([[1.0], [0.0]])
    f = sp.Mixture(grid, jnp.asarray(packet / np.linalg.norm(packet)), jnp.ones(1))
    moved = [f]
    for _ in TIMES[1:]:
        phi = propagation.chebyshev(grid, v, moved[-1].vectors, float(TIMES[1]), 1e-14)
        moved.append(sp.Mixture(grid, phi, f.weights))
    return {
        "xx": sp.correlation(of, 0.8, one, one, jnp.asarray(TIMES)),
        "xs": sp.correlation(of, 0.8, one, two, jnp.asarray(TIMES)),
        "x": [float(sp.mean(m, x)) for m in moved],
        "z": [float(sp.mean(m, jnp.broadcast_to(sigma[2:], v.shape))) for m in moved],
    }


def test_recorded_results_of_qutip(spin_boson):
    """Made with `numpy.savez(RECORDED, **qutip_spin_boson())` and QuTiP 5.3.1."""
    with np.load(RECORDED) as recorded:
        assert sorted(recorded) == sorted(spin_boson)
        for name, value in spin_boson.items():
            assert np.ptp(recorded[name]) > 0.5
            assert apart(recorded[name], value) < ROUNDING, name


def test_live_results_of_qutip(spin_boson):
    pytest.importorskip("qutip", reason="QuTiP is not installed (the extra `ref` brings it)")
    for name, value in qutip_spin_boson().items():
        assert apart(spin_boson[name], value) < ROUNDING, name


# --- refusals ---------------------------------------------------------------------------------------------------------

V = jnp.zeros((31, 2, 2))
PHI = jnp.ones((31, 2, 1))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: propagation.split(ONE, V, PHI, 1.0, 0), "`steps` must be at least 1, but it is 0"),
        (lambda: propagation.split(ONE, V, PHI, 1.0, 5, 3), "`order` must be 2 or 4, but it is 3"),
        (lambda: propagation.split(ONE, V[:4], PHI[:4], 1.0, 5), "`v` must have one matrix at each of the 31 points"),
        (lambda: propagation.chebyshev(ONE, V, PHI, 1.0, 0.0), "`tolerance` must lie between 0 and 1"),
        (lambda: jax.jit(lambda v: propagation.chebyshev(ONE, v, PHI, 1.0))(V), "`v` must be known.*Use `split`"),
        (lambda: propagation.imaginary_time(ONE, V, PHI, -1.0), "`beta` must be 0 or positive, but it is -1"),
        (lambda: propagation.thermal_mixture(ONE, V, 0.0, PHI), "`temperature` must be positive, but it is 0"),
        (lambda: propagation.mean_with_error(sp.Mixture(ONE, PHI, jnp.ones(1)), V), "`f` must have two states"),
        (
            lambda: jax.eval_shape(
                lambda p: propagation.split(ONE, V, p, 1.0, 5), jax.ShapeDtypeStruct((31, 2, 10**10), float)
            ),
            r"`phi` must ask for less memory .* 10000000000 wave functions on 31 points needs .*Take fewer",
        ),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(InputError, match=says):
        call()
