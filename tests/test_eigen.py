"""Batched small eigenproblems at every gap, perturbation theory, and smooth functions through exact crossings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import eigen

STEP = 2e-3


def rounding(d, dtype):
    """4 d ε: what d² operations on numbers of size 1 leave, with a factor of two to spare over the largest seen."""
    return 4 * d * float(np.finfo(dtype).eps)


def hermitian(rng, *shape, dtype=float):
    a = rng.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.normal(size=shape)
    return (a + a.conj().swapaxes(-1, -2)) / 2


def matrices(d, dtype, count=60):
    """Hermitian matrices with gaps from 1 to 1e-17 and 0: random, symmetric, graded, near and at multiples of I."""
    rng = np.random.default_rng(d)
    random = hermitian(rng, count, d, d, dtype=dtype)
    frames = np.linalg.eigh(random)[1]
    gaps = np.cumsum(10.0 ** rng.uniform(-17, 0, (count, d)), axis=1)
    pair = np.concatenate([gaps[:, :1] * 0, gaps[:, :1], rng.normal(size=(count, d))], axis=1)[:, :d]
    levels = np.concatenate([1 + gaps, gaps, pair, np.eye(d)[rng.integers(0, d, count)], -np.eye(d)])
    frames = np.concatenate([frames] * 4 + [frames[:d]])
    near = (frames * levels[:, None, :]) @ frames.conj().swapaxes(1, 2)
    near = (near + near.conj().swapaxes(1, 2)) / 2
    whole = np.round(2 * random)
    one, ones = np.eye(d)[None], np.ones((1, d, d))
    symmetric = rng.normal(size=(count, 1, 1)) * one + rng.normal(size=(count, 1, 1)) * ones
    graded = random * 10.0 ** -(rng.uniform(0, 30, (count, 1, d)) + np.arange(d)[:, None])
    graded = np.triu(graded) + np.triu(graded, 1).conj().swapaxes(1, 2)
    exact = np.concatenate([0 * one, 0.1 * one, -3 * one, np.diag(np.arange(d) // 2 * 1.0)[None], ones])
    star = np.zeros_like(random)  # one level coupled to a multiple one
    star[:, 0], star[:, :, 0] = 1e-9 * random[:, 0], 1e-9 * random[:, :, 0]
    star[:, 0, 0] = 1.0
    scale = 1e150 if dtype in ("f8", "c16") else 1e18
    scaled = np.concatenate([random * scale, random / scale])
    every = (
        random,
        near,
        whole,
        0.1 * whole + 1e-16 * random,
        symmetric,
        graded,
        one + 1e-16 * whole,
        exact,
        star,
        scaled,
    )
    return jnp.asarray(np.concatenate(every), dtype)


solve = jax.jit(eigen.eigh)
DOUBLE = [(d, dtype) for d in (2, 3, 4) for dtype in ("f8", "c16")]
KINDS = [*DOUBLE, (1, "f8"), (6, "c16"), (2, "f4"), (3, "c8")]


@pytest.mark.parametrize(("d", "dtype"), KINDS)
def test_eigenpairs_are_exact_to_rounding_at_every_gap(d, dtype):
    v = matrices(d, dtype)
    energies, psi = solve(v)
    assert energies.dtype == np.finfo(dtype).dtype and psi.dtype == v.dtype
    wide = "c16" if np.dtype(dtype).kind == "c" else "f8"
    v, energies, psi = np.asarray(v, wide), np.asarray(energies, float), np.asarray(psi, wide)
    size = np.max(np.abs(v), axis=(1, 2))
    size = np.where(size == 0, 1.0, size)[:, None]
    v, energies = v / size[:, :, None], energies / size
    norm = np.max(np.abs(np.linalg.eigvalsh(v)), axis=1)
    norm = np.where(norm == 0, 1.0, norm)
    small = rounding(d, dtype)
    residual = np.linalg.norm(v @ psi - psi * energies[:, None, :], axis=1)
    assert np.max(residual / norm[:, None]) <= small
    assert np.max(np.abs(psi.conj().swapaxes(1, 2) @ psi - np.eye(d))) <= small
    assert np.all(np.diff(energies, axis=1) >= 0)
    assert np.max(np.abs(energies - np.linalg.eigvalsh(v)) / norm[:, None]) <= small


def test_two_real_states_turn_by_half_the_mixing_angle():
    v = matrices(2, "f8")
    psi, v = np.asarray(solve(v)[1]), np.asarray(v)
    off, half = v[:, 0, 1] + 0.0, (v[:, 0, 0] - v[:, 1, 1]) / 2  # +0 where it is −0
    alpha = np.where((off == 0) & (half == 0), 0.0, np.arctan2(off, half))
    c, s = np.cos(alpha / 2), np.sin(alpha / 2)
    np.testing.assert_allclose(psi, np.stack([np.stack([-s, c]), np.stack([c, s])]).transpose(2, 1, 0), atol=1e-15)


# --- perturbation theory ------------------------------------------------------------------------------------------


def slope(f, h=STEP):
    """f′(0) by differences of fourth order: of order h⁴ = 2e-11 and 1e-15/h."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def curve(d, dtype, seed=7):
    """Coefficients of a path V(t) = V₀ + t V₁ + t² V₂ with gaps of order 1 at t = 0."""
    a, b, c = hermitian(np.random.default_rng(seed), 3, d, d, dtype=dtype)
    return np.diag(np.arange(1.0, d + 1)) + 0.2 * a, b, c


