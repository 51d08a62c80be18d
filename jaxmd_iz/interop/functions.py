"""Potentials from functions as jax-md has them, and spaces in its form. jax-md itself is not needed.

jax-md (S. S. Schoenholz and E. D. Cubuk, NeurIPS 2020) knows energies x → () or, with `per_particle=True`, x → (n,),
pair functions r → φ(r), and displacement functions (xᵃ, xᵇ) → xᵃ − xᵇ in the nearest image.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmd_iz.checks import must
from jaxmd_iz.potentials.base import AbstractPairPotential, FromFunction
from jaxmd_iz.potentials.elementary import between, root
from jaxmd_iz.space import AbstractSpace, Periodic

CORE = 256  # φ is constant below r_c/CORE


class _Split(eqx.Module):
    """A function as arrays, which are traced, and all the rest of it, which is not."""

    arrays: Any
    rest: Any = eqx.field(static=True)
    apart: Float[Array, " 1"] = eqx.field(default_factory=lambda: jnp.zeros(1))
    # no number: kernels for GPUs refuse such parameters, and with them code whose operations they may not know

    def __call__(self, r):
        """The function's value."""
        return eqx.combine(self.arrays, self.rest)(r)


def _split(function: Any) -> Any:
    return function if isinstance(function, _Split) else _Split(*eqx.partition(function, eqx.is_array))


class PairFunction(AbstractPairPotential):
    """A pair potential of one species from φ(r): `jax_md.energy.lennard_jones`, `morse`, or one of your own.

    Unlike an energy of all positions it knows its bonds: neighbour lists, every split and the virial come with it.

    Args:
        function: r ↦ φ(r) for arrays of any shape, energy and length in coherent units; a pure JAX function, or an
            `equinox.Module` whose parameters then have gradients. It is cut at r_c: let it end there smoothly, as with
            `jax_md.energy.multiplicative_isotropic_cutoff`, where energy has to be kept. Below r_c/256 it is constant.
        cutoff: r_c, a length.

    Raises:
        InputError: a cutoff that is not positive and finite, or a function that changes the shape.
    """

    function: Callable[[Array], Array] = eqx.field(converter=_split)
    cutoff: float = eqx.field(static=True, converter=float)
    states: ClassVar[int] = 1
    own_bonds: ClassVar[bool] = True
    invariant: ClassVar[bool] = True
    complex: ClassVar[bool] = False
    triangles: ClassVar[bool] = False
    level: ClassVar[float] = 0.0  # type: ignore[misc]

    def __check_init__(self):
        good = math.isfinite(self.cutoff) and self.cutoff > 0
        must(good, "cutoff", "be positive and finite", f"it is {self.cutoff}")
        rest = self.function.rest  # type: ignore[attr-defined]
        must(callable(rest), "function", "be a function of r", f"it is a {type(rest).__name__}")

    def pair(self, r2, one, other):
        """φ(r), an array like r2, 0 from the cutoff on."""
        edge = jnp.asarray(self.cutoff**2, r2.dtype)
        phi = self.function(root(between(r2, edge / CORE**2, edge)))
        must(phi.shape == r2.shape, "function", f"return shape {r2.shape} as its argument", f"it returned {phi.shape}")
        return jnp.where(r2 < edge, phi, 0.0).astype(r2.dtype)


def from_jax_md(energy: Any, evenly: bool = False, invariant: bool = True) -> FromFunction:
    """A potential from an energy function of jax-md, or from any of that signature.

    Over `FromFunction` it adds that a total energy () may be given, spread evenly over the particles on request: forces
    and, with split `min_norm`, momentum and stress then are those of the energy; E and q are fields of that spreading.

    Args:
        energy: x (n, D) ↦ (n,), as with `per_particle=True`, or (). Bind further arguments with `functools.partial`. It
            brings its own displacement function, which has to be that of the space: `displacement_and_shift`.
        evenly: accept a total energy, λⁿ = E/n.
        invariant: whether translations change nothing; jax-md's functions of displacements have it so.

    Returns:
        The potential; evaluated on all pairs, with a full Jacobian. For pair functions `PairFunction` is faster.

    Raises:
        InputError: when evaluated: another shape, or a total without `evenly`.
    """
    must(callable(energy), "energy", "be a function of the positions", f"it is a {type(energy).__name__}")

    def partition(x):
        value = jnp.asarray(energy(x))
        if value.shape == ():
            remedy = "Ask for `per_particle=True`, or pass `evenly=True`: E and q then mean little."
            must(evenly, "energy", f"return one energy a particle, shape {x.shape[:1]}", "it returned a total", remedy)
            return jnp.broadcast_to(value / x.shape[0], x.shape[:1])
        must(value.shape == x.shape[:1], "energy", f"return shape {x.shape[:1]} or ()", f"it returned {value.shape}")
        return value

    return FromFunction(partition, invariant=invariant)


def displacement_and_shift(space: AbstractSpace) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The space in jax-md's form, as `jax_md.space.periodic_general` returns it, with the images used here.

    Args:
        space: free or periodic; positions are Cartesian lengths, not fractions of the cell.

    Returns:
        displacement(xᵃ (D,), xᵇ (D,)) → (D,), the nearest image of xᵃ − xᵇ, and shift(x (…, D), dx) → x + dx, put
        back into the cell. Further keywords, which jax-md passes on, are ignored.
    """

    def displacement(a: Float[Array, " D"], b: Float[Array, " D"], **_: Any) -> Float[Array, " D"]:
        return space.displacement(a - b)

    def shift(x: Float[Array, "*b D"], dx: Float[Array, "*b D"], **_: Any) -> Float[Array, "*b D"]:
        if not isinstance(space, Periodic):
            return x + dx
        moved, cell = x + dx, jnp.asarray(space.matrix, x.dtype)
        return moved - jnp.floor(moved @ jnp.linalg.inv(cell)) @ cell

    return displacement, shift
