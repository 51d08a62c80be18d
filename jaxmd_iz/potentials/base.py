"""What a potential is: a partition λⁿ or Vⁿ(x) on the bonds of a configuration, everything else by autodiff.

Equations (2.6)–(2.10): V(x) = Σ_n Vⁿ(x), Hermitian d × d, in an electron basis that does not move with x.
"""

import abc
import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact, Int

from jaxmd_iz.checks import must
from jaxmd_iz.space import Edges


class AbstractPotential(eqx.Module):
    """A potential: parameters in a pytree and one method, `partition`.

    `cutoff` is its range (`inf` if none), `states` the size d of V(x), `complex` whether V is complex.
    `own_bonds`: λⁿ depends on the bonds of n alone, so one reverse pass gives every ∂λⁿ/∂d.
    `invariant`: every λⁿ is invariant under translations, gⁿ = 0.
    """

    cutoff: eqx.AbstractVar[float]
    states: eqx.AbstractVar[int]
    own_bonds: eqx.AbstractVar[bool]
    invariant: eqx.AbstractVar[bool]
    complex: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def partition(self, e: Edges) -> Inexact[Array, " n"] | Inexact[Array, "n d d"]:
        """λⁿ, (n,), for one state, or Vⁿ, (n, d, d); the sum over n is the energy or V(x)."""


class AbstractMovingFrame(AbstractPotential):
    """A potential whose electron basis χ_a(x) moves with the nuclei: adiabatic states, orbitals on atoms.

    With A_ab = ⟨χ_a, ∇χ_b⟩ the derivative that enters D_lk = ⟨ψ_l, ∇ψ_k⟩ is 𝒟V = ∇V + [A, V], since
    ⟨ψ_l, [A, V] ψ_k⟩ = (λ_k − λ_l) ⟨ψ_l, A ψ_k⟩. Couplings to states outside the span are lost.
    """

    @abc.abstractmethod
    def total(self, e: Edges) -> Inexact[Array, "d d"]:
        """V(x) = Σ_n Vⁿ, for what needs no partition."""

    @abc.abstractmethod
    def covariant_gradient(self, e: Edges) -> Inexact[Array, "n D d d"]:
        """𝒟V = ∇_{xⁿ}V + [Aⁿ, V]."""

    @abc.abstractmethod
    def frame(self, e: Edges) -> Inexact[Array, "N d"]:
        """The basis χ in columns, in terms of N orthonormal diabatic states."""


class AbstractWrapper(AbstractPotential):
    """A potential made of another one, whose states depend on every bond; range, symmetry and kind are those of it."""

    potential: eqx.AbstractVar[AbstractPotential]

    @property
    def cutoff(self):
        """That of the potential."""
        return self.potential.cutoff

    @property
    def invariant(self):
        """As of the potential."""
        return self.potential.invariant

    @property
    def complex(self):
        """As of the potential."""
        return self.potential.complex

    @property
    def own_bonds(self):
        """False."""
        return False

    @property
    def y_space(self):
        """Whether positions are places in space, as of the potential."""
        return getattr(self.potential, "y_space", True)


class Row(eqx.Module):
    """The bonds of one particle (or of many, stacked), as a function of distances alone."""

    r2: Float[Array, "*b K"]  # |xⁿ − xᵐ|², 1 in empty slots
    between: Float[Array, "*b K K"] | None  # |xᵐ − xˡ|² of the ends of two bonds
    mask: Bool[Array, "*b K"]
    index: Int[Array, "*b"]
    to: Int[Array, "*b K"]
    species: Int[Array, "*b"]
    others: Int[Array, "*b K"]


def rows(e: Edges, triangles: bool) -> Row:
    """The rows of every particle, stacked along the first axis, from displacements."""
    between = None
    if triangles:
        apart = e.d[:, None, :, :] - e.d[:, :, None, :]
        between = jnp.sum(apart**2, axis=-1)
    return Row(e.r2, between, e.mask, jnp.arange(e.x.shape[0]), e.to, e.species, e.species[e.to])


class AbstractDistancePotential(AbstractPotential):
    """A potential whose λⁿ is a function of distances among n and the ends of its bonds: λ̃ of (3.2), Lemma 3.1.

    `triangles` says whether distances between the ends enter. Pair sums and triplet angles are of this kind.
    """

    triangles: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def on_distances(self, row: Row) -> Inexact[Array, ""] | Inexact[Array, "d d"]:
        """λⁿ or Vⁿ of one particle from squared distances."""

    def partition(self, e):
        """λⁿ, (n,), or Vⁿ, (n, d, d)."""
        return jax.vmap(self.on_distances)(rows(e, self.triangles))