@pytest.mark.parametrize(("d", "dtype"), [(2, "f8"), (2, "c16"), (3, "c16"), (5, "f8")])
def test_derivatives_are_those_of_perturbation_theory(d, dtype):
    v0, v1, v2 = curve(d, dtype)
    probe = np.random.default_rng(1).normal(size=d)
    skew = np.triu(np.ones((d, d)), 1) - np.tril(np.ones((d, d)), -1)  # no part of a Hermitian matrix

    def path(t):
        t = t.astype(v0.dtype)
        return jnp.asarray(v0) + jnp.asarray(v1 + skew) * t + jnp.asarray(v2) * t * t

    def scalar(t):  # of one level, and independent of phases
        energies, psi = eigen.eigh(path(t))
        return energies[0] + jnp.sum(jnp.abs(jnp.asarray(probe, psi.dtype) @ psi[:, 1]) ** 2)

    @jax.jit
    def everything(t):
        forward = jax.vmap(lambda t: jax.jvp(lambda t: eigen.eigh(path(t)), (t,), (jnp.ones(()),)))(t)
        return *forward, jax.vmap(jax.value_and_grad(scalar))(t), jax.vmap(jax.jacfwd(jax.jacrev(scalar)))(t)

    (_, psi), (d_energies, d_psi), (_, first), second = jax.tree.map(np.asarray, everything(jnp.zeros(2)))

    def exact(t):
        values, vectors = np.linalg.eigh(v0 + t * v1 + t * t * v2)
        overlap = np.einsum("ik,ik->k", psi[0].conj(), vectors)  # parallel transport to second order
        return values, vectors * (overlap.conj() / np.abs(overlap))

    def of(t):
        values, vectors = exact(t)
        return values[0] + np.abs(probe @ vectors[:, 1]) ** 2

    np.testing.assert_allclose(d_energies[0], slope(lambda t: exact(t)[0]), atol=1e-9)
    np.testing.assert_allclose(d_psi[0], slope(lambda t: exact(t)[1]), atol=1e-9)
    assert np.max(np.abs(np.einsum("ik,ik->k", psi[0].conj(), d_psi[0]))) <= 1e-14  # no turn of the phase
    np.testing.assert_allclose(first[1], slope(of), atol=1e-9)
    np.testing.assert_allclose(second[1], slope(lambda s: slope(lambda t: of(s + t))), atol=1e-7)  # 1e-15/h²


