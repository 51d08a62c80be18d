"""Surfaces λ̄_k, their per-particle energies λ̄_kⁿ, gradients ∂_{xᵐ}λ̄_kⁿ and couplings D: (5.2)–(5.6), (5.25)–(5.28).

W = Σ Wⁿ, Wⁿ = Vⁿ + (κ/M_n) Gⁿ; λ̄_k and Ψ are the eigenvalues and eigenvectors of W, λ̄_kⁿ = ⟨Ψ_k, WⁿΨ_k⟩.
κ = 0 (`none`), ¼ (`paper`, as printed) or ½ (`dboc`, what the Weyl calculus gives).
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact, Int

from jaxmd_iz import eigen, pair_forces
from jaxmd_iz.checks import must
from jaxmd_iz.nonlinear import electron_matrices, electron_matrix, element, kappa, moved
from jaxmd_iz.potentials.base import (
    AbstractPairPotential,
    AbstractPotential,
    matrix_gradient,
    matrix_total,
)
from jaxmd_iz.space import Edges, pull_back


class Surface(eqx.Module):
    """State k at one x: ∂_{xᵐ}λ̄ⁿ = (own bonds) + Σ_L a[L, n] b[L, m] + δ_nm (direct part), never as n × n × D.

    `own[n, k]` = ∂λ̄ⁿ/∂d[n, k] on the bonds `on`; `a`, `b` hold the dependence through V(x) and W(x).
    """

    energy: Float[Array, " n"]  # λ̄ⁿ
    gradient: Float[Array, "n D"]  # ∇λ̄
    external: Float[Array, "n D"]  # gⁿ = Σ_m ∇_{xᵐ}λ̄ⁿ
    on: Edges
    own: Float[Array, "n K D"]
    a: Float[Array, "L n"]
    b: Float[Array, "L n D"]
    crossing: Bool[Array, ""]  # λ̄_k touches another level: its own gradient is not defined there


def levels(
    potential: AbstractPotential, e: Edges, masses: Float[Array, " n"], correction: str = "paper"
) -> Float[Array, " d"]:
    """λ̄_k of every state in ascending order of the first iterate (5.3), (d,)."""
    return eigen.eigh(electron_matrix(potential, e, masses, correction))[0]


def partition(
    potential: AbstractPotential, e: Edges, masses: Float[Array, " n"], correction: str = "paper"
) -> Float[Array, "d n"]:
    """λ̄_kⁿ of every state, (d, n), with Σ_n λ̄_kⁿ = λ̄_k (5.6)."""
    wn = electron_matrices(potential, e, masses, correction)
    _, psi = eigen.eigh(jnp.sum(wn, axis=0))
    return jnp.real(jnp.einsum("ik,nij,jk->kn", psi.conj(), wn, psi))


def couplings(potential: AbstractPotential, e: Edges) -> Inexact[Array, "d d n D"]:
    """D_lk = ⟨ψ_l, ∇ψ_k⟩ of the eigenvectors of V, (d, d, n, D), anti-Hermitian."""
    energies, psi = eigen.eigh(matrix_total(potential, e))
    return jnp.moveaxis(eigen.coupling(energies, psi, matrix_gradient(potential, e)), (0, 1), (2, 3))


def value_and_gradient(
    potential: AbstractPotential, e: Edges, masses: Float[Array, " n"], correction: str, combine: Callable
) -> tuple[Float[Array, ""], Float[Array, "n D"]]:
    """combine(λ̄) of all levels (d,) and its gradient with respect to the positions.

    Args:
        potential: Vⁿ(x).
        e: bonds.
        masses: (n,) M_n.
        correction: `none`, `paper` or `dboc`.
        combine: λ̄ (d,) ↦ energy (), such as one level or −T log Σ e^{−βλ̄}.

    Returns:
        value (), gradient (n, D).
    """
    k = kappa(correction) if potential.states > 1 else 0.0
    if isinstance(potential, AbstractPairPotential) and pair_forces.is_fast(potential):
        if potential.states == 1:
            return pair_forces.value_and_gradient(potential, e, lambda v: combine(v[None]), False)

        def energy(mean, half, off, d_half, d_off):
            v = jnp.array([[half, off], [off, -half]])  # without the mean, on which its states do not depend
            if k:
                d_v = jnp.moveaxis(jnp.array([[d_half, d_off], [d_off, -d_half]]), (0, 1), (2, 3))
                g = jax.vmap(lambda a: eigen.coupling_square(v, a))(d_v)
                v = v + jnp.einsum("n,nij->ij", k / masses, g)
            return combine(mean + eigen.eigh(v)[0])

        return pair_forces.value_and_gradient(potential, e, energy, k != 0)

    def total(d, x):
        return combine(levels(potential, moved(e, d, x), masses, correction))

    value, (along, direct) = jax.value_and_grad(total, (0, 1))(e.d, e.x)
    return value, pull_back(e, along) + direct


def gradient(
    potential: AbstractPotential,
    e: Edges,
    masses: Float[Array, " n"],
    k: int | Int[Array, ""],
    correction: str = "paper",
) -> Float[Array, "n D"]:
    """∇λ̄_k, (n, D); the force of the surface is its negative."""
    return value_and_gradient(potential, e, masses, correction, lambda v: jnp.take(v, k))[1]


def virial(
    potential: AbstractPotential,
    e: Edges,
    masses: Float[Array, " n"],
    k: int | Int[Array, ""],
    correction: str = "paper",
) -> Float[Array, "D D"]:
    """∂λ̄_k/∂(strain), (D, D): what the volume mean of S times the volume is in thermodynamics, whatever the split."""

    def strained(strain):
        return levels(potential, moved(e, e.d + e.d @ strain, e.x + e.x @ strain), masses, correction)[k]

    dim = e.x.shape[1]
    return jax.grad(strained)(jnp.zeros((dim, dim), e.d.dtype))


def surface(
    potential: AbstractPotential,
    e: Edges,
    masses: Float[Array, " n"],
    k: int | Int[Array, ""],
    correction: str = "paper",
    all_pairs: Edges | None = None,
) -> Surface:
    """Everything that the conservation laws need of surface k at one configuration.

    Args:
        potential: Vⁿ(x).
        e: bonds on which the potential is evaluated.
        masses: (n,) M_n.
        k: state, 0 the lowest; may be traced.
        correction: `none`, `paper` (default) or `dboc`.
        all_pairs: dense bonds of the same configuration, needed when `e` is sparse and ∂λ̄ⁿ is not `is_local`.

    Returns:
        Surface.

    Raises:
        InputError: bonds between all pairs are needed and not given.
    """
    if potential.own_bonds and potential.states == 1:
        return _scalar_surface(potential, e)
    if is_local(potential, correction):
        return _own_surface(potential, e, masses, k, correction)
    on = e if e.dense else all_pairs
    must(on is not None, "all_pairs", "be given for this surface on a neighbour list", "it is None")
    assert on is not None
    return _full_surface(potential, e, masses, k, correction, on)


def is_local(potential: AbstractPotential, correction: str) -> bool:
    """Whether ∂λ̄ⁿ is a part on own bonds and outer products through V and W, so that a neighbour list is enough."""
    return potential.own_bonds and (kappa(correction) == 0 or isinstance(potential, AbstractPairPotential))


def _scalar_surface(potential, e):
    """d = 1: λⁿ depends on the bonds of n alone, so one reverse pass gives every ∂λⁿ/∂d."""

    def total(d, x):
        value = potential.partition(moved(e, d, x))
        value = value.reshape(value.shape[:1])  # (n,) or (n, 1, 1)
        return jnp.sum(value), value

    (own, direct), energy = jax.grad(total, (0, 1), has_aux=True)(e.d, e.x)
    own = jnp.where(e.mask[:, :, None], own, 0.0)
    if potential.invariant:
        direct = jnp.zeros_like(direct)
    n, dim = e.x.shape
    none = jnp.zeros((0, n), own.dtype)
    grad, none_b = pull_back(e, own) + direct, jnp.zeros((0, n, dim), own.dtype)
    return Surface(energy, grad, direct, e, own, none, none_b, jnp.zeros((), bool))


def _own_surface(potential, e, masses, k, correction):
    """Several states, Vⁿ on own bonds: local part plus outer products through V and W (perturbation theory)."""
    v = matrix_total(potential, e)
    wn = electron_matrices(potential, e, masses, correction)
    energies, psi = eigen.eigh(jnp.sum(wn, axis=0))
    d = psi.shape[0]
    others = (k + 1 + jnp.arange(d - 1)) % d
    state, rest = jnp.take(psi, k, axis=1), jnp.take(psi, others, axis=1)
    gap = jnp.take(energies, k) - jnp.take(energies, others)
    gap = jnp.where(gap == 0, jnp.inf, gap)  # no mixing is defined at an exact crossing

    def local(dd, x):
        w = electron_matrices(potential, moved(e, dd, x), masses, correction, v)
        value = jnp.real(element(state, w, state))
        return jnp.sum(value), value

    (own, direct), energy = jax.grad(local, (0, 1), has_aux=True)(e.d, e.x)
    own = jnp.where(e.mask[:, :, None], own, 0.0)
    if potential.invariant:
        direct = jnp.zeros_like(direct)

    # a_l = 2⟨Ψ_k, WⁿΨ_l⟩/(λ̄_k − λ̄_l), b_l = ⟨Ψ_l, ∂_mW Ψ_k⟩, real part of the product
    a = 2.0 * jnp.einsum("i,nij,jl->ln", state.conj(), wn, rest) / gap.astype(wn.dtype)[:, None]
    a_n = matrix_gradient(potential, e)
    plain = kappa(correction) == 0
    if plain:
        b = _mixing(rest, a_n, state)
    else:
        basis = _traceless_basis(v)
        zero = jnp.zeros(basis.shape[0], e.d.dtype)
        k_over_m = kappa(correction) / masses

        def square(c, grad_n):  # ⟨Ψ_k, GⁿΨ_k⟩ as a function of V inside Gⁿ
            shifted = v + jnp.einsum("c,cij->ij", c.astype(basis.dtype), basis)
            return jnp.real(element(state, eigen.coupling_square(shifted, grad_n), state))

        a_v = (jax.vmap(lambda g: jax.grad(square)(zero, g))(a_n) * k_over_m[:, None]).T
        b_v = jnp.real(jnp.einsum("cij,nDji->cnD", basis, a_n))
        if eigen.is_two_level(v):  # Gⁿ ∝ I: W and V share eigenvectors, so two channels carry everything
            a = a_v + jnp.einsum("lc,ln->cn", jnp.einsum("il,cij,j->lc", rest, basis, state), a)
            b = b_v
        else:
            b = _moved_mixing(potential, e, masses, correction, rest, state)
    if jnp.iscomplexobj(a):
        a, b = jnp.concatenate([jnp.real(a), -jnp.imag(a)]), jnp.concatenate([jnp.real(b), jnp.imag(b)])
    grad = pull_back(e, own) + direct
    if not plain:
        if not eigen.is_two_level(v):
            a, b = jnp.concatenate([a, a_v]), jnp.concatenate([b, b_v])
        # Σ_n of the W channels vanishes, that of the V channels does not
        grad = grad + jnp.einsum("c,cmD->mD", jnp.sum(a_v, axis=1), b_v)
    external = direct + jnp.einsum("Ln,LD->nD", a, jnp.sum(b, axis=1))
    if potential.invariant:
        external = jnp.zeros_like(external)
    return Surface(energy, grad, external, e, own, a, b, jnp.take(eigen.degenerate(energies), k))


def _mixing(rest, grad, state):
    """⟨Ψ_l, ∂_m(·) Ψ_k⟩, (l, n, D), from a matrix gradient (n, D, d, d)."""
    return jnp.einsum("il,nDij,j->lnD", rest.conj(), grad, state)


def _moved_mixing(potential, e, masses, correction, rest, state):
    """⟨Ψ_l, (∂_mW) Ψ_k⟩, (l, n, D), by reverse passes through W = V + Σ (κ/M_n) Gⁿ."""

    def mixing(part):
        def value(d, x):
            w = jnp.sum(electron_matrices(potential, moved(e, d, x), masses, correction), axis=0)
            return part(jnp.einsum("il,ij,j->l", rest.conj(), w, state))

        along, direct = jax.jacrev(value, (0, 1))(e.d, e.x)
        return jax.vmap(lambda s: pull_back(e, s))(along) + direct

    if jnp.iscomplexobj(rest):
        return jax.lax.complex(mixing(jnp.real), mixing(jnp.imag))
    return mixing(lambda z: z)


def _traceless_basis(v):
    """Orthonormal basis of the traceless Hermitian matrices of the kind of v, (c, d, d)."""
    d = v.shape[0]
    basis = []
    for i in range(1, d):
        diagonal = np.diag([1.0] * i + [-float(i)] + [0.0] * (d - 1 - i))
        basis.append(diagonal / np.linalg.norm(diagonal))
    for i in range(d):
        for j in range(i + 1, d):
            unit = np.zeros((d, d))
            unit[i, j] = 2**-0.5
            basis.append(unit + unit.T)
            if jnp.iscomplexobj(v):
                basis.append(1j * (unit - unit.T))
    return jnp.asarray(np.stack(basis), v.dtype)


def _full_surface(potential, e, masses, k, correction, on):
    """Any λ̄ⁿ(x): its Jacobian row by row, kept as derivatives along the bonds between all pairs."""

    def energies(d, x):
        wn = electron_matrices(potential, moved(e, d, x), masses, correction)
        found, psi = eigen.eigh(jnp.sum(wn, axis=0))
        crossing = jnp.take(eigen.degenerate(found), k)
        return jnp.real(element(jnp.take(psi, k, axis=1), wn, jnp.take(psi, k, axis=1))), crossing

    energy, reverse, crossing = jax.vjp(energies, e.d, e.x, has_aux=True)

    def row(unit):  # ∂_{xᵐ}λ̄ⁿ for every m
        along, direct = reverse(unit)
        return pull_back(e, along) + direct

    n, dim = e.x.shape
    rows = jax.lax.map(row, jnp.eye(n, dtype=energy.dtype), batch_size=min(n, 32))
    own = -jnp.take_along_axis(rows, on.to[:, :, None], axis=1)
    external = jnp.zeros_like(e.x) if potential.invariant else jnp.sum(rows, axis=1)
    none = jnp.zeros((0, n), own.dtype)
    none_b = jnp.zeros((0, n, dim), own.dtype)
    return Surface(energy, jnp.sum(rows, axis=0), external, on, own, none, none_b, crossing)
