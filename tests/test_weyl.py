"""Weyl quantisation on a grid: Lemma 4.1, polynomials, # products, the momentum cut-off, bad input.

Symbols and packets are smooth, resolved by their grids and small at the edges, so that what should be equal is equal
to rounding, amplified by powers of the largest momentum, about 5, and by 1/ħ: each tolerance says what was seen.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz.checks import InputError
from jaxmd_iz.quantum import moyal, weyl
from jaxmd_iz.quantum.grid import Grid
from jaxmd_iz.quantum.wigner import wigner

quantise = eqx.filter_jit(weyl.quantise)
polynomial = eqx.filter_jit(weyl.polynomial_operator)
apply = eqx.filter_jit(weyl.apply_polynomial)
sharp = eqx.filter_jit(moyal.moyal_product)
sharp_of_values = eqx.filter_jit(moyal.moyal_product_of_values)
poisson = eqx.filter_jit(moyal.poisson_bracket)

HBAR = 0.1  # M^{−1/2} at M = 100
LINE = Grid((-5.0,), (5.0,), (161,), HBAR)  # momenta up to 5
PLANE = Grid((-5.0, -5.0), (5.0, 5.0), (63, 63), 0.3, (1.0, 2.7))  # momenta up to 5.9
SIGMA_X = np.array([[0.0, 1.0], [1.0, 0.0]])
SIGMA_Y = np.array([[0.0, -1j], [1j, 0.0]])
SIGMA_Z = np.diag([1.0, -1.0])


def packets(grid, at, momenta, states=1):
    """Gaussians e^{−|x − q|²/2ħ + ip·x/ħ} (N, d, r), with another amplitude in each state."""
    x, hbar = np.asarray(grid.x), float(grid.hbar)
    pairs = zip(at, momenta, strict=True)
    phi = [np.exp(-np.sum((x - q) ** 2, axis=1) / (2 * hbar) + 1j * x @ np.array(p) / hbar) for q, p in pairs]
    phi = np.stack(phi, axis=-1) / np.linalg.norm(phi, axis=1)
    return jnp.asarray(phi[:, None, :] * (1 - 0.4j * np.arange(states))[None, :, None])


ON_LINE = packets(LINE, [[0.0], [0.7], [-0.6]], [[0.5], [-0.8], [0.1]])
ON_PLANE = packets(PLANE, [[0.0, 0.3], [-0.4, 0.0]], [[0.5, -0.3], [0.2, 0.6]])


def difference(one, other):
    """Largest relative difference of wave functions."""
    one, other = np.asarray(one), np.asarray(other)
    return np.max(np.linalg.norm(one - other, axis=(0, 1)) / np.linalg.norm(other, axis=(0, 1)))


def random(rng, *shape):
    return jnp.asarray(rng.normal(size=shape) + 1j * rng.normal(size=shape))


def commutator(grid, h, a, phi):
    """(i/ħ)[Ĥ, Â] φ."""
    return 1j / float(grid.hbar) * (apply(grid, h, apply(grid, a, phi)) - apply(grid, a, apply(grid, h, phi)))


def quartic(x):
    return 0.25 * (x[0] - 0.5) ** 4


def window(x):
    return jnp.exp(-1.5 * x[0] ** 2) * jnp.sin(x[0] + 0.3)


H_LINE = {(2,): 0.5, (0,): quartic}


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_lemma_4_1_holds_up_to_degree_two(degree):
    a = {(degree,): window}
    expected = apply(LINE, poisson(LINE, H_LINE, a), ON_LINE)
    assert difference(commutator(LINE, H_LINE, a, ON_LINE), expected) < 1e-12  # seen: 3e-13


@pytest.mark.parametrize("degree", [3, 4])
def test_lemma_4_1_fails_beyond_and_is_mended_by_the_next_term(degree):
    a = {(degree,): window}
    exact = commutator(LINE, H_LINE, a, ON_LINE)
    found = apply(LINE, poisson(LINE, H_LINE, a), ON_LINE)
    assert difference(found, exact) > 5e-3  # of order ħ²V‴/(4p²V′)
    third = degree * (degree - 1) * (degree - 2)
    mend = apply(LINE, {(degree - 3,): lambda x: HBAR**2 * 6 * (x[0] - 0.5) * third * window(x) / 24}, ON_LINE)
    # + ε²V‴∂_p³A/24; rounding is up to 1e-16 V_max p_max^degree/ħ (seen: 3e-13 and 3e-11)
    assert difference(found + mend, exact) < 1e-10
    assert difference(found - mend, exact) > 1.9 * difference(found, exact)  # and not with the other sign


def surface(x):
    return 0.5 * x[0] ** 2 + 0.7 * x[1] ** 2 + 0.3 * x[0] * x[1] ** 2 + 0.1 * x[0] ** 3


def bump(x):
    return jnp.exp(-0.6 * x[0] ** 2 - 0.4 * (x[1] - 0.2) ** 2) * (1.0 + 0.5 * x[0])


H_PLANE = {(2, 0): 0.5, (0, 2): 0.5 / 2.7, (0, 0): surface}


@pytest.mark.parametrize("power", [(0, 0), (1, 0), (1, 1), (0, 2)])
def test_lemma_4_1_holds_for_two_coordinates_of_different_mass(power):
    a = {power: bump}
    expected = apply(PLANE, poisson(PLANE, H_PLANE, a), ON_PLANE)
    assert difference(commutator(PLANE, H_PLANE, a, ON_PLANE), expected) < 1e-11


def test_lemma_4_1_in_two_coordinates_is_mended_by_the_mixed_third_derivative():
    a = {(1, 2): bump}
    exact = commutator(PLANE, H_PLANE, a, ON_PLANE)
    found = apply(PLANE, poisson(PLANE, H_PLANE, a), ON_PLANE)
    assert difference(found, exact) > 5e-3
    # ħ²/24 Σ_abc V_abc ∂_a∂_b∂_c (p₁p₂²) = ħ²/24 × 3 V₁₂₂ × 2
    mend = apply(PLANE, {(0, 0): lambda x: 0.3**2 / 24 * 3 * 0.6 * 2 * bump(x)}, ON_PLANE)
    assert difference(found + mend, exact) < 1e-11
    # the whole series: (i/ħ)(H # A − A # H)
    one, two = sharp(PLANE, H_PLANE, a), sharp(PLANE, a, H_PLANE)
    series = {k: 1j / 0.3 * (one.get(k, 0.0) - two.get(k, 0.0)) for k in {*one, *two}}
    assert difference(apply(PLANE, series, ON_PLANE), exact) < 1e-11


def test_x_sharp_p_has_the_corrected_sign():
    x, p = {(0,): lambda x: x[0]}, {(1,): 1.0}
    for sign, found in ((1, sharp(LINE, x, p)), (-1, sharp(LINE, p, x))):
        assert set(found) == {(0,), (1,)}
        np.testing.assert_allclose(found[1,][:, 0, 0], LINE.axis(0), rtol=1e-15)
        np.testing.assert_allclose(found[0,][:, 0, 0], sign * 0.5j * HBAR, rtol=1e-15)  # x#p = xp + iħ/2
    both = apply(LINE, x, apply(LINE, p, ON_LINE))
    assert difference(apply(LINE, sharp(LINE, x, p), ON_LINE), both) < 1e-13
    other = sharp(PLANE, {(0, 0): lambda x: x[1]}, {(1, 0): 1.0})  # different coordinates commute
    assert not np.any(other.get((0, 0), 0.0))


def test_poisson_bracket_is_that_of_functions():
    def value(terms, z):
        return sum(a(z[:2]) * z[2] ** k[0] * z[3] ** k[1] for k, a in terms.items())

    h = {(2, 1): bump, (0, 0): surface, (1, 0): window}
    a = {(1, 2): surface, (0, 3): window}
    at, p = 2000, jnp.array([0.7, -1.3])
    z = jnp.concatenate([PLANE.x[at], p])
    gradient = jax.jit(lambda z: (jax.grad(lambda z: value(h, z))(z), jax.grad(lambda z: value(a, z))(z)))
    dh, da = map(np.asarray, gradient(z))
    expected = dh[2:] @ da[:2] - dh[:2] @ da[2:]  # ∇_pH·∇_xA − ∇_xH·∇_pA
    found = poisson(PLANE, h, a)
    np.testing.assert_allclose(
        sum(complex(b[at, 0, 0]) * float(p[0]) ** k[0] * float(p[1]) ** k[1] for k, b in found.items()),
        expected,
        rtol=1e-13,
    )


def test_product_of_operators_is_the_operator_of_the_product():
    def turning(x):
        return jnp.asarray(SIGMA_X) * window(x) + jnp.asarray(SIGMA_Z) * jnp.exp(-2 * x[0] ** 2)

    phi = packets(LINE, [[0.0], [0.7]], [[0.5], [-0.8]], states=2)
    a = {(1,): turning, (0,): lambda x: jnp.asarray(SIGMA_Y) * window(x).astype(complex)}
    b = {(2,): lambda x: turning(1.3 * x), (1,): window}
    found, swapped = sharp(LINE, a, b), sharp(LINE, b, a)
    assert max(found) == (3,)
    exact = apply(LINE, a, apply(LINE, b, phi))
    assert difference(apply(LINE, found, phi), exact) < 1e-11  # seen: 1e-12
    assert difference(apply(LINE, swapped, phi), exact) > 0.1  # the order of the factors is kept
    # values instead of functions, differentiated by Fourier transform; and associativity
    by_values = sharp(LINE, weyl.coefficients(LINE, a), weyl.coefficients(LINE, b))
    assert difference(apply(LINE, by_values, phi), exact) < 1e-11
    c = {(1,): window}
    left, right = sharp(LINE, found, c), sharp(LINE, a, sharp(LINE, b, c))
    assert difference(apply(LINE, left, phi), apply(LINE, right, phi)) < 1e-11


def test_polynomial_operators_are_the_printed_sums_and_agree_with_their_action():
    rng = np.random.default_rng(1)
    coarse = Grid((-2.0,), (2.0,), (11,), 0.7)
    a = np.asarray(random(rng, 11, 2, 2))
    a = a + a.conj().swapaxes(1, 2)
    dft = np.fft.fft(np.eye(11))
    once = np.kron(np.linalg.solve(dft, np.diag(np.asarray(coarse.momenta(0))) @ dft), np.eye(2))
    diagonal = np.einsum("xab,xy->xayb", a, np.eye(11)).reshape(22, 22)
    for k in (1, 3):
        powers = [np.linalg.matrix_power(once, l) for l in range(k + 1)]
        expected = sum(math.comb(k, l) / 2**k * powers[l] @ diagonal @ powers[k - l] for l in range(k + 1))
        found = polynomial(coarse, {(k,): jnp.asarray(a)})
        rounding = 1e-13 * np.max(np.abs(expected))
        np.testing.assert_allclose(found, expected, atol=rounding)
        np.testing.assert_allclose(found, found.conj().T, atol=rounding)
    plane = Grid((-2.0, -1.0), (2.0, 1.0), (5, 7), 0.7)
    terms = {(1, 2): random(rng, 35, 2, 2), (2, 0): random(rng, 35), (0, 1): 0.4}
    phi = random(rng, 35, 2, 3)
    dense = np.asarray(polynomial(plane, terms)) @ np.asarray(phi).reshape(70, 3)
    assert difference(dense.reshape(35, 2, 3), apply(plane, terms, phi)) < 1e-13


def test_quantise_agrees_with_polynomials():
    # p^k has a wide kernel: the window must be narrow against half the box, e^{−2·3.8²} = 3e-13 here
    wide = Grid((-10.0,), (10.0,), (321,), HBAR)
    phi = packets(wide, [[0.0], [0.7]], [[0.5], [-0.8]])
    for degree in (1, 3):
        found = quantise(wide, lambda x, p, k=degree: jnp.exp(-2 * x[..., 0] ** 2) * p[..., 0] ** k) @ phi[:, 0, :]
        exact = apply(wide, {(degree,): lambda x: jnp.exp(-2 * x[0] ** 2)}, phi)
        assert difference(found[:, None, :], exact) < 1e-11  # seen: 2e-12
    # without a window midpoints do not matter, and the operators are equal whatever they act on
    plane = Grid((-2.0, -1.0), (2.0, 1.0), (5, 7), 0.7)
    found = quantise(plane, lambda x, p: p[..., 0] * p[..., 1] ** 2)
    exact = polynomial(plane, {(1, 2): 1.0})
    np.testing.assert_allclose(found, exact, atol=1e-14 * np.max(np.abs(exact)))


def test_momentum_cutoff_is_smooth_and_one_then_zero():
    q, delta = jnp.linspace(-3.0, 3.0, 2401), 0.8
    cutoff = jax.jit(weyl.momentum_cutoff)
    slope = jax.jit(jax.vmap(jax.grad(weyl.momentum_cutoff), (0, None)))
    z, dz, size = np.asarray(cutoff(q, delta)), np.asarray(slope(q, delta)), np.abs(np.asarray(q))
    np.testing.assert_array_equal(z[size <= 1 / delta], 1)
    np.testing.assert_array_equal(z[size >= 2 / delta], 0)
    s = 0.3  # the formula itself
    g = [math.exp(-1 / (1 - s)), math.exp(-1 / s)]
    assert float(weyl.momentum_cutoff(jnp.array((1 + s) / delta), delta)) == pytest.approx(g[0] / sum(g), rel=1e-14)
    # central differences, step²/6 times a third derivative of up to 60
    np.testing.assert_allclose(dz[1:-1], (z[2:] - z[:-2]) / (2 * 6 / 2400), atol=1e-4)
    assert np.all(dz * np.sign(np.asarray(q)) <= 0)
    edges = jnp.array([0.0, 1 / delta, 2 / delta])
    np.testing.assert_array_equal(slope(jnp.concatenate([edges, jnp.zeros(2398)]), delta), 0)
    np.testing.assert_array_equal(cutoff(q * 1e6, 0.0), 1)  # δ_p = 0: no cut-off


BOX = Grid((-1.0,), (1.0,), (5,))
FIVE, TWO, THREE = jnp.ones((5, 1, 1)), jnp.ones((5, 2, 2)), jnp.ones((5, 3, 3))
VALUES = {d: jnp.ones((5, 5, d, d)) for d in (1, 2, 3)}
BAD = [
    (lambda: weyl.polynomial_operator(BOX, {(1, 1): 1.0}), "terms", r"powers of 1 momenta"),
    (lambda: weyl.polynomial_operator(BOX, {(-1,): 1.0}), "terms", r"whole numbers from 0"),
    (lambda: weyl.polynomial_operator(BOX, {}), "terms", r"empty"),
    (lambda: weyl.polynomial_operator(BOX, {(0,): jnp.ones(4)}), "terms", r"at the 5 points"),
    (lambda: weyl.coefficients(BOX, {(0,): TWO, (1,): THREE}), "terms", r"\[2, 3\]"),
    (lambda: weyl.apply_polynomial(BOX, {(0,): TWO}, FIVE), "phi", r"2 states"),
    (lambda: weyl.quantise(BOX, jnp.ones((5, 4))), "symbol", r"\(5, 4\)"),
    (lambda: weyl.quantise(BOX, lambda x, p: x), "symbol", r"\(5, 5, 1\)"),
    (lambda: weyl.quantise(Grid((0.0,), (1.0,), (999999,)), lambda x, p: x[..., 0]), "points", r"GiB"),
    (lambda: weyl.momentum_cutoff(jnp.ones(5), -1.0), "delta_p", r"it is -1"),
    (lambda: wigner(BOX, jnp.ones((7, 7))), "operator", r"\(7, 7\)"),
    (lambda: moyal.trace_product(BOX, VALUES[2], VALUES[3]), "b", r"it has 3"),
    (lambda: moyal.moyal_product(BOX, {(0,): TWO}, {(0,): THREE}), "b", r"it has 3"),
    (lambda: sharp_of_values(BOX, VALUES[2], VALUES[1]), "b", r"it has 1"),
]


@pytest.mark.parametrize(("call", "argument", "words"), BAD)
def test_bad_input_is_refused_in_a_sentence(call, argument, words):
    with pytest.raises(InputError, match=rf"Argument `{argument}` must .*{words}"):
        call()
