"""The matrices Wⁿ = Vⁿ + (κ/M_n) Gⁿ of the nonlinear eigenproblem (5.2)–(5.3), first iterate."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from jaxmd_iz import eigen
from jaxmd_iz.checks import one_of
from jaxmd_iz.potentials.base import AbstractPotential, matrix_gradient, matrix_partition
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
    whole = jnp.sum(vn, axis=0) if v is None else v
    g = jax.vmap(lambda a: eigen.coupling_square(whole, a))(matrix_gradient(potential, e))
    return vn + (k / masses).astype(g.dtype)[:, None, None] * g


def moved(e: Edges, d: Array, x: Array) -> Edges:
    """The bonds with other displacements and positions, for derivatives with respect to them."""
    return eqx.tree_at(lambda t: (t.d, t.x), e, (d, x))


def element(left: Array, w: Array, right: Array) -> Array:
    """⟨left, w right⟩ over the last two axes of w."""
    return jnp.einsum("i,...ij,j->...", left.conj(), w, right)
