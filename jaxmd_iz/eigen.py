"""Small Hermitian eigenproblems and the functions of them that (5.2)–(5.6) and (5.25)–(5.28) need.

Derivatives are those of perturbation theory. Smooth functions of V, whose levels may cross, such as a free energy or
V^{−1/2}, have rules of their own that never divide by a gap.
"""

import jax
import jax.numpy as jnp
from jax import custom_batching, lax
from jaxtyping import Array, Bool, Float, Inexact

from jaxmd_iz import small_eigen


def is_two_level(v: Inexact[Array, "*b d d"]) -> bool:
    """Whether the closed forms of the real 2 × 2 problem apply."""
    return v.shape[-1] == 2 and not jnp.iscomplexobj(v)


def half_difference(v: Float[Array, "*b 2 2"]) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
    """ṽ = (v₁₁ − v₂₂)/2 and v₁₂."""
    return (v[..., 0, 0] - v[..., 1, 1]) / 2, (v[..., 0, 1] + v[..., 1, 0]) / 2


def _adjoint(v):
    """V*."""
    return jnp.swapaxes(v, -1, -2).conj()


# --- eigenvalues and eigenvectors ---------------------------------------------------------------------------------


def eigh(v: Inexact[Array, "*b d d"]) -> tuple[Float[Array, "*b d"], Inexact[Array, "*b d d"]]:
    """Eigenvalues in ascending order and eigenvectors in columns; (5.25)–(5.26) for two real states.

    λ_± = (v₁₁ + v₂₂)/2 ± r, r = √(ṽ² + v₁₂²); Ψ has columns [−sin α/2, cos α/2] for λ₋ and
    [cos α/2, sin α/2] for λ₊, with α = atan2(v₁₂, ṽ), and α = 0 at r = 0. Closed forms also for three states,
    Jacobi rotations for four. Derivatives are those of perturbation theory with parallel transport,

    dλ_k = Re⟨ψ_k, dV ψ_k⟩,  dψ_k = Σ_{l≠k} ψ_l ⟨ψ_l, dV ψ_k⟩/(λ_k − λ_l),

    without the terms between levels that are equal up to rounding (`degenerate`). At such a crossing first
    derivatives of Σ_k f(λ_k) and the mean force Σ_k w_k ∇λ_k are exact, those of a single level depend on Ψ, and
    second derivatives lack the f″ between the two levels: see `free_energy`.

    Args:
        v: (…, d, d) Hermitian; the mean over the two triangles is used.

    Returns:
        λ (…, d), Ψ (…, d, d).
    """
    if v.shape[-1] == 1:
        return jnp.real(v[..., 0]), jnp.ones_like(v)
    c, mu, psi = _spectrum(v)
    return c[..., None] + mu, psi


@jax.custom_jvp
def _spectrum(v):
    """c, μ and Ψ with V = Ψ(c + diag μ)Ψ*. Derivatives hold c fixed, so that only λ = c + μ has a meaning."""
    if v.shape[-1] <= small_eigen.LARGEST:
        return small_eigen.solve(v)
    c = jnp.real(v[..., 0, 0])
    identity = jnp.broadcast_to(jnp.eye(v.shape[-1], dtype=v.dtype), v.shape)
    rest = (v + _adjoint(v)) / 2 - c.astype(v.dtype)[..., None, None] * identity
    return c, *_by_lapack(rest)


def _by_lapack(v):
    """μ and Ψ of large matrices, on a CPU one after another.

    Batches of LAPACK share one pool of threads: two of them, on two devices or in one program, wait for each other.
    """
    if jax.default_backend() != "cpu":
        return tuple(jnp.linalg.eigh(v, symmetrize_input=False))
    return _alone(v) if v.ndim == 2 else _each(v)


@custom_batching.sequential_vmap
def _alone(v):
    return tuple(jnp.linalg.eigh(v, symmetrize_input=False))


def _each(v):
    flat = lax.map(_alone, v.reshape(-1, *v.shape[-2:]))
    return tuple(a.reshape(*v.shape[:-2], *a.shape[1:]) for a in flat)


@_spectrum.defjvp
def _perturbed(primals, tangents):
    (v,), (dv,) = primals, tangents
    c, mu, psi = _spectrum(v)
    within = _within(psi, (dv + _adjoint(dv)) / 2)  # ⟨ψ_l, dV ψ_k⟩
    inverse = _inverse_gaps(mu, _rounding(mu) * _norm(c[..., None] + mu)[..., None, None]).astype(v.dtype)
    d_mu = jnp.real(jnp.diagonal(within, axis1=-2, axis2=-1))
    return (c, mu, psi), (jnp.zeros_like(c), d_mu, psi @ (inverse * within))


