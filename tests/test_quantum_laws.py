"""The quantum laws (4.8)–(4.10) at every y, exactly: two particles on a line, one in the plane; one state and two."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz.checks import InputError
from jaxmd_iz.quantum import conservation as co
from jaxmd_iz.quantum import densities as de
from jaxmd_iz.quantum import propagation, weyl
from jaxmd_iz.quantum.grid import Grid
from jaxmd_iz.quantum.spectrum import Mixture

RNG = np.random.default_rng(5)
HBAR, EDGE, POINTS = 0.5, 5.0, 43
LINE = Grid((-EDGE, -EDGE), (EDGE, EDGE), (POINTS, POINTS), HBAR)
ETA = de.Gaussian(jnp.array(0.7))
Y = jnp.linspace(-7.0, 7.0, 48)[:, None]  # sums over it are integrals to rounding
STEP = float(Y[1, 0] - Y[0, 0])
# Densities fall to 1e-12 or less before the edge of the box and the largest momentum, πħ/h = 6.8; residuals are 2e-12.
EXACT = 1e-10
SIGMA = jnp.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]], complex)


def repulsion(r):
    return 2.0 * jnp.exp(-(r**2))


def halves(x):
    """Half the pair energy for each particle."""
    return jnp.full((2, 1, 1), repulsion(x[0] - x[1]) / 2)


def trap(x):
    return 0.5 * jnp.sum(x**2)


def evolved(of, f, time):
    return Mixture(f.grid, propagation.chebyshev(f.grid, of.v, f.vectors, time, 1e-14), f.weights)


def residual(f, of, eta=ETA, y=Y):
    return np.asarray(co.relative_residual(co.law_terms(f, of, y, eta.eta, eta.bond)))


def exchanged(phi):
    """x⁰ and x¹ of wave functions exchanged."""
    return np.asarray(phi).reshape(POINTS, POINTS, *phi.shape[1:]).swapaxes(0, 1).reshape(phi.shape)


def mixed(parity):
    """Two packets of two particles, symmetric (1), antisymmetric (−1) or neither (0) under exchange."""
    x, states = np.asarray(LINE.x), []
    for at, p in (((-0.8, 0.5), (0.5, -0.1)), ((0.2, 0.9), (0.3, 0.4))):
        phi = np.exp(-np.sum((x - at) ** 2, axis=1) / (2 * HBAR) + 1j * (x @ np.array(p)) / HBAR)[:, None]
        states.append(phi + parity * exchanged(phi))
    phi = np.stack([phi / np.linalg.norm(phi) for phi in states], axis=-1)
    return Mixture(LINE, jnp.asarray(phi), jnp.array([0.7, 0.3]))


@pytest.fixture(scope="module")
def pair():
    """Two particles that repel each other in a trap."""
    return co.energies(LINE, halves, trap)


def test_local_moments_are_traces_with_weyl_operators():
    """Σ_x Tr[A μ_k] = Tr(Op(A p^k) f̂), with the operator as a matrix; for any number of states at a time."""
    for grid, powers in (
        (Grid((-2.0,), (2.0,), (15,), 0.6), [(k,) for k in range(4)]),
        (Grid((-2.0, -1.0), (2.0, 1.0), (5, 7), 0.7), [(0, 0), (1, 2), (3, 0), (1, 1)]),
    ):
        shape = (grid.size, 2, 5)
        phi = jnp.asarray(RNG.normal(size=shape) + 1j * RNG.normal(size=shape))
        f = Mixture(grid, phi, jnp.asarray(RNG.normal(size=5)))
        a = RNG.normal(size=(grid.size, 2, 2)) + 1j * RNG.normal(size=(grid.size, 2, 2))
        a = jnp.asarray(a + a.conj().swapaxes(1, 2))
        found = de.local_moments(f, tuple(powers), tuple(powers), block=2)
        flat = np.asarray(phi).reshape(-1, 5)
        for k in powers:
            operator = np.asarray(weyl.polynomial_operator(grid, {k: a}))
            exact = np.sum(np.asarray(f.weights) * np.einsum("ar,ab,br->r", flat.conj(), operator, flat).real)
            size = np.linalg.norm(operator) * np.linalg.norm(flat) ** 2
            np.testing.assert_allclose(de.expectation(found.matrix[k], a), exact, atol=1e-14 * size)
            mu = np.asarray(found.matrix[k])
            np.testing.assert_allclose(mu, mu.conj().swapaxes(1, 2), atol=1e-13 * np.max(np.abs(mu)))
            np.testing.assert_allclose(found.trace[k], np.einsum("xaa->x", mu).real, atol=1e-13 * np.max(np.abs(mu)))


def test_gaussian_and_its_bond_function():
    nodes, weights = np.polynomial.legendre.leggauss(60)
    t = (1 + nodes) / 2
    one = jnp.array([[0.3], [0.3], [0.3], [0.3], [-2.0], [1.1]])
    two = jnp.array([[0.3], [0.3 + 1e-9], [0.439], [0.441], [2.5], [-0.7]])  # 0.14 apart: the series ends

    def of(y, a, b):
        return ETA.bond(y[None], a, b)

    slopes = jax.jit(jax.vmap(jax.value_and_grad(of, (0, 1)), (None, 0, 0)))
    h = 1e-4
    for y in (0.1, 0.4, 2.0, -3.0):
        along = np.asarray(one) * t + np.asarray(two) * (1 - t)
        exact = np.sum(weights / 2 * np.exp(-((y - along) ** 2) / 0.98) / math.sqrt(0.98 * math.pi), axis=1)
        found, (by_y, by_end) = slopes(y, one, two)
        np.testing.assert_allclose(found, exact, atol=3e-15)
        ends = ETA.eta(y - one) - ETA.eta(y - two)  # η_n − η_m = −∇·(B d)
        np.testing.assert_allclose(-by_y * (one - two)[:, 0], ends, atol=3e-15)
        shifted = (slopes(y, one + h, two)[0] - slopes(y, one - h, two)[0]) / (2 * h)
        np.testing.assert_allclose(by_end[:, 0], shifted, atol=1e-8)  # h² times a third derivative of order one
    plane = RNG.normal(size=(5, 2))
    exact = np.prod(np.exp(-(plane**2) / 0.98) / math.sqrt(0.98 * math.pi), axis=1)
    np.testing.assert_allclose(ETA.eta(jnp.asarray(plane)), exact, rtol=1e-14)


def test_fields_of_a_coherent_state():
    """x and p of a coherent state are independent Gaussians: every moment in closed form."""
    grid = Grid((-6.0,), (6.0,), (61,), HBAR, 1.3)
    of = co.energies(grid, lambda x: 0.65 * x.reshape(1, 1, 1) ** 2)  # mω²x²/2 with ω = 1
    x, at, p = np.asarray(grid.x)[:, 0], 0.6, -0.8
    spread, heat = HBAR / 2.6, 1.3 * HBAR / 2  # ħ/2mω and mħω/2
    phi = np.exp(-((x - at) ** 2) / (4 * spread) + 1j * p * x / HBAR)
    f = Mixture(grid, jnp.asarray(phi / np.linalg.norm(phi))[:, None, None], jnp.ones(1))
    y = jnp.linspace(-2.0, 3.0, 9)[:, None]
    found = co.moments_at(f, of, y, ETA.eta, ETA.bond)
    whole = spread + 0.49
    u = np.asarray(y)[:, 0] - at
    n = np.exp(-(u**2) / (2 * whole)) / math.sqrt(2 * math.pi * whole)
    x2 = (at + u * spread / whole) ** 2 + spread * 0.49 / whole  # ⟨x²⟩ of η(y − x)|φ|²
    p2, p3 = p**2 + heat, p**3 + 3 * p * heat
    nothing = np.zeros_like(n)
    expected = {
        "rho": 1.3 * n, "momentum": p * n, "energy_kinetic": p2 / 2.6 * n, "energy_potential": 0.65 * x2 * n,
        "k": p2 / 1.3 * n, "s": nothing, "j_kinetic": p3 / (2 * 1.69) * n, "j_potential": p / 1.3 * 0.65 * x2 * n,
        "j_electronic": nothing, "r": nothing, "force": -1.3 * (at + u * spread / whole) * n, "power": nothing,
    }  # fmt: skip
    for name, value in expected.items():
        np.testing.assert_allclose(np.asarray(getattr(found, name)).reshape(-1), value, atol=1e-12, err_msg=name)

    def weighed(width):
        eta = de.Gaussian(width)
        return jnp.sum(jnp.arange(9.0) * co.moments_at(f, of, y, eta.eta, eta.bond).rho)

    slope = 1.3 * n * (u**2 / whole - 1) / whole * 0.7
    np.testing.assert_allclose(jax.grad(weighed)(ETA.width), np.arange(9) @ slope, atol=1e-12)


def test_the_laws_of_a_pair_hold_at_every_time(pair):
    """(4.8)–(4.10); the whole mass and energy stay; in print (4.9) has another sign and counts each pair twice."""
    totals = []
    for time in (0.0, 0.3, 0.7):
        f = evolved(pair, mixed(0), time)
        terms = co.law_terms(f, pair, Y, ETA.eta, ETA.bond)
        assert np.max(co.relative_residual(terms)) < EXACT
        scale = [np.max(np.abs(t), axis=tuple(range(1, t.ndim))) for t in terms]
        assert np.all(scale[0] > 0.03) and np.all(scale[1] > 0.03) and np.all(scale[2][[0, 1, 2, 4]] > 0.03)
        assert scale[2][3] == 0
        m = co.moments_at(f, pair, Y, ETA.eta, ETA.bond)
        density = de.local_moments(f, (), ((0, 0),)).trace[0, 0]
        energy = STEP * jnp.sum(m.energy_kinetic + m.energy_potential) + jnp.sum(density * pair.external)
        totals.append([STEP * jnp.sum(m.rho), energy])
        np.testing.assert_allclose(m.s, -m.r, atol=1e-14)
        rate, kinetic, stress, force = terms[1]
        printed = co.relative_residual((terms[0], jnp.stack([rate, kinetic, -2 * stress, force]), terms[2]))
        assert printed[1] > 0.5
    np.testing.assert_allclose(totals, [totals[0]] * 3, atol=1e-11)
    np.testing.assert_allclose(np.array(totals)[:, 0], 2.0, atol=1e-11)


def test_time_derivatives_are_those_of_the_motion(pair):
    f, h = evolved(pair, mixed(0), 0.4), 2e-3
    rate = co.time_derivative(f, pair, Y, ETA.eta, ETA.bond)
    near = {k: co.moments_at(evolved(pair, f, k * h), pair, Y, ETA.eta, ETA.bond) for k in (-2, -1, 1, 2)}
    for name in (field.name for field in dataclasses.fields(rate)):
        value = {k: np.asarray(getattr(m, name)) for k, m in near.items()}
        slope = (8 * (value[1] - value[-1]) - value[2] + value[-2]) / (12 * h)
        # h⁴/30 times a fifth derivative, which is of order one
        np.testing.assert_allclose(getattr(rate, name), slope, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("parity", [1, -1])
def test_bosons_and_fermions_stay_so_and_obey_the_laws(pair, parity):
    f = evolved(pair, mixed(parity), 0.7)
    phi = np.asarray(f.vectors)
    assert np.max(np.abs(exchanged(phi) - parity * phi)) < 1e-12 * np.max(np.abs(phi))
    assert np.max(residual(f, pair)) < EXACT


def along(one, two, three):
    """a σ_x + b σ_y + c σ_z."""
    return sum(jnp.asarray(a).astype(complex) * sigma for a, sigma in zip((one, two, three), SIGMA, strict=True))


def coupled(x, common=True):
    """A two-state fluid of two: halves of [[φ, c], [c, φ + δ + Δ]], and fields on each particle that do not commute."""
    r = x[0] - x[1]
    phi, c = repulsion(r), 0.6 * jnp.exp(-((r / 1.5) ** 2))
    half = jnp.stack([jnp.stack([phi, c]), jnp.stack([c, 0.8 * phi + 0.9])]).astype(complex) / 2
    if common:
        return jnp.stack([half, half])
    one, two = along(0.0, 0.2, 0.4 * jnp.sin(x[0])), along(0.3 * jnp.cos(1.2 * x[1]), 0.1 * x[1], 0.0)
    return jnp.stack([half + one, half + two])


def spinors(grid):
    """Two packets with states that are neither real nor equal."""
    x, states = np.asarray(grid.x), []
    for at, p, s in (((-0.8, 0.5), (0.5, -0.1), (1.0, 0.4j)), ((0.2, 0.9), (0.3, 0.4), (-0.5, 0.8 + 0.3j))):
        phi = np.exp(-np.sum((x - at) ** 2, axis=1) / (2 * HBAR) + 1j * (x @ np.array(p)) / HBAR)
        states.append(phi[:, None] * np.array(s)[None, :])
    phi = np.stack([phi / np.linalg.norm(phi) for phi in states], axis=-1)
    return Mixture(grid, jnp.asarray(phi), jnp.array([0.7, 0.3]))


def test_two_states_in_the_diabatic_basis():
    """The matrices need not commute: the states exchange energy by J_e; gⁿ ≠ 0 is a force from outside."""
    grid = Grid(LINE.lower, LINE.upper, LINE.points, HBAR, (1.0, 1.7))
    f = spinors(grid)
    closed = co.energies(grid, coupled, trap)
    terms = co.law_terms(f, closed, Y, ETA.eta, ETA.bond)
    assert np.max(co.relative_residual(terms)) < EXACT
    assert np.max(np.abs(terms[2][3])) == 0
    open_ = co.energies(grid, lambda x: coupled(x, False), trap)
    terms = co.law_terms(f, open_, Y, ETA.eta, ETA.bond)
    assert np.max(co.relative_residual(terms)) < EXACT
    assert np.max(np.abs(terms[2][3])) > 0.1
    # without J_e and without gⁿ
    outer = co.moments_at(f, eqx.tree_at(lambda e: e.gradient, open_, 0 * open_.gradient), Y, ETA.eta, ETA.bond).force
    without = (terms[0], terms[1].at[3].set(-outer), terms[2].at[3].set(0.0))
    assert np.min(co.relative_residual(without)[1:]) > 0.05


def test_two_states_of_one_particle_in_the_plane():
    def one(x):
        a, b = 0.4 * jnp.sin(x[0] + 0.5 * x[1]), 0.5 * x[0] * jnp.exp(-(x[1] ** 2) / 4)
        return along(b, 0.3 * jnp.cos(x[1]), a)[None]

    def bowl(x):
        return trap(x) + 0.1 * x[0] * x[1]

    grid = Grid(LINE.lower, LINE.upper, LINE.points, HBAR, 1.4)
    y = jnp.asarray(RNG.uniform(-1.5, 1.5, size=(12, 2)))
    terms = co.law_terms(spinors(grid), co.energies(grid, one, bowl), y, ETA.eta, ETA.bond)
    assert np.max(co.relative_residual(terms)) < EXACT


def test_bad_input_is_refused_in_a_sentence(pair):
    line, five = Grid((-1.0,), (1.0,), (5,)), jnp.ones((5, 1, 1), complex)
    f = Mixture(line, five, jnp.ones(1))
    plane = Grid((-1.0, -1.0), (1.0, 1.0), (3, 3), 1.0, (1.0, 2.0))
    cases = [
        (lambda: de.local_moments(f, ((1, 1),)), "matrices", "powers of 1 momenta"),
        (lambda: de.local_moments(f, (), ((-1,),)), "traces", "whole numbers"),
        (lambda: de.local_moments(f, (), ((0,),), block=0), "block", "it is 0"),
        (lambda: co.energies(line, lambda x: jnp.ones((3, 1, 1))), "e", "there are 3"),
        (lambda: co.energies(plane, lambda x: trap(x).reshape(1, 1, 1)), "masses", "equal"),
        (lambda: co.moments_at(f, pair, Y, ETA.eta, ETA.bond), "f", "be on the grid"),
        (lambda: co.moments_at(mixed(0), pair, Y[:, [0, 0]], ETA.eta, ETA.bond), "y", "it has 2"),
        (lambda: ETA.bond(jnp.zeros(2), jnp.zeros((1, 2)), jnp.zeros((1, 2))), "y", "on a line"),
    ]
    for call, argument, words in cases:
        with pytest.raises(InputError, match=rf"Argument `{argument}` must .*{words}"):
            call()
