"""Diabatic models, V(x) of d × d in an electron basis fixed in space: the two-state pair fluid of section 11."""

import math
from functools import partial
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from jaxmd_iz.checks import must, must_be_number
from jaxmd_iz.potentials.base import AbstractPairPotential, AbstractTwoStatePair
from jaxmd_iz.potentials.elementary import at_least, root
from jaxmd_iz.shapes import Scalar

ONSET = 0.8  # of the cutoff: where the switch begins


def _real(value) -> Float[Array, "..."]:
    return jnp.asarray(value, float)


class Gaussian(eqx.Module):
    """A Gaussian of the distance: g(r) = h exp(−(r − r₀)²/2w²).

    Args:
        amplitude: h, an energy in any coherent units, of either sign.
        width: w, a length.
        centre: r₀, a length.

    Raises:
        InputError: parameters that are not finite numbers, or a width that is not positive.
    """

    amplitude: Scalar = eqx.field(converter=_real)
    width: Scalar = eqx.field(converter=_real)
    centre: Scalar = eqx.field(converter=_real)

    def __check_init__(self):
        must_be_number("amplitude", self.amplitude)
        must_be_number("width", self.width, positive=True)
        must_be_number("centre", self.centre)

    def __call__(self, r: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """g(r), in the dtype of r."""
        u = (r - self.centre.astype(r.dtype)) * (1 / self.width.astype(r.dtype))
        return self.amplitude.astype(r.dtype) * jnp.exp(-0.5 * u * u)


def switch(r: Float[Array, "*b"], cutoff: float) -> tuple[Float[Array, "*b"], ...]:
    """1 below 0.8 r_c, 0 from r_c on, (1 − t)³(1 + 3t + 6t²) between them, and its first two derivatives.

    Args:
        r: distances.
        cutoff: r_c, a length; `inf` gives 1.

    Returns:
        the value, the first and the second derivative in r, continuous all three.
    """
    if math.isinf(cutoff):
        return jnp.ones_like(r), jnp.zeros_like(r), jnp.zeros_like(r)
    scale = 1.0 / ((1.0 - ONSET) * cutoff)
    a = (cutoff - r) * scale  # 1 − t
    a = jnp.where(a < 0.0, 0.0, jnp.where(a > 1.0, 1.0, a))
    rise = a * (1.0 - a)
    value = a * a * a * (10.0 - a * (15.0 - 6.0 * a))
    return value, -30.0 * scale * rise * rise, 60.0 * scale**2 * rise * (1.0 - 2.0 * a)


def _bump_of(order, cutoff, r, amplitude, width, centre):
    """A derivative in r, of order 0, 1 or 2, of a switched Gaussian."""
    apart, inverse = r - centre, 1 / (width * width)
    v = apart * inverse
    weight, slope, curvature = switch(r, cutoff)
    if order == 1:
        weight = slope - weight * v
    elif order == 2:
        weight = curvature - 2.0 * slope * v + weight * (v * v - inverse)
    return amplitude * weight * jnp.exp(-0.5 * apart * v)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _bump(order, cutoff, r, amplitude, width, centre):
    """The same; derivatives in r are those of the next order, so that all of them share one exponential."""
    return _bump_of(order, cutoff, r, amplitude, width, centre)


def _bump_moved(order, cutoff, primals, tangents):
    value, moved = _bump(order, cutoff, *primals), [not isinstance(t, SymbolicZero) for t in tangents]
    slope = jnp.zeros_like(value)
    if moved[0] and order < 2:
        slope, moved[0] = tangents[0] * _bump(order + 1, cutoff, *primals), False
    if any(moved):
        some = [k for k, t in enumerate(moved) if t]

        def of(*changed):
            return _bump_of(order, cutoff, *(changed[some.index(k)] if t else primals[k] for k, t in enumerate(moved)))

        slope = slope + jax.jvp(of, [primals[k] for k in some], [tangents[k] for k in some])[1]
    return value, slope


_bump.defjvp(_bump_moved, symbolic_zeros=True)


class TwoStateFluid(AbstractTwoStatePair):
    """Two-state pair fluid: V = Σ_{n<m} [φ(r) I + (1/n) [[0, c(r)], [c(r), δ(r)]]] + diag(0, Δ), section 11.

    Vⁿ takes half of each pair and diag(0, Δ/n): the gap stays of order Δ as n grows. c and δ are
    multiplied by `switch`, so that forces are continuous.

    Args:
        base: φ, a pair potential of one state, such as `LennardJones` or `Morse`.
        coupling: c, a `Gaussian`.
        shift: δ, a `Gaussian`.
        gap: Δ, an energy in any coherent units.
        particles: n, the number of particles.
        cutoff: range of c and δ, a length; that of `base` if left out.

    Raises:
        InputError: a base of several states, a gap that is not a finite number, no particles, or a
            cutoff that is not positive.
    """

    base: AbstractPairPotential
    coupling: Gaussian
    shift: Gaussian
    gap: Scalar
    particles: int = eqx.field(static=True)
    gaussian_cutoff: float = eqx.field(static=True)
    states: ClassVar[int] = 2
    own_bonds: ClassVar[bool] = True
    invariant: ClassVar[bool] = True
    complex: ClassVar[bool] = False
    triangles: ClassVar[bool] = False

    def __init__(
        self,
        base: AbstractPairPotential,
        coupling: Gaussian,
        shift: Gaussian,
        gap,
        particles: int,
        cutoff: float | None = None,
    ):
        must(base.states == 1, "base", "have one state", f"it has {base.states}")
        must(particles > 0, "particles", "be positive", f"it is {particles}")
        self.base, self.coupling, self.shift, self.gap = base, coupling, shift, _real(gap)
        self.particles = particles
        self.gaussian_cutoff = float(base.cutoff if cutoff is None else cutoff)
        but = f"it is {self.gaussian_cutoff}"
        must(self.gaussian_cutoff > 0, "cutoff", "be positive", but)
        must_be_number("gap", self.gap)

    @property
    def cutoff(self):
        """The larger of the ranges of φ and of c and δ."""
        return max(self.base.cutoff, self.gaussian_cutoff)

    @property
    def level(self):
        """diag(0, Δ/n), and the one-particle term of φ, if it has one."""
        base = jnp.asarray(self.base.level, self.gap.dtype)
        return jnp.diag(jnp.stack([base, base + self.gap / self.particles]))

    def components(self, r2, one, other):
        """φ + δ/2n, −δ/2n and c/n."""
        least = 1e-8 * jax.lax.stop_gradient(self.coupling.width.astype(r2.dtype)) ** 2
        r = root(at_least(r2, least))

        def bump(gaussian, factor):
            h, w, centre = (a.astype(r.dtype) for a in (gaussian.amplitude, gaussian.width, gaussian.centre))
            return _bump(0, self.gaussian_cutoff, r, h * (factor / self.particles), w, centre)

        half = bump(self.shift, 0.5)
        return self.base.pair(r2, one, other) + half, -half, bump(self.coupling, 1.0)
