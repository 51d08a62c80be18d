"""External potentials V_b(x) = Σ_n v(xⁿ) of the conservation laws: sums over single particles.

V_b moves momentum and energy through the sources F and P (3.9), (3.13); it never enters λⁿ.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from jaxmd_iz.checks import must


def _real(value) -> Float[Array, "..."]:
    return jnp.asarray(value, float)


def _check(name: str, value: Array, most: int, positive: bool = False) -> None:
    """Refuses more than `most` axes and, where the numbers are known, what is infinite or negative."""
    word = "be a number or (D,)" if most else "be a number"
    must(value.ndim <= most, name, word, f"its shape is {value.shape}")
    if isinstance(value, Tracer):
        return
    number = np.asarray(value)
    must(bool(np.isfinite(number).all()), name, "be finite", f"it is {number}")
    must(not positive or bool((number >= 0).all()), name, "not be negative", f"it is {number}")


def _along(value: Array, x: Array) -> Array:
    """A number or (D,) as (1, D), in the dtype of x."""
    fits = value.ndim == 0 or value.shape == x.shape[-1:]
    but = f"its shape is {value.shape} for D = {x.shape[-1]}"
    must(fits, "external", "have parameters for the dimensions of x", but)
    return jnp.broadcast_to(value.astype(x.dtype), x.shape[-1:])[None, :]


class AbstractExternal(eqx.Module):
    """A potential on single particles, V_b(x) = Σ_n v(xⁿ)."""

    @abc.abstractmethod
    def energy(self, x: Float[Array, "n D"], species: Int[Array, " n"]) -> Float[Array, " n"]:
        """v(xⁿ) of every particle, (n,); V_b is the sum."""


class HarmonicTrap(AbstractExternal):
    """Harmonic trap: v(x) = ½ Σ_a k_a (x_a − c_a)².

    Args:
        stiffness: k, energy/length² in any coherent units: a number, or (D,) along each axis.
        centre: c, a length: a number or (D,).

    Raises:
        InputError: parameters that are not finite, or a negative stiffness.
    """

    stiffness: Float[Array, ""] | Float[Array, " D"] = eqx.field(converter=_real)
    centre: Float[Array, ""] | Float[Array, " D"] = eqx.field(converter=_real, default=0.0)

    def __check_init__(self):
        _check("stiffness", self.stiffness, 1, positive=True)
        _check("centre", self.centre, 1)

    def energy(self, x, species):
        """½ Σ_a k_a (x_a − c_a)², (n,)."""
        u = x - _along(self.centre, x)
        return 0.5 * jnp.sum(_along(self.stiffness, x) * u**2, axis=-1)


class QuarticTrap(AbstractExternal):
    """Quartic trap: v(x) = ¼ k |x − c|⁴.

    Args:
        stiffness: k, energy/length⁴ in any coherent units.
        centre: c, a length: a number or (D,).

    Raises:
        InputError: parameters that are not finite, or a negative stiffness.
    """

    stiffness: Float[Array, ""] = eqx.field(converter=_real)
    centre: Float[Array, ""] | Float[Array, " D"] = eqx.field(converter=_real, default=0.0)

    def __check_init__(self):
        _check("stiffness", self.stiffness, 0, positive=True)
        _check("centre", self.centre, 1)

    def energy(self, x, species):
        """¼ k |x − c|⁴, (n,)."""
        u2 = jnp.sum((x - _along(self.centre, x)) ** 2, axis=-1)
        return 0.25 * self.stiffness.astype(x.dtype) * u2**2


class UniformForce(AbstractExternal):
    """The same force on every particle: v(x) = −f · x.

    v is not periodic: in a periodic space the force is, but V_b jumps where positions are wrapped.

    Args:
        force: f, (D,), energy/length in any coherent units.

    Raises:
        InputError: a force that is not (D,) or not finite.
    """

    force: Float[Array, " D"] = eqx.field(converter=_real)

    def __check_init__(self):
        must(self.force.ndim == 1, "force", "be (D,)", f"its shape is {self.force.shape}")
        _check("force", self.force, 1)

    def energy(self, x, species):
        """−f · xⁿ, (n,)."""
        return -jnp.sum(_along(self.force, x) * x, axis=-1)


class Walls(AbstractExternal):
    """Two harmonic walls: v = 0 for lower ≤ x_a ≤ upper, ½ k (distance to that interval)² outside.

    Args:
        axis: a, 0 to D − 1.
        lower, upper: lengths; `-inf` or `inf` leaves a wall out.
        stiffness: k, energy/length² in any coherent units.

    Raises:
        InputError: a negative axis or stiffness, numbers that are not finite, or lower ≥ upper.
    """

    axis: int = eqx.field(static=True)
    lower: Float[Array, ""] = eqx.field(converter=_real)
    upper: Float[Array, ""] = eqx.field(converter=_real)
    stiffness: Float[Array, ""] = eqx.field(converter=_real)

    def __check_init__(self):
        must(self.axis in (0, 1, 2), "axis", "be 0, 1 or 2", f"it is {self.axis}")
        _check("stiffness", self.stiffness, 0, positive=True)
        shapes = f"shapes are {self.lower.shape} and {self.upper.shape}"
        must(self.lower.ndim == self.upper.ndim == 0, "lower, upper", "be numbers", shapes)
        if not isinstance(self.lower, Tracer) and not isinstance(self.upper, Tracer):
            low, up = float(self.lower), float(self.upper)
            must(low < up, "lower", "be below `upper`", f"they are {low:g} and {up:g}")

    def energy(self, x, species):
        """½ k (distance to [lower, upper] along the axis)², (n,)."""
        dimensions = x.shape[-1]
        must(self.axis < dimensions, "axis", f"be below D = {dimensions}", f"it is {self.axis}")
        along = x[:, self.axis]
        below = jnp.maximum(self.lower.astype(x.dtype) - along, 0.0)
        above = jnp.maximum(along - self.upper.astype(x.dtype), 0.0)
        return 0.5 * self.stiffness.astype(x.dtype) * (below**2 + above**2)


def external_gradient(
    external: AbstractExternal | None, x: Float[Array, "n D"], species: Int[Array, " n"]
) -> Float[Array, "n D"]:
    """∇_{xⁿ} V_b, (n, D); zero without an external potential.

    Args:
        external: V_b, or None.
        x: (n, D) positions.
        species: (n,).
    """
    if external is None:
        return jnp.zeros_like(x)
    return jax.grad(lambda at: jnp.sum(external.energy(at, species)))(x)