def _within(psi, a):
    """Ψ* A Ψ."""
    return _adjoint(psi) @ a @ psi


def _norm(energies):
    """‖V‖ = max |λ|."""
    return jnp.max(jnp.abs(energies), axis=-1)


def _rounding(energies):
    """4 d ε: each of two levels has d ε ‖V‖ from the solution at most, and V itself is rounded as much."""
    return 4 * energies.shape[-1] * float(jnp.finfo(energies.dtype).eps)


def _gaps(energies):
    """λ_k − λ_l at [l, k]."""
    return energies[..., None, :] - energies[..., :, None]


def _inverse_gaps(energies, least):
    """1/(λ_k − λ_l) at [l, k]; 0 where |λ_k − λ_l| ≤ least."""
    gaps = _gaps(energies)
    equal = jnp.abs(gaps) <= least
    return jnp.where(equal, 0.0, 1 / jnp.where(equal, 1.0, gaps))


def degenerate(energies: Float[Array, "*b d"], tolerance: float | None = None) -> Bool[Array, "*b d"]:
    """True for a state whose own gradient is not defined: its level touches another one.

    Args:
        energies: (…, d) eigenvalues λ.
        tolerance: gap that counts as none, in units of max |λ|; by default 4 d ε, the rounding of the levels, which
            is also the gap below which derivatives of eigenvectors are set to zero.

    Returns:
        (…, d) of bool.
    """
    tolerance = _rounding(energies) if tolerance is None else tolerance
    touching = jnp.abs(_gaps(energies)) <= tolerance * _norm(energies)[..., None, None]
    return jnp.sum(touching, axis=-1) > 1  # each level touches itself


# --- smooth functions of a matrix ---------------------------------------------------------------------------------


def free_energy(v: Inexact[Array, "d d"], temperature: float | Float[Array, ""]) -> Float[Array, ""]:
    """−T log Σ_k e^{−λ_k/T}; first and second derivatives are exact at crossings too, in V and in T.

    Args:
        v: (d, d) Hermitian, an energy.
        temperature: T > 0, an energy.

    Returns:
        An energy.
    """
    return _canonical(v, jnp.asarray(temperature, jnp.finfo(v.dtype).dtype))[0]


def density_matrix(v: Inexact[Array, "d d"], temperature: float | Float[Array, ""]) -> Inexact[Array, "d d"]:
    """ρ = e^{−V/T}/Tr e^{−V/T}, the derivative of `free_energy`; its own first derivative is exact at crossings too.

    Args:
        v: (d, d) Hermitian, an energy.
        temperature: T > 0, an energy.

    Returns:
        (d, d) Hermitian, of trace 1.
    """
    return _canonical(v, jnp.asarray(temperature, jnp.finfo(v.dtype).dtype))[1]


def _occupations(energies, temperature):
    """F, w_k = e^{−(λ_k − F)/T} and the entropy −Σ w log w, all relative to λ_0: nothing overflows or cancels."""
    above = energies - energies[0]
    weights = jnp.exp(-above / temperature)
    total = jnp.sum(weights)
    w = weights / total
    entropy = jnp.sum(w * above) / temperature + jnp.log(total)
    return energies[0] - temperature * jnp.log(total), w, entropy


@jax.custom_jvp
def _canonical(v, temperature):
    """F and ρ."""
    energies, psi = eigh(v)
    free, w, _ = _occupations(energies, temperature)
    return free, (psi * w[None, :].astype(v.dtype)) @ _adjoint(psi)


@_canonical.defjvp
def _response(primals, tangents):
    (v, temperature), (dv, dt) = primals, tangents
    free, rho = _canonical(v, temperature)
    energies, psi = eigh(v)
    _, w, entropy = _occupations(energies, temperature)
    d_free = jnp.real(jnp.sum(rho.conj() * dv)) - entropy * dt  # dF = Tr(ρ dV) − S dT
    # the exponent moves by X = −dV/T + (V − λ_0) dT/T²
    x = -_within(psi, (dv + _adjoint(dv)) / 2) / temperature.astype(v.dtype)
    x = x + jnp.diag((energies - energies[0]) * dt / temperature**2).astype(v.dtype)
    # Daleckii–Krein: (w_k − w_l)/(log w_k − log w_l) = √(w_k w_l) sinh(y/2)/(y/2) = max(w_k, w_l) (1 − e^{−y})/y
    y = jnp.abs(_gaps(energies)) / temperature
    same = y == 0
    safe = jnp.where(same, 1.0, y)
    mean = jnp.maximum(w[None, :], w[:, None]) * jnp.where(same, 1.0, -jnp.expm1(-safe) / safe)
    d_rho = psi @ (mean.astype(v.dtype) * x) @ _adjoint(psi)
    return (free, rho), (d_free, d_rho - rho * jnp.trace(d_rho))


