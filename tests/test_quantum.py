"""Quantum mechanics on a grid: exact levels and thermal laws, and the references of sections 2 and 10.

Energies, lengths and ħω are of order 1 to 30 and matrices have up to 600 rows, so 1e-12 is rounding unless said
otherwise.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz.checks import InputError
from jaxmd_iz.quantum import spectrum as sp
from jaxmd_iz.quantum.grid import Grid, around, must_fit

ROUNDING = 1e-12
TIMES = np.linspace(0.0, 6.0, 13)


def scalar(grid, f, d=1):
    """f(x) I at the points, x of shape (N, C), a function of numpy."""
    return jnp.asarray(f(np.asarray(grid.x))[:, None, None] * np.eye(d))


def apart(one, other):
    """The largest difference."""
    return np.max(np.abs(np.asarray(one) - np.asarray(other)))


def harmonic(grid):
    return scalar(grid, lambda x: np.sum(x**2, axis=1) / 2)


def gap_model(gap):
    """x (C,) ↦ ¼(x − ½)⁴ I + c[[x, ½], [½, −x]] of section 2; the gap at x = 0 is c."""
    turning = jnp.array([[0.0, 0.5], [0.5, 0.0]])
    return lambda x: (x[0] - 0.5) ** 4 / 4 * jnp.eye(2) + gap * (x[0] * jnp.diag(jnp.array([1.0, -1.0])) + turning)


# --- the grid ---------------------------------------------------------------------------------------------------------


def test_levels_of_harmonic_oscillators():
    """ħω(n + ½) in one coordinate, Σ ħω_a(n_a + ½) in two with different masses."""
    # the lowest level is e^{−121} at the edge of the box and e^{−86} at that of the momenta
    one = Grid((-11.0,), (11.0,), (65,))
    assert apart(sp.spectrum(one, harmonic(one)).energies[:12], np.arange(12) + 0.5) < ROUNDING
    two = Grid((-3.0, -2.1), (3.0, 2.1), (25, 25), hbar=0.25, masses=(1.0, 1.7))
    v = scalar(two, lambda x: (x[:, 0] ** 2 + 1.7 * 1.44 * x[:, 1] ** 2) / 2)  # ω = 1 and 1.2
    exact = np.sort(0.25 * (np.add.outer(np.arange(9) + 0.5, 1.2 * (np.arange(9) + 0.5))).reshape(-1))
    # and here e^{−36} and e^{−43}, with powers up to 36² for the fourth
    assert apart(sp.spectrum(two, v).energies[:4], exact[:4]) < ROUNDING


def test_levels_of_morse_converge_faster_than_any_power():
    """E_n = ħω(n + ½) − (ħω(n + ½))²/4D, ω = a√(2D/m); the local order in n grows with n."""
    n, depth = np.arange(4) + 0.5, 12.0
    omega = np.sqrt(2 * depth)
    exact = omega * n - (omega * n) ** 2 / (4 * depth)
    points, errors = (41, 57, 81, 113, 161), []
    for count in points:
        grid = Grid((-2.2,), (20.0,), (count,))
        v = scalar(grid, lambda x: depth * (1 - np.exp(-x[:, 0])) ** 2)
        errors.append(apart(sp.spectrum(grid, v).energies[:4], exact))
    order = -np.diff(np.log(errors[:4])) / np.diff(np.log(points[:4]))
    assert np.all(np.diff(order) > 1), (errors, order)
    assert errors[-1] < 1e-11, errors  # V reaches 200 at the left edge: rounding of 200


def test_operators_and_matrices_are_the_same():
    """p̂ and p̂² applied by Fourier transform and as matrices, in both coordinates; p̂ p̂ = p̂²."""
    grid = Grid((-1.0, 0.0), (2.0, 5.0), (5, 7), hbar=0.3, masses=(1.0, 2.5))
    phi = jnp.asarray(np.random.default_rng(0).normal(size=(35, 2, 3)))
    first, second = (np.asarray(grid.momentum_matrix(a)) for a in range(2))
    for a, p in enumerate((np.kron(first, np.eye(7)), np.kron(np.eye(5), second))):
        assert apart(grid.apply_momentum(phi, a), np.einsum("xy,yar->xar", p, phi)) < ROUNDING
        twice = grid.apply_momentum(grid.apply_momentum(phi, a), a)
        assert apart(grid.apply_momentum(phi, a, 2), twice) < ROUNDING
        assert apart(grid.apply_momentum(phi, a, 0), phi) == 0
    assert apart(grid.apply_kinetic(phi), np.einsum("xy,yar->xar", grid.kinetic_matrix(), phi)) < ROUNDING


@pytest.mark.parametrize(("hbar", "temperature"), [(0.1, 1.0), (1.0, 0.3), (0.05, 0.001)])
def test_box_holds_what_its_tolerance_says(hbar, temperature):
    """⟨x²⟩ and ⟨p²⟩ of a shifted oscillator are (ħ/2)coth(ħ/2T), for ħω/T from 0.1 to 50."""
    exact = hbar / 2 / np.tanh(hbar / 2 / temperature)
    errors = []
    for tolerance in (1e-4, 1e-8):
        grid = around(lambda x: (x[0] - 0.3) ** 2 / 2, [0.0], temperature, hbar, 1.0, tolerance)
        of = sp.spectrum(grid, scalar(grid, lambda x: (x[:, 0] - 0.3) ** 2 / 2))
        f = sp.gibbs(of, temperature)
        energy = jnp.sum(f.weights * of.energies[: len(f.weights)])
        x2 = sp.mean(f, scalar(grid, lambda x: (x[:, 0] - 0.3) ** 2))
        errors.append(max(abs(float(x2) / exact - 1), abs(float(energy) / exact - 1)))
    # s = log 1/tolerance: the part of a second moment beyond e^{−s} is about √s e^{−s}, so ten times the tolerance
    assert errors[0] < 1e-3 and errors[1] < 1e-7, errors
    assert grid.size < 400


# --- thermal laws -----------------------------------------------------------------------------------------------------


def test_thermal_harmonic_oscillator():
    """⟨x²⟩ = (ħ/2mω) coth(βħω/2), Re⟨x_τ x_0⟩ = that times cos ωτ, at ħ = 0.4, m = 1.5, ω = 1.2."""
    grid, temperature = Grid((-6.5,), (6.5,), (91,), 0.4, 1.5), 0.5
    x = scalar(grid, lambda x: x[:, 0])
    of = sp.spectrum(grid, 1.5 * 1.44 * x @ x / 2)
    exact = 0.4 / (2 * 1.5 * 1.2) / np.tanh(0.4 * 1.2 / (2 * temperature))
    assert abs(sp.mean(sp.gibbs(of, temperature), x @ x) - exact) < ROUNDING
    element = sp.elements(of, x)
    found = sp.correlation(of, temperature, element, element, jnp.asarray(TIMES))
    assert apart(found, exact * np.cos(1.2 * TIMES)) < 20 * ROUNDING  # phases E τ/ħ up to 10³


@pytest.fixture(scope="module")
def complex_case():
    """Two states with complex couplings in two coordinates of different mass, with dense operators."""
    grid = Grid((-3.0, -2.6), (3.0, 2.6), (9, 11), hbar=0.6, masses=(1.0, 1.8))
    x, y = np.asarray(grid.x).T
    off = 0.5 * x + 0.4j * y + 0.3
    v = np.stack([np.stack([0.8 * y, off], -1), np.stack([off.conj(), -0.8 * y], -1)], -2)
    v = jnp.asarray(v + ((x**2 + 1.5 * y**2) / 2)[:, None, None] * np.eye(2))
    return grid, v, sp.spectrum(grid, v)


def test_traces(complex_case):
    """Tr(A_τ f̂) = Tr(A f̂_τ), stationarity of e^{−βĤ}, Tr(A_τ B f̂) = Tr(A B_−τ f̂), Tr(Ĥ_τ f̂) = Tr(Ĥ f̂)."""
    grid, v, of = complex_case
    a = scalar(grid, lambda x: x[:, 0] + x[:, 1] ** 2 + 0j, 2)
    a = a + jnp.asarray([[[0, 0.5j], [-0.5j, 0]]])
    b = scalar(grid, lambda x: np.sin(x[:, 1]), 2)
    h, size = np.asarray(sp.dense_hamiltonian(grid, v)), 2 * grid.size
    vectors, energies = np.asarray(of.vectors).reshape(size, size), np.asarray(of.energies)
    assert apart(vectors.conj().T @ h @ vectors, np.diag(energies)) < 100 * ROUNDING  # levels up to 100
    # a mixture that is not stationary: displaced packets, with a negative weight as of a quantised symbol
    rng = np.random.default_rng(1)
    phi = np.exp(-np.sum((np.asarray(grid.x)[:, None, None, :] - rng.normal(size=(3, 2))) ** 2, -1))
    phi = phi * (rng.normal(size=(1, 2, 3)) + 1j * rng.normal(size=(1, 2, 3)))
    f = sp.Mixture(grid, jnp.asarray(phi / np.sqrt(np.sum(np.abs(phi) ** 2, (0, 1)))), jnp.array([0.9, 0.4, -0.3]))
    later = sp.evolved(of, f, 1.7)
    before, after = (np.asarray(m.vectors).reshape(size, 3) for m in (f, later))
    assert apart(after.conj().T @ after, before.conj().T @ before) < ROUNDING  # unitary
    u = vectors * np.exp(-1.7j * energies / 0.6) @ vectors.conj().T
    whole = np.einsum("xy,xab->xayb", np.eye(grid.size), a).reshape(size, size)
    heisenberg = np.real(np.trace(u.conj().T @ whole @ u @ (before * np.asarray(f.weights)) @ before.conj().T))
    assert abs(heisenberg - sp.mean(f, a)) > 0.1  # it moves
    assert abs(heisenberg - sp.mean(later, a)) < 10 * ROUNDING
    energy = [np.real(np.einsum("xi,xy,yi,i->", p.conj(), h, p, f.weights, optimize=True)) for p in (before, after)]
    assert abs(energy[0] - energy[1]) < 100 * ROUNDING
    gibbs = sp.gibbs(of, 0.9)
    assert abs(sp.mean(sp.evolved(of, gibbs, 1.7), a) - sp.mean(gibbs, a)) < ROUNDING
    one, two, times = sp.elements(of, a), sp.elements(of, b), jnp.array([0.0, 0.8, 1.7])
    forward, backward = sp.correlation(of, 0.9, one, two, times), sp.correlation(of, 0.9, two, one, -times)
    assert apart(forward, backward) < ROUNDING
    unit = jnp.eye(size, dtype=complex)
    assert apart(sp.correlation(of, 0.9, one, unit, times), float(sp.mean(gibbs, a))) < ROUNDING


def test_mixture_of_the_gibbs_operator_is_the_gibbs_mixture(complex_case):
    grid, _, of = complex_case
    f = sp.gibbs(of, 0.9, least=None)
    flat = np.asarray(of.vectors).reshape(-1, len(of.energies))
    g = sp.mixture(grid, jnp.asarray((flat * np.asarray(f.weights)) @ flat.conj().T), 2)
    x2 = scalar(grid, lambda x: x[:, 0] ** 2, 2)
    assert abs(sp.mean(g, x2) - sp.mean(f, x2)) < ROUNDING
    assert abs(jnp.sum(g.weights) - 1) < ROUNDING


@pytest.mark.parametrize("gap", [1.0, 15.0])
def test_spectrum_below_an_energy(gap):
    """Against all levels, also where the upper state lies above the cutoff while it is coupled to the lower one."""
    potential, tolerance = gap_model(gap), 1e-10
    grid = around(lambda x: jnp.linalg.eigvalsh(potential(x))[0], [0.0], 1.0, 0.1, 1.0, tolerance)
    v = jax.vmap(potential)(grid.x)
    cutoff = float(jnp.linalg.eigvalsh(v)[:, 0].min()) - np.log(tolerance)
    full, part = sp.spectrum(grid, v), sp.spectrum(grid, v, cutoff)
    assert len(part.energies) < 0.95 * len(full.energies)
    x = scalar(grid, lambda x: x[:, 0], 2)
    means = [sp.mean(sp.gibbs(s, 1.0), x) for s in (full, part)]
    # single states with λ_k above the cutoff left out: 1e-8 at gap 15
    assert abs(means[0] - means[1]) < 5 * tolerance


def test_derivatives_of_a_thermal_mean():
    """d⟨x⟩/dc and d⟨x⟩/dT through the levels against central differences of sixth order."""
    grid = Grid((-4.0,), (4.5,), (41,), hbar=0.3)
    x = scalar(grid, lambda x: x[:, 0], 2)

    def value(at):
        gap, temperature = at
        of = sp.spectrum(grid, jax.vmap(gap_model(gap))(grid.x))
        return sp.mean(sp.gibbs(of, temperature, least=None), x)

    compiled = jax.jit(jax.value_and_grad(value))
    at, step = np.array([1.0, 0.8]), 0.02
    slope = compiled(jnp.asarray(at))[1]
    for i, way in enumerate(np.eye(2)):
        values = [float(compiled(jnp.asarray(at + k * step * way))[0]) for k in (-3, -2, -1, 1, 2, 3)]
        expected = np.dot([-1, 9, -45, 45, -9, 1], values) / (60 * step)
        assert abs(slope[i] - expected) < 1e-8 and abs(expected) > 0.1, (slope, expected)  # (step)⁶ times 10²


# --- against classical averages ---------------------------------------------------------------------------------------


def levels_and_forces(x, c=1.0):
    """λ_±(x) of the gap model, (2, …), lower first, and −dλ/dx."""
    r = c * np.sqrt(x**2 + 0.25)
    rise, slope = (x - 0.5) ** 4 / 4, (x - 0.5) ** 3
    return np.stack([rise - r, rise + r]), -np.stack([slope - c**2 * x / r, slope + c**2 * x / r])


def exact(mass, tolerance=1e-7):
    """The gap model at gap 1, T = 1: spectrum and x. The tolerance leaves 1e-8, see `test_spectrum_below_an_energy`."""
    potential = gap_model(1.0)
    grid = around(lambda x: jnp.linalg.eigvalsh(potential(x))[0], [0.0], 1.0, mass**-0.5, 1.0, tolerance)
    v = jax.vmap(potential)(grid.x)
    lowest = float(jnp.linalg.eigvalsh(v)[:, 0].min())
    return sp.spectrum(grid, v, lowest - np.log(tolerance)), scalar(grid, lambda x: x[:, 0], 2)


@pytest.mark.parametrize(("mass", "error"), [(100, 2.4e-4), (3000, 8.0e-6)])
def test_error_of_classical_averages(mass, error):
    """Section 2: the error of ⟨x⟩ = ∫ x Σ_j e^{−λ_j}dx/∫ Σ_j e^{−λ_j}dx with λ_j themselves, as printed there."""
    of, x = exact(mass)
    points = np.linspace(-6, 7, 4001)
    weight = np.sum(np.exp(-levels_and_forces(points)[0]), axis=0)
    classical = np.sum(points * weight) / np.sum(weight)
    assert abs(classical - float(sp.mean(sp.gibbs(of, 1.0), x))) == pytest.approx(error, rel=0.05)


def test_excited_states_matter_at_temperature_of_the_gap():
    """Section 10: ⟨x_τ x_0⟩ at M = 300, τ = 1 from the lower surface alone, and with both weighted by q_j*."""
    of, x = exact(300)
    element = sp.elements(of, x)
    quantum = float(sp.correlation(of, 1.0, element, element, jnp.ones(1))[0])
    x0, p0 = np.meshgrid(np.linspace(-4.5, 5.5, 301), np.linspace(-6.5, 6.5, 101), indexing="ij")
    x, p, step = np.stack([x0, x0]), np.stack([p0, p0]), 1 / 50
    weight = np.exp(-levels_and_forces(x0)[0] - p0**2 / 2)
    q = 1 / (4 - 4 ** (1 / 3))
    for part in [q, q, 1 - 4 * q, q, q] * 50:  # Suzuki's fourth order: 1e-7 here
        x = x + part * step / 2 * p
        p = p + part * step * np.stack([levels_and_forces(x[k])[1][k] for k in range(2)])
        x = x + part * step / 2 * p
    lower = np.sum(weight[0] * x[0] * x0) / np.sum(weight[0])
    both = np.sum(weight * x * x0) / np.sum(weight)
    assert abs(lower - quantum) == pytest.approx(0.12, rel=0.05)
    assert abs(both - quantum) == pytest.approx(6e-5, rel=0.1)  # one digit is printed


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_more_than_the_memory_is_refused_with_its_size():
    big = Grid((0.0, 0.0), (1.0, 1.0), (2001, 2001))
    with pytest.raises(InputError, match=r"`points` must ask for less memory .* 4004001 × 4004001 needs 3.58e\+05 GiB"):
        big.kinetic_matrix()
    with pytest.raises(InputError, match=r"propagate wave functions instead"):
        sp.spectrum(big, jnp.zeros((big.size, 1, 1)))
    with pytest.raises(InputError, match=r"`cutoff` must .* the diagonalisation of 4004001 levels needs"):
        sp.spectrum(big, jnp.zeros((big.size, 1, 1)), 1.0)
    must_fit(1e6, "points", "a small matrix")


SMALL = Grid((-1.0,), (1.0,), (5,))
V = jnp.zeros((5, 1, 1))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Grid((0.0,), (1.0,), (4,)), r"`points` must be odd whole numbers, but it is \(4,\)"),
        (lambda: Grid((0.0,) * 3, (1.0,) * 3, (3,) * 3), "`points` must have one or two coordinates"),
        (lambda: Grid((0.0,), (1.0, 2.0), (3,)), "must have one length"),
        (lambda: Grid((1.0,), (0.0,), (3,)), "`lower` must be below `upper`"),
        (lambda: Grid((0.0,), (1.0,), (3,), hbar=-1.0), "`hbar` must be positive"),
        (lambda: Grid((0.0,), (1.0,), (3,), masses=0.0), "`masses` must be positive"),
        (lambda: sp.spectrum(SMALL, V[:3]), "`v` must have one matrix at each of the 5 points, but it has 3"),
        (lambda: sp.spectrum(SMALL, V, -1.0), "`cutoff` must be above the lowest λ, 0, but it is -1"),
        (lambda: jax.jit(lambda v: sp.spectrum(SMALL, v, 1.0))(V), "`cutoff` must be None for traced values"),
        (lambda: sp.gibbs(sp.spectrum(SMALL, V), 0.0), "`temperature` must be positive"),
        (lambda: jax.jit(lambda v: sp.gibbs(sp.spectrum(SMALL, v), 1.0))(V), "`least` must be None for traced values"),
        (lambda: around(lambda x: -x[0], [0.0], 1.0, 0.1), "`potential` must confine the nuclei.*confining external"),
        (lambda: around(lambda x: x[0] ** 2, [0.0], -1.0, 0.1), "`temperature` must be positive, but it is -1"),
        (lambda: around(lambda x: x[0] ** 2, [0.0], 1.0, 0.1, tolerance=2.0), "`tolerance` must lie between 0 and 1"),
        (lambda: around(lambda x: jnp.nan * x[0], [0.0], 1.0, 0.1), "`potential` must be finite around `start`"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(InputError, match=says):
        call()
