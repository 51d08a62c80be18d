"""Diabatic models, V(x) of d × d in an electron basis fixed in space: the two-state pair fluid of section 11."""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
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


def switch(r: Float[Array, "*b"], cutoff: float) -> Float[Array, "*b"]:
    """1 below 0.8 r_c, 0 from r_c on, (1 − t)³(1 + 3t + 6t²) between them: two continuous derivatives.

    Args:
        r: distances.
        cutoff: r_c, a length; `inf` gives 1.
    """
    if math.isinf(cutoff):
        return jnp.ones_like(r)
    rest = (cutoff - r) * (1.0 / ((1.0 - ONSET) * cutoff))  # 1 − t
    rest = jnp.where(rest > 1.0, 1.0, jnp.where(rest < 0.0, 0.0, rest))
    t = 1.0 - rest
    return rest * rest * rest * (1.0 + 3.0 * t + 6.0 * t * t)


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
        weight = switch(r, self.gaussian_cutoff) * (1 / self.particles)
        half = 0.5 * weight * self.shift(r)
        return self.base.pair(r2, one, other) + half, -half, weight * self.coupling(r)
