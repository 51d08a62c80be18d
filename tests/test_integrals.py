"""Integrals of s-type Gaussians: the Boys function and its softened form, and each integral against quadrature."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from jaxmd_iz.checks import InputError
from jaxmd_iz.orbitals import atomic_number, basis_data, even_tempered, molecule
from jaxmd_iz.orbitals import integrals as si
from jaxmd_iz.orbitals.basis import EVEN_TEMPERED, STO_3G

T = np.concatenate([[0.0], np.logspace(-12, np.log10(50), 300), np.linspace(0.3, 8.0, 300)])
BOYS = jax.jit(si.boys, static_argnums=0)
SOFT = jax.jit(si.soft_boys, static_argnums=(0, 1))
NODES, WEIGHTS = np.polynomial.legendre.leggauss(80)  # exact to rounding for exp(−50u²) on [0, 1]


@pytest.mark.parametrize("m", range(6))
def test_boys_function_is_accurate_to_rounding(m):
    u = (NODES + 1) / 2
    exact = np.exp(-np.outer(T, u**2)) * u ** (2 * m) @ WEIGHTS / 2
    # sums of 80 terms of size 1/80: the reference itself carries a few 1e-16
    np.testing.assert_allclose(BOYS(m, jnp.asarray(T)), exact, rtol=0, atol=1e-15)
    far = np.array([60.0, 1e3, 1e6, 1e12])  # ∫₀¹ is ∫₀^∞ = ½Γ(m+½)/t^{m+½} to e⁻⁶⁰
    np.testing.assert_allclose(
        BOYS(m, jnp.asarray(far)), math.gamma(m + 0.5) / (2 * far ** (m + 0.5)), rtol=1e-14, atol=0
    )


def test_boys_derivatives_step_the_order():
    third = jax.jit(jax.vmap(jax.grad(jax.grad(jax.grad(lambda t: si.boys(1, t))))))
    t = jnp.asarray([0.0, 0.3, 2.7, 30.0])
    np.testing.assert_array_equal(third(t), -BOYS(4, t))
    low = jnp.asarray(T, jnp.float32)
    assert BOYS(0, low).dtype == jnp.float32
    np.testing.assert_allclose(BOYS(0, low), BOYS(0, jnp.asarray(T)), rtol=0, atol=3e-7)  # rounding of float32


def softened(m, j, t, d):
    """G_mj by Gauss–Legendre on intervals halved towards both ends."""
    total = 0.0
    for k in range(60):
        half = 0.5 ** (k + 2)
        u = half * (NODES + 3)  # from 2^{−k−1} to 2^{−k}; u/2 in the left half of [0, 1], 1 − u/2 in the right half
        for v, rest in ((u / 2, 1 - (u / 2) ** 2), (1 - u / 2, u / 2 * (2 - u / 2))):
            total += WEIGHTS @ (v ** (2 * m) / rest**j * np.exp(-t * v**2 - d * v**2 / rest)) * half / 2
    return total


GRID = [(t, d) for t in (0.0, 0.4, 7.0, 39.0, 42.0, 500.0, 1e4) for d in (1e-10, 1e-8, 1e-5, 1e-2, 1.0, 35.0)]


@pytest.mark.parametrize(("m", "j", "least", "error"), [(0, 0, 0, 3e-13), (2, 0, 0, 3e-13), (1, 1, 1e-6, 1e-6)])
def test_softened_boys_function_is_accurate(m, j, least, error):
    cases = [(t, d) for t, d in GRID if d > least]
    t, d = map(np.array, zip(*cases, strict=True))
    exact = [softened(m, j, *case) for case in cases]
    np.testing.assert_allclose(SOFT(m, j, jnp.asarray(t), jnp.asarray(d)), exact, rtol=0, atol=error)


def test_softened_boys_function_tends_to_boys():
    t = jnp.asarray([0.0, 0.4, 7.0, 39.0, 500.0])
    for d in (1e-4, 1e-7, 1e-10):
        gap = BOYS(0, t) - SOFT(0, 0, t, jnp.full_like(t, d))
        assert jnp.all(gap > -1e-13)
        assert jnp.max(gap) < d * math.log(1 / d)  # the layer at u = 1 gives ½ d log(1/d)


def test_softened_derivatives_are_those_of_the_integral():
    t, d, h = jnp.asarray([0.4, 7.0, 39.5]), jnp.asarray([0.03, 0.5, 2.0]), 1e-4
    for along in ((1.0, 0.0), (0.0, 1.0)):
        f = jax.jit(lambda s, a=along: si.soft_boys(0, 0, t + s * a[0], d + s * a[1]))
        _, slope = jax.jit(lambda f=f: jax.jvp(f, (0.0,), (1.0,)))()
        exact = (f(-2 * h) - 8 * f(-h) + 8 * f(h) - f(2 * h)) / (12 * h)
        np.testing.assert_allclose(slope, exact, rtol=0, atol=1e-9)  # 1e-13/h, of a rule good to 1e-13


@pytest.mark.parametrize("delta", [0.0, 1e-3, 1.0])
def test_mean_interaction_is_the_average_over_a_gaussian(delta):
    s, r = 0.7, 1.3

    def shell(q):  # the mean of g over a sphere of radius q, by hand
        mean = (math.sqrt((r + q) ** 2 + delta) - math.sqrt((r - q) ** 2 + delta)) / (2 * r * q)
        return 4 * math.pi * q * q * (s / math.pi) ** 1.5 * math.exp(-s * q * q) * mean

    exact = sum(quad(shell, *ends, epsabs=1e-13, epsrel=1e-13, limit=200)[0] for ends in ((1e-14, r), (r, 12.0)))
    softening = jnp.asarray(delta) if delta else None
    assert abs(float(si.mean_interaction(jnp.asarray(s), jnp.asarray(r * r), softening)) - exact) < 1e-12


def test_one_electron_integrals_match_quadrature():
    x, w = np.polynomial.hermite.hermgauss(12)  # exact for polynomials times the Gaussian
    a, b, one, other = 0.6, 1.1, np.array([0.1, -0.3, 0.4]), np.array([0.7, 0.2, -0.5])
    p = a + b
    grid = np.stack(np.meshgrid(x, x, x, indexing="ij"), -1).reshape(-1, 3) / math.sqrt(p) + (a * one + b * other) / p
    weight = (w[:, None, None] * w[None, :, None] * w[None, None, :]).ravel() / p**1.5
    weight = weight * math.exp(-a * b / p * np.sum((one - other) ** 2))
    pair = si.products(jnp.asarray(one[None]), jnp.asarray(other[None]), np.array([a]), np.array([b]))
    away, origin = np.sum((grid - other) ** 2, axis=1), np.array([0.3, 0.3, 0.9])
    checks = (
        (pair.overlap, weight.sum()),
        (si.kinetic(pair), weight @ (3 * b - 2 * b * b * away)),  # −½Δ exp(−b r²) = (3b − 2b²r²) exp(−b r²)
        (si.second_moment(pair, jnp.asarray(origin)), weight @ np.sum((grid - origin) ** 2, axis=1)),
        (si.moved_overlap(pair), (weight @ (2 * b * (grid - other)))[None]),
    )
    for value, exact in checks:
        np.testing.assert_allclose(value, np.broadcast_to(exact, value.shape), rtol=0, atol=1e-13)  # rounding


@pytest.mark.parametrize("data", [STO_3G, EVEN_TEMPERED])
def test_orbitals_are_normalised(data):
    basis = molecule((3, 1, 2), data)
    x = jnp.asarray([[0.0, 0.0, 0.0], [0.0, 0.3, 2.0], [1.5, 0.0, -1.0]])
    a, b = basis.exponents[basis.pairs]
    s = basis.contract(si.products(basis.left @ x, basis.right @ x, a, b).overlap)
    np.testing.assert_allclose(jnp.diag(s), 1.0, rtol=0, atol=1e-14)
    assert jnp.linalg.eigvalsh(s)[0] > 1e-3  # no linear dependence worth naming
    np.testing.assert_array_equal(s, s.T)


def test_basis_input_is_read_or_refused():
    assert basis_data("sto-3g") == STO_3G
    assert basis_data({"H": [[(1.0, 1.0)]]}) == ((1, (((1.0, 1.0),),)),)
    assert even_tempered({"He": (0.5, 2.0, 3)}) == ((2, (((0.5, 1.0),), ((1.0, 1.0),), ((2.0, 1.0),))),)
    for bad, says in (
        (lambda: basis_data("sto-4g"), "Did you mean `sto-3g`"),
        (lambda: basis_data({"H": [1.0]}), "must map elements to lists of shells"),
        (lambda: basis_data({"H": [[(-1.0, 1.0)]]}), "must hold shells with positive exponents"),
        (lambda: even_tempered({"H": (0.1, 0.9, 3)}), "but it is (0.1, 0.9, 3)"),
        (lambda: atomic_number("Hy"), "`charges` must be one of"),
        (lambda: atomic_number(0), "but one is 0"),
        (lambda: molecule((1, 6), STO_3G), "be elements that the basis holds (H, He, Li), but one is 6"),
    ):
        with pytest.raises(InputError) as error:
            bad()
        assert says in str(error.value)