class AbstractPairPotential(AbstractDistancePotential):
    """V = Σ_{n<m} φ(r_nm) + Σ_n `level`; each particle takes half of its bonds. φ symmetric in the species."""

    @abc.abstractmethod
    def pair(
        self, r2: Float[Array, "*b"], one: Int[Array, "*b"], other: Int[Array, "*b"]
    ) -> Inexact[Array, "*b"] | Inexact[Array, "*b d d"]:
        """φ(r) from r² for species `one` and `other`: an array like r2, or (…, d, d). Zero beyond the cutoff."""

    @property
    @abc.abstractmethod
    def level(self) -> float | Inexact[Array, "d d"]:
        """The one-particle term, () or (d, d)."""

    def on_distances(self, row):
        """½ Σ_m φ(r_nm) + level."""
        one = jnp.broadcast_to(row.species, row.others.shape)
        phi = self.pair(row.r2, one, row.others)
        mask = row.mask.reshape(row.mask.shape + (1,) * (phi.ndim - 1))
        return 0.5 * jnp.sum(jnp.where(mask, phi, 0.0), axis=0) + jnp.asarray(self.level, phi.dtype)


class AbstractTwoStatePair(AbstractPairPotential):
    """A pair potential of two real states, given by components, so that fast kernels never form 2 × 2 matrices."""

    @abc.abstractmethod
    def components(
        self, r2: Float[Array, "*b"], one: Int[Array, "*b"], other: Int[Array, "*b"]
    ) -> tuple[Float[Array, "*b"], Float[Array, "*b"], Float[Array, "*b"]]:
        """(φ₁₁ + φ₂₂)/2, (φ₁₁ − φ₂₂)/2 and φ₁₂ from r²."""

    def pair(self, r2, one, other):
        """φ(r) as (…, 2, 2)."""
        mean, half, off = self.components(r2, one, other)
        rows_of = [jnp.stack([mean + half, off], axis=-1), jnp.stack([off, mean - half], axis=-1)]
        return jnp.stack(rows_of, axis=-2)


def pair_derivative(potential: AbstractPairPotential, e: Edges, r2: Array | None = None) -> Array:
    """∂φ/∂(r²) on every bond, (n, K) or (n, K, d, d), zero in empty slots; at `r2` instead of that of `e` if given."""
    one = jnp.broadcast_to(e.species[:, None], e.to.shape)
    other = e.species[e.to]
    r2 = e.r2 if r2 is None else r2
    _, slope = jax.jvp(lambda s: potential.pair(s, one, other), (r2,), (jnp.ones_like(r2),))
    mask = e.mask.reshape(e.mask.shape + (1,) * (slope.ndim - 2))
    return jnp.where(mask, slope, 0.0)


def displaced(e: Edges, u: Float[Array, "n D"]) -> Edges:
    """The same bonds with every particle moved by u: d + uⁿ − uᵐ and x + u, for derivatives in the positions."""
    apart = jnp.where(e.mask[:, :, None], u[:, None, :] - (u[None, :, :] if e.dense else u[e.to]), 0.0)
    return dataclasses.replace(e, d=e.d + apart, x=e.x + u, space=None)


def as_matrices(value: Inexact[Array, "n *dd"]) -> Inexact[Array, "n d d"]:
    """(n,) read as (n, 1, 1): a scalar potential is d = 1."""
    return value[:, None, None] if value.ndim == 1 else value


def matrix_partition(potential: AbstractPotential, e: Edges) -> Inexact[Array, "n d d"]:
    """Vⁿ as (n, d, d), whatever the number of states."""
    return as_matrices(potential.partition(e))


def matrix_total(potential: AbstractPotential, e: Edges) -> Inexact[Array, "d d"]:
    """V(x) as (d, d), whatever the number of states."""
    if isinstance(potential, AbstractMovingFrame):
        return potential.total(e)
    return jnp.sum(matrix_partition(potential, e), axis=0)