def test_sums_over_states_have_their_derivative_at_a_crossing():
    frame = np.linalg.eigh(hermitian(np.random.default_rng(3), 3, 3, dtype=complex))[1]
    crossing = [np.eye(3), np.diag([1.0, 1.0, 2.0]), (frame * [2.0, 2.0, 1.0]) @ frame.conj().T]
    v = jnp.asarray(np.array([*crossing, np.diag([1.0, 1.0 + 1e-15, 3.0])]))

    def total(v):
        return jnp.sum(jnp.exp(-eigen.eigh(v)[0]))

    @jax.jit
    def both(v, dv):
        energies, psi = eigen.eigh(v)
        d_psi = jax.jvp(lambda v: eigen.eigh(v)[1], (v,), (dv,))[1]
        return energies, psi, d_psi, jax.vmap(jax.grad(total))(v), eigen.degenerate(energies)

    dv = hermitian(np.random.default_rng(4), 4, 3, 3, dtype=complex)
    energies, psi, d_psi, gradient, flag = map(np.asarray, both(v, jnp.asarray(dv)))
    boltzmann = (psi * np.exp(-energies)[:, None, :]) @ psi.conj().swapaxes(1, 2)
    np.testing.assert_allclose(gradient, -boltzmann.conj(), atol=1e-14)  # d Tr e^{−V} = −Tr(e^{−V} dV)
    assert flag.tolist() == [[True] * 3, [True, True, False], [False, True, True], [True, True, False]]
    # the third level leaves the plane at the rate of the gap to it, whatever Ψ is in the plane
    mixing = np.einsum("nil,nij,njk->nlk", psi.conj(), dv, psi)
    outside = np.einsum("nil,nij->nlj", psi.conj(), d_psi)
    np.testing.assert_allclose(outside[1, 2, :2], -mixing[1, 2, :2], atol=1e-14)
    assert np.max(np.abs(outside[[1, 3], 0, 1])) <= 1e-14 and np.max(np.abs(outside[0])) <= 1e-14


def test_degenerate_levels_are_those_within_the_tolerance():
    energies = jnp.array([[0.0, 1.0, 1.0 + 1e-6], [-1.0, 0.0, 1e-16], [0.0, 0.0, 0.0]])
    assert eigen.degenerate(energies).tolist() == [[False] * 3, [False, True, True], [True] * 3]
    assert eigen.degenerate(energies[0], tolerance=1e-5).tolist() == [False, True, True]
    assert not eigen.degenerate(jnp.zeros(1))


def test_coupling_is_zero_between_equal_levels():
    energies, psi = jnp.array([1.0, 1.0, 3.0]), jnp.eye(3)
    d = eigen.coupling(energies, psi, jnp.arange(18.0).reshape(2, 3, 3))
    np.testing.assert_array_equal(d[0], [[0, 0, 1.0], [0, 0, 2.5], [-3.0, -3.5, 0]])
    assert not jnp.any(d[:, 0, 1]) and not jnp.any(d[:, 1, 0])


# --- smooth functions of a matrix ---------------------------------------------------------------------------------


def test_free_energy_has_two_derivatives_at_crossings():
    rng = np.random.default_rng(5)
    frame = np.linalg.eigh(hermitian(rng, 3, 3, dtype=complex))[1]
    levels = np.array([[0.3, 0.3, 1.0], [0.0, 0.0, 0.0], [0.3, 0.7, 2.0]])
    starts = (frame * levels[:, None, :]) @ frame.conj().T
    a, b = hermitian(rng, 2, 3, 3, dtype=complex)

    def f(z, v0):
        c = z.astype(complex)
        return eigen.free_energy(v0 + jnp.asarray(a) * c[0] + jnp.asarray(b) * c[1], z[2])

    def exact(z, v0):
        values = np.linalg.eigvalsh(v0 + z[0] * a + z[1] * b)
        return -z[2] * np.log(np.sum(np.exp(-values / z[2])))

    z, unit = np.array([0.0, 0.0, 0.6]), np.eye(3)
    both = jax.vmap(lambda z, v0: (jax.value_and_grad(jax.jit(f))(z, v0), jax.hessian(f)(z, v0)), (None, 0))
    (values, gradients), hessians = jax.tree.map(np.asarray, jax.jit(both)(jnp.asarray(z), jnp.asarray(starts)))
    for v0, value, gradient, hessian in zip(starts, values, gradients, hessians, strict=True):
        np.testing.assert_allclose(value, exact(z, v0), rtol=1e-14)
        for i, d in enumerate(unit):
            np.testing.assert_allclose(gradient[i], slope(lambda t, d=d, v0=v0: exact(z + t * d, v0)), atol=1e-9)
            for j, e in enumerate(unit):
                s = slope(lambda s, d=d, e=e, v0=v0: slope(lambda t: exact(z + s * d + t * e, v0)))
                np.testing.assert_allclose(hessian[i, j], s, atol=1e-7)  # h⁴ times sixth derivatives, and 1e-15/h²


