"""Integrals of s-type Gaussians exp(−a|x̄ − A|²), differentiable to any order in the positions of their centres.

The interaction is g(r) = 1/√(r² + δ_a), the regularised Coulomb interaction of section 2.2.3 of the paper: with it
the terms of (2.8) need one function of exponent and distance, the average of g over a normalised Gaussian.
"""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

REACH = 40.0  # e^−REACH is below rounding: where the integrand of `soft_boys` is cut
STRETCH, STEP, NODES = 2.0, 0.04, 67  # its rule: v = STRETCH sinh(STEP k), k = 0 … NODES, so v ≤ 14.5


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def boys(m: int, t: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """The Boys function F_m(t) = ∫₀¹ u²ᵐ exp(−t u²) du, with F_m′ = −F_{m+1}.

    Below t = m + ½ the series e⁻ᵗ Σ_i (2t)ⁱ/((2m+1)(2m+3)…(2m+2i+1)), all of whose terms are positive; above,
    F₀ = ½√(π/t) erf √t and F_{k+1} = ((2k+1)F_k − e⁻ᵗ)/2t, whose errors shrink there. Good to 1e-15.

    Args:
        m: order, 0 or more.
        t: arguments, 0 or more.

    Returns:
        F_m, in the dtype of t.
    """
    small = t < m + 0.5
    low, high = jnp.where(small, t, 0.0), jnp.where(small, m + 0.5, t)
    series = jnp.zeros_like(t)
    for i in reversed(range(20 + 3 * m)):
        series = (1.0 + series * 2.0 * low) / (2 * m + 2 * i + 1)
    upward, decay = 0.5 * jnp.sqrt(math.pi / high) * jax.lax.erf(jnp.sqrt(high)), jnp.exp(-high)
    for k in range(m):
        upward = ((2 * k + 1) * upward - decay) / (2.0 * high)
    return jnp.where(small, jnp.exp(-low) * series, upward)


@boys.defjvp
def _boys_jvp(m, primals, tangents):
    (t,), (dt,) = primals, tangents
    return boys(m, t), -boys(m + 1, t) * dt


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def soft_boys(m: int, j: int, t: Float[Array, "*b"], d: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """G_mj(t, d) = ∫₀¹ u²ᵐ (1 − u²)⁻ʲ exp(−t u² − d u²/(1 − u²)) du, which tends to F_m(t) as d → 0 for j = 0.

    With u = √c tanh v and v = a sinh w the trapezoidal rule in w resolves both the peak at u = 0 and the layer of
    width d at u = 1; c = min(1, 40/(t + d)) cuts what is below rounding. Good to 1e-13 for j = 0, d ≤ 40; for j = 1,
    the derivative in d, to 1e-6 for d ≥ 1e-5. ∂_t G_mj = −G_{m+1,j}, ∂_d G_mj = −G_{m+1,j+1}.

    Args:
        m: power of u², 0 or more.
        j: power of 1/(1 − u²), 0 or more.
        t: arguments, 0 or more.
        d: softness, positive, of the same shape.

    Returns:
        G_mj, in the dtype of t.
    """
    w = STEP * np.arange(NODES + 1)
    v, slope = STRETCH * np.sinh(w), STRETCH * np.cosh(w)
    slope[0] /= 2  # the integrand is even
    rest = 1 / np.cosh(v) ** 2  # 1 − tanh²
    one = (1,) * t.ndim + (-1,)
    square, rest, weight = (jnp.asarray(q.reshape(one), t.dtype) for q in (np.tanh(v) ** 2, rest, STEP * slope * rest))
    cut = jnp.minimum(1.0, REACH / jnp.maximum(t + d, 1.0))[..., None]
    square, rest = cut * square, (1.0 - cut) + cut * rest  # u² and 1 − u²
    power = square**m / rest**j if m or j else 1.0
    value = weight * power * jnp.exp(-square * (t[..., None] + d[..., None] / rest))
    return jnp.sqrt(cut[..., 0]) * jnp.sum(value, axis=-1)


@functools.partial(soft_boys.defjvp, symbolic_zeros=True)
def _soft_boys_jvp(m, j, primals, tangents):
    (t, d), (dt, dd) = primals, tangents
    slope = jnp.zeros_like(t)
    if not isinstance(dt, SymbolicZero):
        slope = slope - soft_boys(m + 1, j, t, d) * dt
    if not isinstance(dd, SymbolicZero):
        slope = slope - soft_boys(m + 1, j + 1, t, d) * dd
    return soft_boys(m, j, t, d), slope


def interaction(r2: Float[Array, "*b"], softening: Float[Array, ""] | None) -> Float[Array, "*b"]:
    """g(r) = 1/√(r² + δ_a) from r²; `softening` is δ_a, None for Coulomb."""
    return jax.lax.rsqrt(r2 if softening is None else r2 + softening)


def mean_interaction(
    exponent: Float[Array, "*b"], r2: Float[Array, "*b"], softening: Float[Array, ""] | None
) -> Float[Array, "*b"]:
    """The average of g over the normalised Gaussian (s/π)^{3/2} exp(−s|x̄ − P|²), seen from distance R of P.

    2√(s/π) F₀(sR²) for Coulomb; 2√(s/π) ∫₀¹ exp(−sR²u² − δ_a s u²/(1 − u²)) du for δ_a > 0.

    Args:
        exponent: s, in bohr⁻².
        r2: R², in bohr², of the same shape.
        softening: δ_a in bohr², None for Coulomb.

    Returns:
        The average, in bohr⁻¹.
    """
    scale = 2.0 * jnp.sqrt(exponent / math.pi)
    if softening is None:
        return scale * boys(0, exponent * r2)
    return scale * soft_boys(0, 0, exponent * r2, exponent * softening)


class Products(eqx.Module):
    """Products of two Gaussians: `overlap` times a normalised Gaussian of exponent p = a + b about P."""

    exponent: Float[Array, " Q"]  # p
    reduced: Float[Array, " Q"]  # μ = ab/p
    apart: Float[Array, "Q D"]  # A − B
    centre: Float[Array, "Q D"]  # P = (aA + bB)/p
    overlap: Float[Array, " Q"]  # (π/p)^{3/2} exp(−μ|A − B|²)


def products(one: Float[Array, "Q D"], other: Float[Array, "Q D"], a: np.ndarray, b: np.ndarray) -> Products:
    """The products of exp(−a|x̄ − A|²) and exp(−b|x̄ − B|²).

    Args:
        one: (Q, 3) centres A, in bohr.
        other: (Q, 3) centres B.
        a: (Q,) exponents, in bohr⁻².
        b: (Q,) exponents.

    Returns:
        Q products.
    """
    p, reduced, towards = (jnp.asarray(v, one.dtype) for v in (a + b, a * b / (a + b), b / (a + b)))
    apart = one - other
    overlap = (math.pi / p) ** 1.5 * jnp.exp(-reduced * jnp.sum(apart**2, axis=-1))
    return Products(p, reduced, apart, one - towards[:, None] * apart, overlap)


def moved_overlap(pair: Products) -> Float[Array, "Q D"]:
    """⟨χ_a, ∇_B χ_b⟩ = 2μ(A − B)S, the derivative of an overlap with the second centre."""
    return (2.0 * pair.reduced * pair.overlap)[:, None] * pair.apart


def kinetic(pair: Products) -> Float[Array, " Q"]:
    """⟨χ_a, −½Δ χ_b⟩ = μ(3 − 2μ|A − B|²)S."""
    return pair.reduced * (3.0 - 2.0 * pair.reduced * jnp.sum(pair.apart**2, axis=-1)) * pair.overlap


def coulomb(
    pair: Products, x: Float[Array, "n D"], softening: Float[Array, ""] | None
) -> tuple[Float[Array, "n Q"], Float[Array, "Q Q"]]:
    """The attraction ⟨χ_a, g(|xⁿ − x̄|) χ_b⟩ of every nucleus and the repulsion ⟨χ_aχ_c, g(|x̄¹ − x̄²|) χ_bχ_d⟩.

    Two Gaussians p and q meet as one of exponent pq/(p + q), a Gaussian and a nucleus as p: one evaluation for both.

    Args:
        pair: Q products.
        x: (n, 3) nuclei, in bohr.
        softening: δ_a in bohr², None for Coulomb.

    Returns:
        attraction (n, Q) for unit charges, repulsion (Q, Q), in hartree.
    """
    p, n = pair.exponent, x.shape[0]
    reduced = p[:, None] * p[None, :] / (p[:, None] + p[None, :])
    reduced = jnp.concatenate([jnp.broadcast_to(p[None, :], (n, p.shape[0])), reduced])
    apart = jnp.concatenate([x, pair.centre])[:, None, :] - pair.centre[None, :, :]
    mean = pair.overlap[None, :] * mean_interaction(reduced, jnp.sum(apart**2, axis=-1), softening)
    return mean[:n], pair.overlap[:, None] * mean[n:]


def second_moment(pair: Products, origin: Float[Array, " D"]) -> Float[Array, " Q"]:
    """⟨χ_a, |x̄ − x⁰|² χ_b⟩ = (3/2p + |P − x⁰|²)S."""
    return (1.5 / pair.exponent + jnp.sum((pair.centre - origin[None, :]) ** 2, axis=-1)) * pair.overlap
