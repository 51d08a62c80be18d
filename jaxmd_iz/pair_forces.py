"""Gradients of surfaces of pair potentials by passes over the bonds: no n × K × 3 array, no scatter, no transpose.

With V = Σ_{n<m} φ(r) the gradient of any energy E(V, ∇V) is a sum over bonds of φ′ and, through ∇V, of φ″:
∇_n E = Σ_c E_c ∇_nV_c + Σ_m Σ_c [2φ′_c (Bⁿ_c − Bᵐ_c) + 4φ″_c ((Bⁿ_c − Bᵐ_c)·d) d],  Bⁿ_c = ∂E/∂(∇_nV_c).
Of all pairs in two passes, V and the ∇V_c that E holds first: with E_c known one sum remains of the others.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmd_iz.list_loop import list_sums
from jaxmd_iz.pair_loop import Sums, channels, curvatures, pair_sums, pair_totals, pair_turns, slopes
from jaxmd_iz.potentials.base import AbstractPairPotential, AbstractPotential, AbstractTwoStatePair
from jaxmd_iz.space import Edges


def is_fast(potential: AbstractPotential) -> bool:
    """Whether the forms of this file apply: a pair potential of one state or of two real ones."""
    scalar = isinstance(potential, AbstractPairPotential) and potential.states == 1
    return scalar or isinstance(potential, AbstractTwoStatePair)


def _sums(potential, e: Edges, b: Float[Array, " n"] | None) -> Sums:
    """The sums over bonds that space makes of the positions: of all pairs, or of a list, whose slots come first."""
    assert e.space is not None
    if e.dense:
        return pair_sums(potential, e.space, e.x, e.species, b)
    return list_sums(potential, e.space, e.x, e.species, b, e.to.T.astype(jnp.int32))


def _channels(potential, e: Edges, order: int):
    """φ, φ′, … up to `order` in r² of the mean, half-difference and off-diagonal of φ on every bond, masked."""
    one = jnp.broadcast_to(e.species[:, None], e.to.shape)
    other = e.species[None, :] if e.dense else e.species[e.to]
    other = jnp.broadcast_to(other, e.to.shape)

    def phi(r2):
        return channels(potential, r2, one, other)

    def mask(t):
        return jax.tree.map(lambda a: jnp.where(e.mask, a, 0.0), t)

    return mask((slopes if order == 1 else curvatures)(phi, e.r2))


def _row_sums(weights: Float[Array, "n c K"], e: Edges) -> Float[Array, "n c D"]:
    """Σ_m weight d for several weights at once: one product, with n leading, so that each is computed once."""
    if weights.shape[1] == 1:  # a single weight fuses with its sum
        columns = [jnp.sum(weights[:, 0] * e.d[:, :, c], axis=1) for c in range(e.d.shape[2])]
        return jnp.stack(columns, axis=1)[:, None]
    return jnp.einsum("nck,nkD->ncD", weights, e.d)


def value_and_gradient(
    potential: AbstractPairPotential, e: Edges, energy: Callable, corrected: bool
) -> tuple[Float[Array, ""], Float[Array, "n D"]]:
    """E and ∇E of an energy that is a function of V and, if `corrected`, of ∇V.

    Args:
        potential: a pair potential of one state, or of two real ones.
        e: bonds.
        energy: for one state V ↦ E; for two (mean, ṽ, v₁₂, ∇ṽ, ∇v₁₂) ↦ E, where the gradients are (n, D).
        corrected: whether E depends on the gradients.

    Returns:
        E (), ∇E (n, D).
    """
    level = jnp.asarray(potential.level, e.d.dtype)
    n = e.x.shape[0]
    k = 2 if corrected else 0  # channels whose gradients E depends on
    space, curvature = e.space if e.dense else None, None
    if space is not None:
        sums, slope = pair_totals(potential, space, e.x, e.species, 1 if potential.states == 1 else k)
    elif e.space is not None and not corrected:
        found = _sums(potential, e, None)
        sums, slope = list(jnp.sum(found.value, axis=1)), found.slope
    else:
        values, factors, *curvature = _channels(potential, e, 2 if corrected else 1)
        sums, factors = [jnp.sum(v) / 2 for v in values], jnp.stack(factors, axis=1)
        slope = jnp.moveaxis(_row_sums(factors, e), 1, 0)
        curvature = [factors[:, 1:], *(jnp.stack(c[1:], axis=1) for c in curvature)]
    if potential.states == 1:
        value, weight = jax.value_and_grad(energy)(sums[0] + n * level.reshape(()))
        return value, 2.0 * weight * slope[0]
    mean, half, off = sums
    mean = mean + n * (level[0, 0] + level[1, 1]) / 2
    half = half + n * (level[0, 0] - level[1, 1]) / 2
    off = off + n * level[0, 1]
    fields = 2.0 * slope[-2:] if len(slope) else jnp.zeros((2, *e.x.shape), e.x.dtype)
    value, (*weights, b_half, b_off) = jax.value_and_grad(energy, (0, 1, 2, 3, 4))(mean, half, off, *fields)
    b = jnp.stack([b_half, b_off], axis=1)
    if space is not None:
        return value, pair_turns(potential, space, e.x, e.species, b[:, :k], jnp.stack(weights))
    total = 2.0 * jnp.einsum("c,cnD->nD", jnp.stack(weights), slope)
    if corrected:
        assert curvature is not None
        total = total + _second(b, *curvature, e)
    return value, total


def weighted_value_and_gradient(
    potential: AbstractPairPotential, e: Edges, b: Float[Array, " n"], energy: Callable
) -> tuple[Float[Array, ""], Float[Array, "n D"], Float[Array, " n"]]:
    """E, ∇E at fixed b and ∂E/∂b of an energy that is a function of V = Σ Vⁿ and W = Σ b_n Vⁿ.

    ∇_nE = Σ_m Σ_c [2 E_{V,c} + (b_n + b_m) E_{W,c}] φ′_c d and ∂E/∂b_n = Σ_c E_{W,c} V_cⁿ.

    Args:
        potential: a pair potential of one state, or of two real ones.
        e: bonds.
        b: (n,) weights.
        energy: (V, W) ↦ E, each (1,) or (3,): the mean, half-difference and off-diagonal.

    Returns:
        E (), ∇E (n, D), ∂E/∂b (n,).
    """
    level = jnp.asarray(potential.level, e.d.dtype)
    if potential.states == 1:
        own = level.reshape(1)
    else:
        own = jnp.stack([(level[0, 0] + level[1, 1]) / 2, (level[0, 0] - level[1, 1]) / 2, level[0, 1]])
    if e.space is not None:
        found = _sums(potential, e, b)
        assert found.weighted is not None
        each = found.value + own[:, None]
        value, (to_v, to_w) = jax.value_and_grad(energy, (0, 1))(jnp.sum(each, axis=1), each @ b)
        gradient = jnp.einsum("c,cnD->nD", 2.0 * to_v, found.slope) + jnp.einsum("c,cnD->nD", to_w, found.weighted)
        return value, gradient + b[:, None] * jnp.einsum("c,cnD->nD", to_w, found.slope), to_w @ each
    values, slopes = _channels(potential, e, 1)
    each = jnp.stack([jnp.sum(v, axis=1) / 2 for v in values]) + own[:, None]  # V_cⁿ
    value, (to_v, to_w) = jax.value_and_grad(energy, (0, 1))(jnp.sum(each, axis=1), each @ b)
    both = b[:, None] + (b[None, :] if e.dense else b[e.to])
    weight = jnp.zeros_like(slopes[0])
    for c, slope in enumerate(slopes):
        weight = weight + (2.0 * to_v[c] + both * to_w[c]) * slope
    return value, _row_sums(weight[:, None, :], e)[:, 0], to_w @ each


def _second(
    b: Float[Array, "n c D"], slope: Float[Array, "n c K"], curvature: Float[Array, "n c K"], e: Edges
) -> Float[Array, "n D"]:
    """Σ_c Σ_m [2φ′ (Bⁿ − Bᵐ) + 4φ″ ((Bⁿ − Bᵐ)·d) d], without an array of size n × K × D of its own."""
    along = jnp.zeros_like(slope)
    for axis in range(b.shape[2]):
        column = b[:, :, axis]
        end = column.T[None] if e.dense else jnp.swapaxes(column[e.to], 1, 2)
        along = along + (column[:, :, None] - end) * e.d[:, None, :, axis]
    if e.dense:
        other = jnp.einsum("nck,kcD->nD", slope, b)
    else:
        other = jnp.einsum("nck,nkcD->nD", slope, b[e.to])
    same = jnp.einsum("nck,ncD->nD", slope, b)
    return 2.0 * (same - other) + 4.0 * jnp.sum(_row_sums(curvature * along, e), axis=1)