def matrix_gradient(potential: AbstractPotential, e: Edges) -> Inexact[Array, "n D d d"]:
    """Aⁿ = ∇_{xⁿ} V, (n, D, d, d), in the given electron basis; covariant, ∇V + [A, V], in one that moves."""
    if isinstance(potential, AbstractMovingFrame):
        return potential.covariant_gradient(e)
    if isinstance(potential, AbstractPairPotential):
        # Σ_m φ′(r²) 2 d: both halves of a bond move with xⁿ
        slope = pair_derivative(potential, e)
        if slope.ndim == 2:
            slope = slope[:, :, None, None]
        return 2.0 * jnp.einsum("nkab,nkD->nDab", slope, e.d.astype(slope.dtype))

    def total(u):
        return matrix_total(potential, displaced(e, u))

    # forwards: one pass for each coordinate, where rows of a Jacobian would take one for each of d² elements
    return jnp.moveaxis(jax.jacfwd(total)(jnp.zeros_like(e.x)), (2, 3), (0, 1))


class FromFunction(AbstractPotential):
    """A user's function of the positions, x (n, D) → λⁿ (n,) or Vⁿ (n, d, d): full Jacobian, the slow path.

    Args:
        function: pure JAX function; in a periodic space it must be periodic itself.
        states: d; 1 for a function that returns (n,).
        invariant: whether every λⁿ is invariant under translations; the splits `distance` and `min_norm` need it.
        complex: whether Vⁿ is complex Hermitian.
    """

    function: Callable[[Array], Array]
    states: int = eqx.field(static=True, default=1)
    invariant: bool = eqx.field(static=True, default=False)
    complex: bool = eqx.field(static=True, default=False)
    cutoff: float = eqx.field(static=True, default=float("inf"))
    own_bonds: bool = eqx.field(static=True, default=False, init=False)

    def partition(self, e):
        """λⁿ, (n,), or Vⁿ, (n, d, d), from the user's function."""
        value = self.function(e.x)
        n = e.x.shape[0]
        expected = (n,) if self.states == 1 else (n, self.states, self.states)
        must(
            value.shape == expected or value.shape == (n, self.states, self.states),
            "function",
            f"return an array of shape {expected}",
            f"it returned {value.shape}",
        )
        return value


def must_be_hermitian(potential: AbstractPotential, x: Float[Array, "n D"]) -> None:
    """Refuses users' functions in a potential whose Vⁿ is not Hermitian at x: only one triangle would be read.

    Raises:
        InputError: says how far it is from that.
    """
    for part in jax.tree.leaves(potential, is_leaf=lambda a: isinstance(a, FromFunction)):
        if isinstance(part, FromFunction) and part.states > 1:
            v = np.asarray(part.function(x))
            size = (len(x), part.states, part.states)
            must(v.shape == size, "function", f"return an array of shape {size}", f"it returned {v.shape}")
            miss = float(np.max(np.abs(v - np.conj(np.swapaxes(v, 1, 2)))))
            least = 1e-5 * max(1e-30, float(np.max(np.abs(v))))
            must(miss <= least, "function", "return Hermitian matrices Vⁿ", f"V − V† has entries up to {miss:.3g}")


class Sum(AbstractDistancePotential):
    """The sum of potentials on distances with the same number of states."""

    terms: tuple[AbstractDistancePotential, ...]

    def __check_init__(self):
        must(len(self.terms) > 0, "terms", "hold at least one potential", "it is empty")
        must(
            len({t.states for t in self.terms}) == 1,
            "terms",
            "have one number of states",
            f"they have {[t.states for t in self.terms]}",
        )

    @property
    def cutoff(self):
        """The largest range."""
        return max(t.cutoff for t in self.terms)

    @property
    def states(self):
        """d of every term."""
        return self.terms[0].states

    @property
    def own_bonds(self):
        """True when it holds for every term."""
        return all(t.own_bonds for t in self.terms)

    @property
    def invariant(self):
        """True when it holds for every term."""
        return all(t.invariant for t in self.terms)

    @property
    def complex(self):
        """True when any term is complex."""
        return any(t.complex for t in self.terms)

    @property
    def triangles(self):
        """True when any term uses them."""
        return any(t.triangles for t in self.terms)

    def partition(self, e):
        """Σ of the partitions of the terms."""
        total = self.terms[0].partition(e)
        for term in self.terms[1:]:
            total = total + term.partition(e)
        return total

    def on_distances(self, row):
        """Σ over the terms."""
        total = self.terms[0].on_distances(row)
        for term in self.terms[1:]:
            total = total + term.on_distances(row)
        return total
