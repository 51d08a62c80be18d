"""Pair splits f_nm = −f_mn of the gradient, Σ_m f_nm = ∇_{xⁿ}λ̄, and the bonds they act on: (3.2), (3.5), (7.1).

`distance`: f = ∂λ̃/∂r ∇r of a form on distances. `min_norm`: v = A⁺∇λ̄, A = (∂r/∂x)ᵀ, which minimises Σ v²
(other codes minimise Σ (v/r)²), over all pairs or over those of a neighbour list within the cutoff. `energy`:
f_nm = ∇_{xⁿ}λ̄ᵐ − ∇_{xᵐ}λ̄ⁿ.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmd_iz import eigen, min_norm
from jaxmd_iz.checks import must, must_traced, one_of
from jaxmd_iz.nonlinear import electron_matrices, kappa
from jaxmd_iz.potentials.base import (
    AbstractDistancePotential,
    AbstractPairPotential,
    AbstractPotential,
    as_matrices,
    pair_derivative,
    rows,
)
from jaxmd_iz.space import AbstractSpace, Edges, Free
from jaxmd_iz.surfaces import Surface

SPLITS = ("distance", "min_norm", "energy")
FEW = 64  # particles whose singular values are affordable


class Everywhere(eqx.Module):
    """∂_{xᵐ}λ̄ⁿ between all pairs as Σ_L a[L, n] b[L, m], to be summed in blocks: nothing of n × n is stored."""

    a: Float[Array, "L n"]
    b: Float[Array, "L n D"]
    velocity: Float[Array, "n D"]
    in_stress: bool = eqx.field(static=True)  # whether f = −r, the split `energy`


class Bonds(eqx.Module):
    """Bonds n–m once each: S = Σ B d⊗f, R = Σ B d⊗r, J gains Σ B d g. `d` = xⁿ − xᵐ in the potential's image.

    r = ∂_{xᵐ}λ̄ⁿ − ∂_{xⁿ}λ̄ᵐ and g = (pᵐ/M_m)·∂_{xᵐ}λ̄ⁿ − (pⁿ/M_n)·∂_{xⁿ}λ̄ᵐ gather both directions of a bond.
    `reach` bounds |d| over the bonds that carry anything. `everywhere` adds what joins all pairs beside them.
    """

    i: Int[Array, " P"]
    j: Int[Array, " P"]
    d: Float[Array, "P D"]
    f: Float[Array, "P D"]
    r: Float[Array, "P D"]
    g: Float[Array, " P"]
    reach: float = eqx.field(static=True)
    everywhere: Everywhere | None = None


def check_split(split: str, potential: AbstractPotential, correction: str, space: AbstractSpace) -> None:
    """Refuse a split where section 4 of the theory says it does not hold.

    Raises:
        InputError: an unknown name; `distance` without a form on distances, or in a periodic cell with the
            nonlinear correction; `distance` or `min_norm` for a potential that is not translation invariant.
    """
    one_of(split, "split", SPLITS)
    if split == "energy":
        return
    must(
        potential.invariant,
        "split",
        "be `energy` for a potential that depends on absolute positions (its λⁿ are not translation invariant)",
        f"it is `{split}`",
        "Pass `invariant=True` with a potential from a function if each λⁿ is translation invariant.",
    )
    if split == "min_norm":
        return
    must(
        isinstance(potential, AbstractDistancePotential),
        "split",
        f"be `min_norm` or `energy` for {type(potential).__name__}, which has no form on distances",
        "it is `distance`",
    )
    corrected = potential.states > 1 and kappa(correction) != 0
    must(
        not corrected or isinstance(space, Free),
        "split",
        "be `energy` or `min_norm` in a periodic cell with correction `paper` or `dboc`, whose terms are not "
        "functions of nearest-image distances",
        "it is `distance`",
    )
    must(
        not corrected or isinstance(potential, AbstractPairPotential),
        "split",
        "be `energy` or `min_norm` for the nonlinear correction of a potential that is not a sum over pairs",
        "it is `distance`",
    )


def bonds(
    split: str,
    potential: AbstractPotential,
    e: Edges,
    masses: Float[Array, " n"],
    k: int | Int[Array, ""],
    correction: str,
    surface: Surface,
    velocity: Float[Array, "n D"],
) -> Bonds:
    """The bonds of surface k with their pair forces and energy currents.

    `min_norm` uses the bonds of `e`: all pairs, or on a neighbour list those shorter than the potential's cutoff. The
    skin does not matter. These are two splits: fewer bonds have a larger Σ v², and v jumps when one crosses the cutoff.

    Args:
        split: `distance`, `min_norm` or `energy`; see `check_split`.
        potential: Vⁿ(x), for `distance`.
        e: bonds on which the potential was evaluated.
        masses: (n,) M_n.
        k: state.
        correction: `none`, `paper` or `dboc`.
        surface: of the same configuration.
        velocity: (n, D) pⁿ/M_n.

    Returns:
        Bonds; the first ones are those of `surface.on`, further ones join the ends of two bonds.
    """
    on = surface.on
    slots = on.to.shape[1]
    i, slot = on.half // slots, on.half % slots
    j = on.to[i, slot]
    opposite = on.back[i, slot]
    d = on.d[i, slot]
    # ∂_{xᵐ}λ̄ⁿ and ∂_{xⁿ}λ̄ᵐ of section 6: local part plus outer products, which on a list are kept apart
    to_j, to_i, everywhere = -surface.own[i, slot], -surface.own[j, opposite], None
    if not on.dense and surface.a.shape[0]:
        everywhere = Everywhere(surface.a, surface.b, velocity, split == "energy")
    else:
        to_j = to_j + jnp.einsum("LP,LPD->PD", surface.a[:, i], surface.b[:, j])
        to_i = to_i + jnp.einsum("LP,LPD->PD", surface.a[:, j], surface.b[:, i])
    weight = on.half_mask.astype(d.dtype)[:, None]
    r = weight * (to_j - to_i)
    g = weight[:, 0] * jnp.sum(velocity[j] * to_j - velocity[i] * to_i, axis=-1)
    far = surface.a.shape[0] > 0 and everywhere is None
    reach = on.reach if far or not potential.own_bonds else min(on.reach, potential.cutoff)
    if split == "energy":
        return Bonds(i, j, d, -r, r, g, reach, everywhere)
    if split == "min_norm":
        size = jnp.max(jnp.abs(surface.own), initial=0.0)
        f, corners = _min_norm(e, surface.gradient, size, potential.cutoff), None
        if e.dense:
            return Bonds(i, j, d, f, r, g, on.reach)
    else:
        f, corners = _on_distances(potential, e, masses, k, correction)
    if e.dense != on.dense:
        # the potential lives on a list, the energy currents on all pairs: two sets of bonds
        own_i, own_slot = e.half // e.to.shape[1], e.half % e.to.shape[1]
        nothing = jnp.zeros_like(f)
        parts = [
            Bonds(i, j, d, jnp.zeros_like(d), r, g, reach),
            Bonds(
                own_i,
                e.to[own_i, own_slot],
                e.d[own_i, own_slot],
                f,
                nothing,
                nothing[:, 0],
                min(e.reach, potential.cutoff),
            ),
        ]
    else:
        parts = [Bonds(i, j, d, f, r, g, reach, everywhere)]
    if corners is not None:
        parts.append(corners)
    return _join(parts)


def _join(parts: list[Bonds]) -> Bonds:
    if len(parts) == 1:
        return parts[0]
    fields = [(p.i, p.j, p.d, p.f, p.r, p.g) for p in parts]
    # indices of a list may be narrower than those of all pairs
    joined = [jnp.concatenate([a.astype(arrays[0].dtype) for a in arrays]) for arrays in zip(*fields, strict=True)]
    return Bonds(*joined, max(p.reach for p in parts), parts[0].everywhere)


def pseudo_inverse(a: Float[Array, "m P"], tolerance: float | None = None) -> Float[Array, "P m"]:
    """A⁺ from the singular values above `tolerance` × the largest (default 16 ε m), with the constant-rank derivative.

    A (and not AAᵀ) is decomposed, so that nearly collinear or coplanar configurations keep full accuracy.
    """
    if tolerance is None:
        tolerance = 16 * float(jnp.finfo(a.dtype).eps) * a.shape[0]
    return jnp.linalg.pinv(a, rtol=tolerance)


def incidence(n: int, i: Int[Array, " P"], j: Int[Array, " P"], d: Float[Array, "P D"]) -> Float[Array, "nD P"]:
    """A = (∂r/∂x)ᵀ, (nD, P): column p holds d/|d| at particle i and its opposite at j; 0 for coincident ends."""
    r2 = jnp.sum(d**2, axis=-1)
    here = r2 > 0
    unit = jnp.where(here[:, None], d / jnp.sqrt(jnp.where(here, r2, 1.0))[:, None], 0.0)
    p = jnp.arange(d.shape[0])
    a = jnp.zeros((n, d.shape[0], d.shape[1]), d.dtype).at[i, p].add(unit).at[j, p].add(-unit)
    return jnp.moveaxis(a, 2, 1).reshape(n * d.shape[1], d.shape[0])


def _min_norm(e: Edges, b, size, cutoff):
    """v_nm ∇r on the half bonds of `e`, v = A⁺ b, b = ∇λ̄ without V_b (7.1); refuses a b outside the range of A.

    Up to `FEW` particles on all pairs by singular values, which stand nearly degenerate geometries, else `min_norm`.
    """
    i, slot = e.half // e.to.shape[1], e.half % e.to.shape[1]
    d, eps = e.d[i, slot], jnp.finfo(b.dtype).eps
    if e.dense and e.x.shape[0] <= FEW:
        a, flat = incidence(e.x.shape[0], i, e.to[i, slot], d), b.reshape(-1)
        inverse = pseudo_inverse(a)
        v = inverse @ flat
        for _ in range(3):  # refinement: nearly degenerate geometries lose the accuracy of the inverse, not of v
            v = v + inverse @ (flat - a @ v)
        misfit, most = a @ v - flat, 1e6 * eps
    else:
        net = min_norm.network(e, math.inf if e.dense else cutoff)
        every = min_norm.shortest(net, b, e.space or Free(e.x.shape[1]), e.x, size)
        v, misfit, most = every[i, slot], net.pull(every) - b, 4 * eps**0.75
    # relative to what b is the sum of: in a crystal at rest it is rounding, and no sum of pair forces
    scale = jnp.maximum(jnp.max(jnp.abs(b)), size) + jnp.finfo(b.dtype).tiny
    v = must_traced(
        v,
        jnp.logical_not(jnp.max(jnp.abs(misfit)) <= most * scale) & jnp.all(jnp.isfinite(b)),
        "Argument `split` must be `energy` here, but it is `min_norm`: the gradient of this surface is not a sum of "
        "central pair forces in this cell (rank of ∂r/∂x too small, or a surface that is not invariant).",
    )
    r2 = jnp.sum(d**2, axis=-1)
    here = (r2 > 0) & e.half_mask
    return jnp.where(here[:, None], (v / jnp.sqrt(jnp.where(here, r2, 1.0)))[:, None] * d, 0.0)


def _on_distances(potential, e: Edges, masses, k, correction):
    """f on the half bonds of `e`, and bonds between the ends of two bonds, by differentiating λ̃ on distances."""
    wn = electron_matrices(potential, e, masses, correction)
    _, psi = eigen.eigh(jnp.sum(wn, axis=0))
    state = jnp.take(psi, k, axis=1)
    coefficient = kappa(correction) if potential.states > 1 else 0.0
    table = rows(e, potential.triangles or coefficient != 0)

    def total(r2, between):  # λ̃ with Ψ_k held fixed (Hellmann–Feynman)
        row = eqx.tree_at(lambda t: (t.r2, t.between), table, (r2, between), is_leaf=lambda t: t is None)
        vn = as_matrices(jax.vmap(potential.on_distances)(row))
        w = jnp.sum(vn, axis=0)
        if coefficient:
            products = _gradient_products(potential, e, r2, between)
            g = jax.vmap(lambda q: eigen.coupling_square_on_products(w, q))(products)
            w = w + jnp.einsum("n,nij->ij", (coefficient / masses).astype(g.dtype), g)
        return jnp.real(jnp.einsum("i,ij,j->", state.conj(), w, state))

    across = None
    if table.between is None:
        along = jax.grad(total)(table.r2, None)
    else:
        along, across = jax.grad(total, (0, 1))(table.r2, table.between)
        across = across + jnp.swapaxes(across, 1, 2)
        across = jnp.where(e.mask[:, :, None] & e.mask[:, None, :], across, 0.0)
    along = jnp.where(e.mask, along, 0.0)
    slots = e.to.shape[1]
    i, slot = e.half // slots, e.half % slots
    j, opposite = e.to[i, slot], e.back[i, slot]
    weight = jnp.where(e.half_mask, along[i, slot] + along[j, opposite], 0.0)
    if (
        coefficient and across is not None
    ):  # free space: the same two ends are the same distance, whoever stands between
        n = e.x.shape[0]
        must(e.dense, "e", "hold all pairs for `distance` with the nonlinear correction", "it is a neighbour list")
        ends = jnp.broadcast_to(e.to[:, :, None], across.shape), jnp.broadcast_to(e.to[:, None, :], across.shape)
        weight = weight + jnp.zeros((n, n), across.dtype).at[ends].add(across)[i, j]
    f = 2.0 * weight[:, None] * e.d[i, slot]  # ∂λ̃/∂(r²) ∇r²
    if across is None or coefficient:
        return f, None
    return f, _corners(e, across, min(e.reach, potential.cutoff))


def _corners(e: Edges, across, reach):
    """Bonds between the ends of two bonds of one particle, with d the difference of the displacements."""
    one, two = np.triu_indices(e.to.shape[1], 1)
    both = (e.mask[:, one] & e.mask[:, two])[:, :, None]
    apart = jnp.where(both, e.d[:, two] - e.d[:, one], 1.0)
    flat = apart.reshape(-1, apart.shape[-1])
    slope = across[:, one, two].reshape(-1, 1)
    zero = jnp.zeros_like(flat)
    ends = e.to[:, one].reshape(-1), e.to[:, two].reshape(-1)
    return Bonds(*ends, flat, 2.0 * slope * flat, zero, zero[:, 0], 2 * reach)


def _gradient_products(potential: AbstractPairPotential, e: Edges, r2, between):
    """conj(Aⁿ_ab)·Aⁿ_cd, (n, d, d, d, d), of Aⁿ = ∇_{xⁿ}V, from distances: d·d′ = (r² + r′² − |d − d′|²)/2."""
    slope = pair_derivative(potential, e, r2)
    gram = (r2[:, :, None] + r2[:, None, :] - between) / 2
    return 4.0 * jnp.einsum("nkab,nkl,nlcd->nabcd", slope.conj(), gram.astype(slope.dtype), slope)
