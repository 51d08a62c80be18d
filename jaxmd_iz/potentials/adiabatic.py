"""Potentials made of another one: its d lowest states, (2.11)–(2.15), and its diagonal partition (2.11)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from jaxmd_iz import eigen
from jaxmd_iz.checks import must
from jaxmd_iz.potentials.base import (
    AbstractMovingFrame,
    AbstractPotential,
    AbstractWrapper,
    displaced,
    matrix_gradient,
    matrix_partition,
    matrix_total,
)
from jaxmd_iz.space import Edges


def _frame(potential: AbstractPotential, e: Edges) -> Inexact[Array, "N d"]:
    """The electron basis of a potential in terms of diabatic states: what it says, or its own basis."""
    if isinstance(potential, AbstractMovingFrame):
        return potential.frame(e)
    own = jnp.eye(potential.states, dtype=e.d.dtype)
    return jax.lax.complex(own, jnp.zeros_like(own)) if potential.complex else own


class Lowest(AbstractWrapper, AbstractMovingFrame):
    """The d lowest states of a potential of N: Vⁿ = C*V̂ⁿC with the eigenvectors C, N × d, of V̂; V = diag(λ_1 … λ_d).

    This is the reduction (2.11). Its basis moves with x, so couplings among the d states are kept and those to the
    states left out are lost: λ_k and λ_kⁿ are exact, the nonlinear correction (5.3) sums over the d states alone.
    At a crossing of λ_d with the first state left out the span is not differentiable.

    Args:
        potential: V̂ of N states.
        states: d, from 1 to N.

    Raises:
        InputError: more states than there are.
    """

    potential: AbstractPotential
    states: int = eqx.field(static=True)

    def __check_init__(self):
        most = self.potential.states
        must(
            1 <= self.states <= most,
            "states",
            f"be from 1 to {most}, the number of states of {type(self.potential).__name__}",
            f"it is {self.states}",
            "Keep fewer states, or give a larger electron basis.",
        )

    def _states(self, e):
        energies, psi = eigen.eigh(matrix_total(self.potential, e))
        return energies[: self.states], psi[:, : self.states]

    def total(self, e):
        """diag(λ_1 … λ_d)."""
        energies, c = self._states(e)
        return jnp.diag(energies).astype(c.dtype)

    def partition(self, e):
        """C*V̂ⁿC, (n, d, d)."""
        _, c = self._states(e)
        return jnp.einsum("ak,nab,bl->nkl", c.conj(), matrix_partition(self.potential, e), c)

    def covariant_gradient(self, e):
        """⟨Ψ_l, (∇V̂)Ψ_k⟩, (n, D, d, d): D_lk (λ_k − λ_l) off the diagonal, ∇λ_k on it."""
        _, c = self._states(e)
        if isinstance(self.potential, AbstractMovingFrame):
            return jnp.einsum("ak,nDab,bl->nDkl", c.conj(), self.potential.covariant_gradient(e), c)

        def held(u):
            return c.conj().T @ matrix_total(self.potential, displaced(e, u)) @ c

        return jnp.moveaxis(jax.jacfwd(held)(jnp.zeros_like(e.x)), (2, 3), (0, 1))

    def frame(self, e):
        """C in terms of the diabatic states of the potential, (N, d)."""
        return _frame(self.potential, e) @ self._states(e)[1]


class DiagonalPartition(AbstractWrapper, AbstractMovingFrame):
    """The partition as (2.11) has it, Vⁿ = Σ_k λ_kⁿ Ψ_k⟨Ψ_k, ·⟩, in place of the full Vⁿ of (2.8); V is the same.

    λ_kⁿ is the same without the nonlinear correction; with it λ̄_kⁿ differs, since its states are not those of V.

    Args:
        potential: with the full partition.
    """

    potential: AbstractPotential

    @property
    def states(self):
        """d of the potential."""
        return self.potential.states

    def total(self, e):
        """V(x) of the potential."""
        return matrix_total(self.potential, e)

    def partition(self, e):
        """Ψ diag(λ_kⁿ) Ψ*, (n, d, d)."""
        vn = matrix_partition(self.potential, e)
        _, psi = eigen.eigh(jnp.sum(vn, axis=0))
        own = jnp.real(jnp.einsum("ak,nab,bk->nk", psi.conj(), vn, psi))  # λ_kⁿ (2.9)
        return jnp.einsum("ak,nk,bk->nab", psi, own.astype(psi.dtype), psi.conj())

    def covariant_gradient(self, e):
        """∇V of the potential, covariant if its basis moves."""
        return matrix_gradient(self.potential, e)

    def frame(self, e):
        """The electron basis of the potential."""
        return _frame(self.potential, e)
