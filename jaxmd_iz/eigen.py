"""Small Hermitian eigenproblems and the functions of them that (5.2)–(5.6) and (5.25)–(5.28) need."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact


def is_two_level(v: Inexact[Array, "d d"]) -> bool:
    """Whether the closed forms of the real 2 × 2 problem apply."""
    return v.shape[-1] == 2 and not jnp.iscomplexobj(v)


def half_difference(v: Float[Array, "*b 2 2"]) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
    """ṽ = (v₁₁ − v₂₂)/2 and v₁₂."""
    return (v[..., 0, 0] - v[..., 1, 1]) / 2, (v[..., 0, 1] + v[..., 1, 0]) / 2


def eigh(v: Inexact[Array, "d d"]) -> tuple[Float[Array, " d"], Inexact[Array, "d d"]]:
    """Eigenvalues in ascending order and eigenvectors in columns; (5.25)–(5.26) for two real states.

    λ_± = (v₁₁ + v₂₂)/2 ± r, r = √(ṽ² + v₁₂²); Ψ has columns [−sin α/2, cos α/2] for λ₋ and
    [cos α/2, sin α/2] for λ₊, with α = atan2(v₁₂, ṽ). At r = 0 derivatives of r and α are set to zero.

    Args:
        v: (d, d) Hermitian.

    Returns:
        λ (d,), Ψ (d, d).
    """
    d = v.shape[-1]
    if d == 1:
        return jnp.real(v[0]), jnp.ones_like(v)
    if not is_two_level(v):
        # the mean over the two triangles keeps derivatives Hermitian
        return jnp.linalg.eigh((v + v.conj().T) / 2, symmetrize_input=False)
    half, off = half_difference(v)
    mean = (v[0, 0] + v[1, 1]) / 2
    r2 = half**2 + off**2
    crossing = r2 == 0
    r = jnp.where(crossing, 0.0, jnp.sqrt(jnp.where(crossing, 1.0, r2)))
    alpha = jnp.arctan2(jnp.where(crossing, 0.0, off), jnp.where(crossing, 1.0, half))
    c, s = jnp.cos(alpha / 2), jnp.sin(alpha / 2)
    return jnp.stack([mean - r, mean + r]), jnp.array([[-s, c], [c, s]])


def coupling(
    energies: Float[Array, " d"], psi: Inexact[Array, "d d"], gradient: Inexact[Array, "*b d d"]
) -> Inexact[Array, "*b d d"]:
    """D_lk = ⟨ψ_l, (∇V) ψ_k⟩ / (λ_k − λ_l), D_kk = 0 (parallel transport); 0 where two eigenvalues are equal.

    Args:
        energies: (d,) eigenvalues λ.
        psi: (d, d) eigenvectors in columns.
        gradient: (…, d, d) components of ∇V.

    Returns:
        (…, d, d), anti-Hermitian in the last two axes.
    """
    gap = energies[None, :] - energies[:, None]
    equal = gap == 0
    inverse = jnp.where(equal, 0.0, 1.0 / jnp.where(equal, 1.0, gap))
    inside = psi.conj().T @ gradient @ psi
    inverse = inverse.astype(inside.dtype)
    return inside * inverse.reshape((1,) * (inside.ndim - 2) + inverse.shape)


def coupling_square(v: Inexact[Array, "d d"], gradient: Inexact[Array, "D d d"]) -> Inexact[Array, "d d"]:
    """Gⁿ = Ψ₀(∇Ψ₀*·∇Ψ₀)Ψ₀* of (5.3), Ψ₀ the eigenvectors of V; ¼|∇α|² I for two real states (5.27)–(5.28).

    Args:
        v: (d, d) V(x).
        gradient: (D, d, d) ∇_{xⁿ} V.

    Returns:
        (d, d) Hermitian. It diverges at a crossing, as the exact expression does.
    """
    if is_two_level(v):
        half, off = half_difference(v)
        d_half, d_off = half_difference(gradient)
        r2 = half**2 + off**2
        r2 = jnp.where(r2 == 0, jnp.finfo(v.dtype).tiny ** 0.25, r2)
        d_alpha = (half * d_off - off * d_half) / r2  # ∇α = (ṽ∇v₁₂ − v₁₂∇ṽ)/r²
        return jnp.sum(d_alpha**2) / 4 * jnp.eye(2, dtype=v.dtype)
    energies, psi = eigh(v)
    d = coupling(energies, psi, gradient)
    inside = jnp.einsum("Dlj,Dlk->jk", d.conj(), d)  # (Ψ₀*GΨ₀)_jk = Σ_l conj(D_lj)·D_lk
    return psi @ inside @ psi.conj().T


def coupling_square_on_products(v: Inexact[Array, "d d"], q: Inexact[Array, "d d d d"]) -> Inexact[Array, "d d"]:
    """Gⁿ of `coupling_square` from the scalar products q_abcd = conj(∇V_ab)·∇V_cd alone.

    Args:
        v: (d, d) V(x).
        q: (d, d, d, d).

    Returns:
        (d, d) Hermitian.
    """
    if is_two_level(v):
        half, off = half_difference(v)
        r2 = half**2 + off**2
        r2 = jnp.where(r2 == 0, jnp.finfo(v.dtype).tiny ** 0.25, r2)
        hh = (q[0, 0, 0, 0] - 2 * q[0, 0, 1, 1] + q[1, 1, 1, 1]) / 4
        ho = (q[0, 0, 0, 1] - q[1, 1, 0, 1]) / 2
        square = (half**2 * q[0, 1, 0, 1] - 2 * half * off * ho + off**2 * hh) / r2**2  # |∇α|²
        return square / 4 * jnp.eye(2, dtype=v.dtype)
    energies, psi = eigh(v)
    gap = energies[None, :] - energies[:, None]
    inverse = jnp.where(gap == 0, 0.0, 1.0 / jnp.where(gap == 0, 1.0, gap)).astype(psi.dtype)
    inside = jnp.einsum("al,bj,cl,ek,abce->ljk", psi, psi.conj(), psi.conj(), psi, q)
    inside = jnp.einsum("lj,lk,ljk->jk", inverse, inverse, inside)
    return psi @ inside @ psi.conj().T