def inverse_sqrt(s: Float[Array, "m m"]) -> Float[Array, "m m"]:
    """X = S^{−1/2}, for orthogonalisation after Löwdin; X dX + dX X = −X² dS X² has only sums of eigenvalues.

    Derivatives of every order are exact, at degenerate eigenvalues of S too.

    Args:
        s: (m, m) real symmetric and positive definite; the mean over the two triangles is used.

    Returns:
        (m, m) symmetric; not a number if S has a negative eigenvalue.
    """
    return _inverse_sqrt(s)[0]


@jax.custom_jvp
def _inverse_sqrt(s):
    """X, its eigenvalues and eigenvectors; derivatives hold the latter two fixed, which only solve with X."""
    values, vectors = eigh(s)
    roots = 1 / jnp.sqrt(values)
    return (vectors * roots[None, :]) @ vectors.T, roots, vectors


@_inverse_sqrt.defjvp
def _sylvester(primals, tangents):
    (s,), (ds,) = primals, tangents
    x, roots, vectors = _inverse_sqrt(s)

    def solve(_, b):
        return vectors @ (_within(vectors, b) / (roots[:, None] + roots[None, :])) @ vectors.T

    square = x @ x
    right = -square @ ((ds + ds.T) / 2) @ square
    dx = lax.custom_linear_solve(lambda z: x @ z + z @ x, right, solve, symmetric=True)
    return (x, roots, vectors), (dx, jnp.zeros_like(roots), jnp.zeros_like(vectors))


# --- couplings of states ------------------------------------------------------------------------------------------


def _least(energies) -> float:
    """A gap whose inverse keeps its fourth power finite."""
    return float(jnp.finfo(energies.dtype).tiny) ** 0.125


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
    inside = _within(psi, gradient)
    inverse = _inverse_gaps(energies, _least(energies)).astype(inside.dtype)
    return inside * inverse.reshape((1,) * (inside.ndim - 2) + inverse.shape)


def coupling_square(v: Inexact[Array, "d d"], gradient: Inexact[Array, "D d d"]) -> Inexact[Array, "d d"]:
    """Gⁿ = Ψ₀(∇Ψ₀*·∇Ψ₀)Ψ₀* of (5.3), Ψ₀ the eigenvectors of V; ¼|∇α|² I for two real states (5.27)–(5.28).

    Args:
        v: (d, d) V(x).
        gradient: (D, d, d) ∇_{xⁿ} V.

    Returns:
        (d, d) Hermitian. It diverges towards a crossing, as the exact expression does, up to about tiny^{−1/4}, so
        that it and its slopes stay finite at r = 0 (3e-39 in float64).
    """
    if is_two_level(v):
        half, off = half_difference(v)
        d_half, d_off = half_difference(gradient)
        r2 = half**2 + off**2
        r2 = jnp.maximum(r2, _least(r2) ** 2)
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
        r2 = jnp.maximum(r2, _least(r2) ** 2)
        hh = (q[0, 0, 0, 0] - 2 * q[0, 0, 1, 1] + q[1, 1, 1, 1]) / 4
        ho = (q[0, 0, 0, 1] - q[1, 1, 0, 1]) / 2
        square = (half**2 * q[0, 1, 0, 1] - 2 * half * off * ho + off**2 * hh) / r2**2  # |∇α|²
        return square / 4 * jnp.eye(2, dtype=v.dtype)
    energies, psi = eigh(v)
    inverse = _inverse_gaps(energies, _least(energies)).astype(psi.dtype)
    inside = jnp.einsum("al,bj,cl,ek,abce->ljk", psi, psi.conj(), psi.conj(), psi, q)
    inside = jnp.einsum("lj,lk,ljk->jk", inverse, inverse, inside)
    return psi @ inside @ psi.conj().T
