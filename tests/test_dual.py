"""The dual of the matching problem: its value, gradient and Hessian against automatic derivatives and differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import dual
from jaxmd_iz.dual import Configurations


def small(alive):
    """Twelve configurations of four slots in two dimensions, two states and three points, any θ and reference."""
    rng = np.random.default_rng(2)
    shares = rng.random((12, 4, 3))
    shares /= shares.sum(axis=2, keepdims=True)
    slots = jnp.asarray(1.0 - alive * (rng.random((12, 4)) < 0.3))
    samples = Configurations(jnp.asarray(shares), jnp.asarray(rng.normal(size=(12, 2, 4))), slots)
    rows = rng.normal(size=(3, 4)) * 0.5
    rows[:, 0] = 1 + rng.random(3)
    return samples, jnp.asarray(rows), jnp.asarray(rng.random(4) + 0.5), jnp.asarray(rng.normal(size=12))


@eqx.filter_jit
def by_hand_and_automatic(flat, samples, masses, reference):
    """The estimate, and log Z, its gradient and its Hessian by automatic derivatives of the definition."""

    def log_z(flat):
        log_g = dual.log_densities(flat.reshape(3, 4), samples, 0.7, masses)
        return jax.nn.logsumexp(log_g - reference) - jnp.log(12.0)

    found = dual.estimate(flat.reshape(3, 4), samples, 0.7, masses, reference)
    return found, log_z(flat), jax.grad(log_z)(flat), jax.hessian(log_z)(flat)


@pytest.mark.parametrize("alive", [False, True])
def test_gradient_and_hessian_of_the_dual(alive):
    """Automatic derivatives of log Z to rounding, and differences; convex, with one null shift if N is fixed."""
    samples, rows, masses, reference = small(alive)
    flat = rows.ravel()
    found, value, gradient, hessian = by_hand_and_automatic(flat, samples, masses, reference)
    np.testing.assert_allclose(found.log_ratio, value, rtol=1e-13)
    np.testing.assert_allclose(found.mean, gradient, rtol=0, atol=1e-13 * np.max(np.abs(gradient)))
    np.testing.assert_allclose(found.hessian, hessian, rtol=0, atol=1e-12 * np.max(np.abs(hessian)))
    way = jnp.asarray(np.random.default_rng(3).normal(size=flat.size))
    f = [by_hand_and_automatic(flat + s * 1e-3 * way, samples, masses, reference)[1] for s in (-2, -1, 1, 2)]
    along = (8 * (f[2] - f[1]) - (f[3] - f[0])) / 12e-3
    assert abs(along - way @ gradient) < 1e-8 * np.linalg.norm(gradient)  # h⁴
    w = np.asarray(dual.whitening(found.hessian, 4, jnp.asarray(1e-8)))
    assert np.sum(np.all(w == 0, axis=0)) == (0 if alive else 1)
    assert np.min(np.linalg.eigvalsh(hessian)) > (1e-4 if alive else -1e-12) * np.max(np.abs(hessian))
    shift = np.tile([0.0, 0.0, 0.0, 1.0], 3)
    assert (np.max(np.abs(hessian @ shift)) < 1e-12 * np.max(np.abs(hessian))) == (not alive)
    assert np.max(np.abs(w.T @ np.asarray(hessian) @ w - np.diag(np.any(w != 0, axis=0)))) < 1e-9
