"""Closures: symmetric stress, frames, entropy, and the limits they must have, at random states and random weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxmd_iz.checks import InputError
from jaxmd_iz.closures import LearnedClosure, NewtonFourier

COUNT = 200


def learned(dim: int, sigma: float = 1.5) -> LearnedClosure:
    """Weights far from the first ones, so that every term and every invariant counts."""
    closure = LearnedClosure(key=jax.random.key(dim), density=0.7, rate=0.5, gradient=2.0, viscosity=3.0, width=6)
    free, fixed = eqx.partition(closure, eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(free)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    moved = [sigma * jax.random.normal(k, a.shape) for k, a in zip(keys, leaves, strict=True)]
    return eqx.combine(jax.tree.unflatten(tree, moved), fixed)


CLOSURES = {
    "newton_fourier": lambda dim: NewtonFourier(lambda rho, t: rho * jnp.sqrt(t), 0.3, lambda rho, t: 2 + rho * t),
    "learned": learned,
}
EVERY = pytest.mark.parametrize(("name", "dim"), [(n, d) for n in CLOSURES for d in (2, 3)])


def states(dim: int):
    """Random ρ, T, ∇u, ∇T over several decades."""
    rng = np.random.default_rng(dim)
    size = 10 ** rng.uniform(-2, 1.5, (COUNT, 1))
    grad_u = rng.normal(size=(COUNT, dim, dim)) * size[:, :, None]
    return tuple(
        map(
            jnp.asarray,
            (rng.uniform(0.1, 2, COUNT), rng.uniform(0.2, 3, COUNT), grad_u, rng.normal(size=(COUNT, dim)) * size),
        )
    )


def fluxes(closure, *s):
    return jax.jit(jax.vmap(closure.fluxes))(*s)


def scaled(a, b):
    """|a − b| relative to the size of each sample."""
    axes = tuple(range(1, a.ndim))
    return jnp.max(jnp.sqrt(jnp.sum((a - b) ** 2, axes)) / (jnp.sqrt(jnp.sum(b**2, axes)) + 1e-300))


@EVERY
def test_stress_is_symmetric(name, dim):
    tau, _ = fluxes(CLOSURES[name](dim), *states(dim))
    assert scaled(tau, jnp.swapaxes(tau, 1, 2)) < 1e-15


@EVERY
def test_rotations_and_reflections_turn_the_fluxes_along(name, dim):
    closure = CLOSURES[name](dim)
    rho, t, grad_u, grad_t = states(dim)
    q, r = np.linalg.qr(np.random.default_rng(0).normal(size=(COUNT, dim, dim)))
    turn = jnp.asarray(q * np.sign(np.einsum("bii->bi", r))[:, None, :])
    assert {-1, 1} == set(np.round(np.linalg.det(turn)).astype(int))  # reflections are among them

    def turned(a):
        return jnp.einsum("bij,bjk,blk->bil", turn, a, turn)

    tau, heat = fluxes(closure, rho, t, grad_u, grad_t)
    tau_r, heat_r = fluxes(closure, rho, t, turned(grad_u), jnp.einsum("bij,bj->bi", turn, grad_t))
    # rounding: tr S°³ of the largest gradients cancels to 1e-16 · (30/0.5)³ = 2e-11, and weights amplify it
    assert scaled(tau_r, turned(tau)) < 1e-9
    assert scaled(heat_r, jnp.einsum("bij,bj->bi", turn, heat)) < 1e-9


@EVERY
def test_moving_and_spinning_frames_change_nothing(name, dim):
    """u → u + w + Wx in the field, W antisymmetric: ∇u comes from autodiff of the field."""
    closure = CLOSURES[name](dim)
    rng = np.random.default_rng(3)
    a, w, spin = (jnp.asarray(rng.normal(size=s)) for s in ((dim, dim), (dim,), (dim, dim)))
    grad_t, x = jnp.asarray(rng.normal(size=dim)), jnp.asarray(rng.normal(size=dim))
    spin = spin - spin.T

    def at(w, spin):
        def u(x):
            return jnp.sin(a @ x) + w + spin @ x

        return closure.fluxes(jnp.array(0.8), jnp.array(1.1), jax.jacfwd(u)(x).T, grad_t)

    rest, moving = at(0 * w, 0 * spin), at(100 * w, spin)
    np.testing.assert_allclose(moving[0], rest[0], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(moving[1], rest[1], rtol=1e-11, atol=1e-12)


@EVERY
def test_entropy_is_never_destroyed(name, dim):
    s = states(dim)
    production = jax.jit(jax.vmap(CLOSURES[name](dim).entropy_production))(*s)
    tau, q = fluxes(CLOSURES[name](dim), *s)
    work = jnp.sum(jnp.abs(tau * s[2]), (1, 2)) / s[1] + jnp.sum(jnp.abs(q * s[3]), 1) / s[1] ** 2
    assert jnp.min(production / work) > -1e-14
    assert jnp.median(production / work) > 0.1  # not all zero


def test_every_term_of_the_learned_form_counts():
    closure, s = learned(3), states(3)
    c = jax.vmap(closure.coefficients)(*s)
    assert c.shape == (COUNT, 5) and jnp.min(c) >= 0
    assert jnp.all(jnp.std(jnp.log(c), axis=0) > 0.1)
    for k in range(1, 4):  # each of T, ∇u, ∇T moves the coefficients
        other = [a if i != k else 1.1 * a for i, a in enumerate(s)]
        assert jnp.max(jnp.abs(jax.vmap(closure.coefficients)(*other) / c - 1)) > 1e-2


def test_learned_closure_is_newton_fourier_at_small_gradients():
    closure = learned(3)
    rho, t, grad_u, grad_t = (a[0] for a in states(3))
    eta, zeta, _, kappa, _ = closure.coefficients(rho, t, 0 * grad_u, 0 * grad_t)
    plain = NewtonFourier(eta, zeta, kappa)
    gaps = []
    for size in (1e-3, 1e-4):
        one, two = (c.fluxes(rho, t, size * grad_u, size * grad_t) for c in (closure, plain))
        gaps.append(float(jnp.linalg.norm(one[0] - two[0]) / jnp.linalg.norm(two[0])))
    assert gaps[0] < 1e-2 and 8 < gaps[0] / gaps[1] < 12  # the next term is one order higher


def test_diffusivities_are_those_of_newton_fourier():
    rho, t = jnp.array(0.8), jnp.array(1.2)
    longitudinal, conductivity = NewtonFourier(3.0, 0.5, 7.0).diffusivities(rho, t)
    np.testing.assert_allclose(longitudinal, 4 / 3 * 3.0 + 0.5)
    np.testing.assert_allclose(conductivity, 7.0)
    np.testing.assert_allclose(NewtonFourier(3.0, 0.5, 7.0).diffusivities(rho, t, 1)[0], 0.5)


def test_gradients_with_respect_to_weights_meet_finite_differences():
    closure, s = learned(2, 0.5), tuple(a[:5] * f for a, f in zip(states(2), (1, 1, 0.02, 0.02), strict=True))
    free, fixed = eqx.partition(closure, eqx.is_inexact_array)
    theta, unravel = ravel_pytree(free)

    def loss(theta):
        tau, q = jax.vmap(eqx.combine(unravel(theta), fixed).fluxes)(*s)
        return jnp.sum(jnp.sin(tau)) + jnp.sum(jnp.sin(q))

    way = jax.random.normal(jax.random.key(1), theta.shape)
    h = 1e-6
    numeric = (loss(theta + h * way) - loss(theta - h * way)) / (2 * h)
    np.testing.assert_allclose(jax.grad(loss)(theta) @ way, numeric, rtol=1e-6)
    # at vanishing gradients too, where norms have no derivative
    grads = jax.grad(lambda a: jnp.sum(closure.fluxes(s[0][0], s[1][0], a, 0 * s[3][0])[0]))(jnp.zeros((2, 2)))
    assert jnp.all(jnp.isfinite(grads))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: NewtonFourier(-1.0), "Argument `viscosity` must be zero or more, but it is -1"),
        (lambda: NewtonFourier(1.0, conductivity=-2.0), "`conductivity`"),
        (lambda: LearnedClosure(key=jax.random.key(0), rate=0.0), "Argument `rate` must be positive, but it is 0"),
    ],
)
def test_bad_input_is_named(make, says):
    with pytest.raises(InputError, match=says):
        make()
