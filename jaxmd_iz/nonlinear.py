"""The matrices Wⁿ = Vⁿ + (κ/M_n) Gⁿ of the nonlinear eigenproblem (5.2)–(5.3): first iterate, further ones, residual.

Ψ₀ are the eigenvectors of V and Ψ_i those of V + Σ (κ/M_n) Gⁿ[Ψ_{i−1}], Gⁿ[Ψ] = Ψ(∇Ψ*·∇Ψ)Ψ*; each further iterate
gains one power of 1/M in the residual of (5.2).
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from jaxmd_iz import eigen
from jaxmd_iz.checks import must, one_of
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

KAPPA = {"none": 0.0, "paper": 0.25, "dboc": 0.5}


def kappa(correction: str) -> float:
    """The coefficient κ of the nonlinear term by name.

    Raises:
        InputError: a name other than `none`, `paper` or `dboc`.
    """
    one_of(correction, "correction", tuple(KAPPA))
    return KAPPA[correction]


def electron_matrices(
    potential: AbstractPotential,
    e: Edges,
    masses: Float[Array, " n"],
    correction: str,
    v: Inexact[Array, "d d"] | None = None,
) -> Inexact[Array, "n d d"]:
    """Wⁿ = Vⁿ + (κ/M_n) Gⁿ of (5.3), first iterate, (n, d, d).

    Args:
        potential: gives Vⁿ.
        e: the bonds.
        masses: (n,) M_n.
        correction: `none`, `paper` or `dboc`.
        v: V(x) inside Gⁿ; by default Σ Vⁿ. Given, it is held fixed under differentiation.
    """
    vn = matrix_partition(potential, e)
    k = kappa(correction)
    if k == 0 or potential.states == 1:
        return vn
    whole = matrix_total(potential, e) if v is None else v
    g = jax.vmap(lambda a: eigen.coupling_square(whole, a))(matrix_gradient(potential, e))
    return vn + (k / masses).astype(g.dtype)[:, None, None] * g


def electron_matrix(
    potential: AbstractPotential, e: Edges, masses: Float[Array, " n"], correction: str
) -> Inexact[Array, "d d"]:
    """W = Σ Wⁿ, (d, d), without the partition of V where that costs extra."""
    if kappa(correction) == 0 or potential.states == 1:
        return matrix_total(potential, e)
    return jnp.sum(electron_matrices(potential, e, masses, correction), axis=0)


class Iterated(AbstractWrapper):
    """The matrices Wⁿ after some iterations of (5.3), as a potential: use it with correction `none`.

    Each iteration differentiates the one before in every coordinate, so the cost grows as (nD)^iterations.

    Args:
        potential: Vⁿ(x), in an electron basis that does not move.
        masses: (n,) M_n.
        correction: `paper` or `dboc`.
        iterations: 0 gives V itself, 1 what `electron_matrices` gives.

    Raises:
        InputError: a moving electron basis, or a negative number of iterations.
    """

    potential: AbstractPotential
    masses: Float[Array, " n"]
    correction: str = eqx.field(static=True)
    iterations: int = eqx.field(static=True)

    def __check_init__(self):
        must(self.iterations >= 0, "iterations", "be 0 or more", f"it is {self.iterations}")
        must(
            not isinstance(self.potential, AbstractMovingFrame) or self.iterations <= 1,
            "iterations",
            "be 1 for electron states that move with the nuclei",
            f"it is {self.iterations}",
        )
        kappa(self.correction)

    @property
    def states(self):
        """d of the potential."""
        return self.potential.states

    def partition(self, e):
        """Wⁿ after the iterations, (n, d, d)."""
        return self._matrices(e, self.iterations)

    def _matrices(self, e, i):
        if i <= 1:
            return electron_matrices(self.potential, e, self.masses, "none" if i == 0 else self.correction)
        last = jnp.sum(self._matrices(e, i - 1), axis=0)

        def whole(u):
            return jnp.sum(self._matrices(displaced(e, u), i - 1), axis=0)

        slope = jnp.moveaxis(jax.jacfwd(whole)(jnp.zeros_like(e.x)), (2, 3), (0, 1))
        g = jax.vmap(lambda a: eigen.coupling_square(last, a))(slope)  # Gⁿ[Ψ_{i−1}]
        return (
            matrix_partition(self.potential, e)
            + (kappa(self.correction) / self.masses).astype(g.dtype)[:, None, None] * g
        )


def residual(
    potential: AbstractPotential, e: Edges, masses: Float[Array, " n"], correction: str = "paper", iterations: int = 1
) -> Float[Array, ""]:
    """What Ψ_i leaves of (5.2): the largest off-diagonal element of Ψ*(V + Σ (κ/M_n) Gⁿ[Ψ])Ψ; O(M^{−i−1}).

    Args:
        potential: Vⁿ(x), in an electron basis that does not move.
        e: bonds.
        masses: (n,) M_n.
        correction: `paper` or `dboc`.
        iterations: i, 1 for the default of this package.
    """
    _, psi = eigen.eigh(jnp.sum(Iterated(potential, masses, correction, iterations).partition(e), axis=0))
    w = jnp.sum(Iterated(potential, masses, correction, iterations + 1).partition(e), axis=0)
    inside = psi.conj().T @ w @ psi
    return jnp.max(jnp.abs(inside - jnp.diag(jnp.diag(inside))))


def converge(
    potential: AbstractPotential,
    e: Edges,
    masses: Float[Array, " n"],
    correction: str = "paper",
    tolerance: float = 1e-12,
    most: int = 4,
) -> tuple[Iterated, list[float]]:
    """Iterates (5.3) until the residual is below `tolerance`, or no longer falls, or `most` iterations are done.

    Args:
        potential, e, masses, correction: as in `residual`, concrete: the number of iterations depends on them.
        tolerance: in units of energy.
        most: largest number of iterations.

    Returns:
        The iterated potential, and the residuals of 0, 1, … iterations.
    """
    found: list[float] = []
    for i in range(most + 1):
        found.append(float(residual(potential, e, masses, correction, i)))
        if found[-1] <= tolerance or (i > 1 and found[-1] >= found[-2]):
            break
    return Iterated(potential, masses, correction, len(found) - 1), found


def moved(e: Edges, d: Array, x: Array) -> Edges:
    """The bonds with other displacements and positions, for derivatives with respect to them."""
    return dataclasses.replace(e, d=d, x=x, space=None)


def element(left: Array, w: Array, right: Array) -> Array:
    """⟨left, w right⟩ over the last two axes of w."""
    return jnp.einsum("i,...ij,j->...", left.conj(), w, right)