def test_free_energy_is_the_lowest_level_when_it_is_cold():
    v = jnp.array([[1e4, 1.0], [1.0, -1e4]])
    value_and_gradient = jax.jit(jax.value_and_grad(eigen.free_energy, (0, 1)))
    value, (rho, minus_entropy) = value_and_gradient(v, 1e-3)
    energies, psi = solve(v)
    np.testing.assert_allclose(value, energies[0], rtol=1e-15)
    np.testing.assert_allclose(rho, jnp.outer(psi[:, 0], psi[:, 0]), atol=1e-15)
    assert minus_entropy == 0.0
    _, (rho, minus_entropy) = value_and_gradient(v, 1e9)
    np.testing.assert_allclose(rho, jnp.eye(2) / 2, atol=1e-5)  # |V|/2T
    np.testing.assert_allclose(minus_entropy, -np.log(2), rtol=1e-9)  # (|V|/T)²
    np.testing.assert_allclose(eigen.density_matrix(v, 1e9), rho, atol=1e-15)


def test_inverse_square_root_has_every_derivative_at_equal_eigenvalues():
    rng = np.random.default_rng(6)
    s0 = np.diag([0.5, 0.5, 0.5, 2.0, 2.0])
    a, b = 0.1 * hermitian(rng, 2, 5, 5)

    def f(z):
        return eigen.inverse_sqrt(jnp.asarray(s0) + jnp.asarray(a) * z[0] + jnp.asarray(b) * z[1])

    def exact(z):
        values, vectors = np.linalg.eigh(s0 + a * z[0] + b * z[1])
        return (vectors / np.sqrt(values)) @ vectors.T

    def through_a_loop(z):  # reverse mode through a scan
        return jax.lax.scan(lambda carry, w: (carry + f(w)[0, 1], None), jnp.zeros(()), jnp.stack([z, 2 * z]))[0]

    @jax.jit
    def everything(z):
        return f(z), jax.jacfwd(f)(z), jax.jacfwd(jax.jacrev(f))(z), jax.grad(through_a_loop)(z)

    x, first, second, looped = map(np.asarray, everything(jnp.zeros(2)))
    unit, z = np.eye(2), np.zeros(2)
    np.testing.assert_allclose(x @ s0 @ x, np.eye(5), atol=1e-14)
    for i, d in enumerate(unit):
        np.testing.assert_allclose(first[..., i], slope(lambda t, d=d: exact(z + t * d)), atol=1e-9)
        for j, e in enumerate(unit):
            expected = slope(lambda s, d=d, e=e: slope(lambda t: exact(z + s * d + t * e)))
            np.testing.assert_allclose(second[..., i, j], expected, atol=1e-7)
    np.testing.assert_allclose(looped, 3 * first[0, 1], atol=1e-14)


@pytest.mark.parametrize("together", [False, True], ids=["by vmap", "at once"])
def test_large_matrices_go_to_lapack_one_by_one(together):
    """Batches of LAPACK on two devices, or two of them in one program, can wait for each other for ever."""
    v = jnp.asarray(hermitian(np.random.default_rng(5), 6, 7, 7))
    function = eigen.eigh if together else jax.vmap(eigen.eigh)
    text = jax.jit(function).lower(v).as_text()
    called = [line for line in text.splitlines() if "lapack_dsyevd" in line]
    assert called
    assert all("tensor<7x7xf64>" in line and "tensor<6x" not in line for line in called)
    levels, psi = function(v)
    np.testing.assert_allclose(psi * levels[:, None, :] @ jnp.swapaxes(psi, 1, 2), v, atol=1e-13)
