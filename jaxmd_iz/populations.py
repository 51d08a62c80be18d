"""Populations of electron states: what state k of a surface is made of in the diabatic basis, |⟨χ_a, Ψ_k⟩|²."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmd_iz import eigen
from jaxmd_iz.nonlinear import Iterated, electron_matrix
from jaxmd_iz.potentials.base import AbstractMovingFrame, AbstractPotential
from jaxmd_iz.space import Edges


def diabatic_populations(
    potential: AbstractPotential, e: Edges, masses: Float[Array, " n"], k: int | Int[Array, ""], correction: str
) -> Float[Array, " N"]:
    """|⟨χ_a, Ψ_k⟩|² of state k of (5.3) in the N diabatic states χ_a of the potential; they sum to 1.

    Args:
        potential: Vⁿ(x); states that move with x are expanded in the diabatic ones they are made of.
        e: bonds.
        masses: (n,) M_n.
        k: state.
        correction: `none`, `paper` or `dboc`.
    """
    _, psi = eigen.eigh(electron_matrix(potential, e, masses, correction))
    state = jnp.take(psi, k, axis=1)
    inner = potential.potential if isinstance(potential, Iterated) else potential
    if isinstance(inner, AbstractMovingFrame):
        state = inner.frame(e) @ state
    return jnp.real(state * state.conj())
