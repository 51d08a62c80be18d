"""Mollifiers η and their bond functions B(y) = ∫₀¹ η(y − s xⁿ − (1 − s) xᵐ) ds, clipped to the support and then exact.

With u = y − (xⁿ + xᵐ)/2, d = xⁿ − xᵐ and t = s − ½, a bond is u − t d, |t| ≤ ½, and |u − t d|² = c − 2bt + at² with
a = |d|², b = u·d, c = |u|²: the part inside a sphere is an interval of t. Then d·∇B = η(y − xᵐ) − η(y − xⁿ) to
rounding, which is all that the conservation laws ask. Components come first: u, d are (D, …).
"""

import abc
import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.polynomial.legendre import leggauss

from jaxmd_iz.checks import must
from jaxmd_iz.space import AbstractSpace


class AbstractMollifier(eqx.Module):
    """η ≥ 0 with ∫η = 1, η(y) = η(−y) and support |y| ≤ `radius`; 1/length^D."""

    dimensions: eqx.AbstractVar[int]
    radius: eqx.AbstractVar[float]

    @abc.abstractmethod
    def density(self, u: Float[Array, "D *b"]) -> Float[Array, "*b"]:
        """η(u)."""

    @abc.abstractmethod
    def bond(self, u: Float[Array, "D *b"], d: Float[Array, "D *c"]) -> Float[Array, "*b"]:
        """B at u from the midpoint of the bond d; shapes broadcast."""

    def images(self, space: AbstractSpace, reach: float) -> np.ndarray:
        """Lattice vectors, (I, D), that can bring a bond of length ≤ `reach` within the support."""
        return space.images(self.radius + reach / 2)


def _check(dimensions: int, epsilon: float) -> None:
    must(dimensions in (1, 2, 3), "dimensions", "be 1, 2 or 3", f"it is {dimensions}")
    must(0 < epsilon < math.inf, "epsilon", "be a positive length", f"it is {epsilon}")


def sphere_area(dimensions: int) -> float:
    """Area of the unit sphere in D dimensions: 2, 2π, 4π."""
    return 2 * math.pi ** (dimensions / 2) / math.gamma(dimensions / 2)


def dot(u: Float[Array, "D *b"], v: Float[Array, "D *c"]) -> Float[Array, "..."]:
    """Scalar product over the leading axis, unrolled; the other axes broadcast."""
    total = u[0] * v[0]
    for i in range(1, u.shape[0]):
        total = total + u[i] * v[i]
    return total


def clip_to_sphere(a: Array, b: Array, c: Array, radius: float) -> tuple[Array, Array]:
    """Interval of t ∈ [−½, ½] in which c − 2bt + at² < radius²; empty as (0, 0). Finite gradients everywhere."""
    outside = c - radius**2
    discriminant = b * b - a * outside
    crosses = (a > 0) & (discriminant > 0)
    root = jnp.sqrt(jnp.where(crosses, discriminant, 1.0))
    safe = jnp.where(crosses, a, 1.0)
    low = jnp.clip((b - root) / safe, -0.5, 0.5)
    high = jnp.clip((b + root) / safe, -0.5, 0.5)
    inside = (a <= 0) & (outside < 0)
    low = jnp.where(crosses, low, jnp.where(inside, -0.5, 0.0))
    high = jnp.where(crosses, high, jnp.where(inside, 0.5, 0.0))
    return low, high


def gauss(nodes: int) -> list[tuple[float, float]]:
    """Nodes and weights of Gauss–Legendre quadrature on [0, 1]."""
    x, w = leggauss(nodes)
    return [(float(p) / 2 + 0.5, float(q) / 2) for p, q in zip(x, w, strict=True)]


class Polynomial(AbstractMollifier):
    """η = C (1 − |y|²/ε²)^q for |y| < ε, C = Γ(D/2 + q + 1)/(π^{D/2} Γ(q + 1) ε^D); q + 1 Gauss nodes are exact.

    Good values: q = 2 (twice continuously differentiable away from the edge; Hardy's quartic), ε of one to three
    particle diameters.

    Args:
        epsilon: ε, length.
        dimensions: D.
        exponent: q ≥ 1.
    """

    epsilon: float = eqx.field(static=True)
    dimensions: int = eqx.field(static=True, default=3)
    exponent: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        _check(self.dimensions, self.epsilon)
        must(
            isinstance(self.exponent, int) and 1 <= self.exponent <= 12,
            "exponent",
            "be a whole number from 1 to 12",
            f"it is {self.exponent}",
        )

    @property
    def radius(self):
        """ε."""
        return self.epsilon

    @property
    def constant(self) -> float:
        """C."""
        d, q = self.dimensions, self.exponent
        return math.gamma(d / 2 + q + 1) / (math.pi ** (d / 2) * math.gamma(q + 1) * self.epsilon**d)

    def _profile(self, r2):
        return self.constant * jnp.maximum(1.0 - r2 / self.epsilon**2, 0.0) ** self.exponent

    def density(self, u):
        """C (1 − |u|²/ε²)^q."""
        return self._profile(dot(u, u))

    def bond(self, u, d):
        """Exact: the integrand is a polynomial of degree 2q in t on the clipped interval."""
        a, b, c = dot(d, d), dot(u, d), dot(u, u)
        low, high = clip_to_sphere(a, b, c, self.epsilon)
        rate, total = 1 / self.epsilon**2, jnp.zeros_like(low)
        for node, weight in gauss(self.exponent + 1):
            t = low + node * (high - low)  # within the sphere: nothing to cut off
            total = total + self.constant * weight * (1.0 - rate * (c + t * (a * t - 2 * b))) ** self.exponent
        return total * (high - low)


class Bump(AbstractMollifier):
    """η = C exp(−1/(1 − |y|²/ε²)), infinitely smooth; bonds by Gauss quadrature, which converges fast.

    Args:
        epsilon: ε, length.
        dimensions: D.
        nodes: Gauss nodes on the clipped bond; d·∇B meets η at the ends to 2e-5 of the peak
            with 24, to 3e-8 with 48, to 2e-11 with 64.
    """

    epsilon: float = eqx.field(static=True)
    dimensions: int = eqx.field(static=True, default=3)
    nodes: int = eqx.field(static=True, default=48)

    def __check_init__(self):
        _check(self.dimensions, self.epsilon)
        must(1 <= self.nodes <= 200, "nodes", "be from 1 to 200", f"it is {self.nodes}")

    @property
    def radius(self):
        """ε."""
        return self.epsilon

    @property
    def constant(self) -> float:
        """C, by 200 Gauss nodes (error below 1e-15)."""
        x, w = leggauss(200)
        r = (x + 1) / 2
        inside = np.exp(-1 / (1 - r**2)) * r ** (self.dimensions - 1)
        return 1 / (sphere_area(self.dimensions) * self.epsilon**self.dimensions * float(w @ inside) / 2)

    def _profile(self, r2):
        gap = 1.0 - r2 / self.epsilon**2
        within = gap > 1e-3  # exp(−1000) is zero
        return jnp.where(within, self.constant * jnp.exp(-1.0 / jnp.where(within, gap, 1.0)), 0.0)

    def density(self, u):
        """C exp(−1/(1 − |u|²/ε²))."""
        return self._profile(dot(u, u))

    def bond(self, u, d):
        """Gauss quadrature on the clipped interval."""
        a, b, c = dot(d, d), dot(u, d), dot(u, u)
        low, high = clip_to_sphere(a, b, c, self.epsilon)
        total = jnp.zeros_like(low)
        for node, weight in gauss(self.nodes):
            t = low + node * (high - low)
            total = total + weight * self._profile(c - 2 * b * t + a * t * t)
        return total * (high - low)


def _odd_moments(a: Array, b: Array, c: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """∫ r dt and ∫ r³ dt over [low, high], r² = c − 2bt + at² = h² + τ², τ = √a (t − b/a), in closed form.

    An empty interval counts as τ = 0: its τ can be large, and the primitive, of order τ⁴, need not be rounded alike
    at its two ends once compiled.
    """
    moves, filled = a > 0, high > low
    safe = jnp.where(moves, a, 1.0)
    length = jnp.sqrt(safe)
    h2 = jnp.maximum(c - b * b / safe, 0.0)
    off = h2 > 1e-14 * c  # on the line of the bond (always, for D = 1) the logarithm drops out
    h = jnp.sqrt(jnp.where(off, h2, 1.0))

    def primitive(t):
        tau = jnp.where(filled, length * (t - b / safe), 0.0)
        zero = ~off & (tau == 0)
        r = jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, jnp.where(off, h2, 0.0) + tau**2)))
        log = jnp.where(off, jnp.arcsinh(tau / h), 0.0)
        first = (tau * r + h2 * log) / 2
        third = (tau * (2 * tau**2 + 5 * h2) * r + 3 * h2**2 * log) / 8
        return first / length, third / length

    upper, lower = primitive(high), primitive(low)
    r0 = jnp.sqrt(jnp.where(moves, 1.0, jnp.maximum(c, jnp.finfo(c.dtype).tiny)))
    one = jnp.where(moves, upper[0] - lower[0], (high - low) * r0)
    three = jnp.where(moves, upper[1] - lower[1], (high - low) * r0**3)
    return one, three


class Trapezoid(AbstractMollifier):
    """Hardy's kernel: constant for |y| ≤ ε/2, linear to 0 at ε (8/(5πε³) in three dimensions); bonds in closed form.

    Args:
        epsilon: ε, length.
        dimensions: D.
    """

    epsilon: float = eqx.field(static=True)
    dimensions: int = eqx.field(static=True, default=3)

    def __check_init__(self):
        _check(self.dimensions, self.epsilon)

    @property
    def radius(self):
        """ε."""
        return self.epsilon

    @property
    def constant(self) -> float:
        """C from ∫η = 1."""
        d = self.dimensions
        inner = 0.5**d / d
        outer = 2 * ((1 - 0.5**d) / d - (1 - 0.5 ** (d + 1)) / (d + 1))
        return 1 / (sphere_area(d) * self.epsilon**d * (inner + outer))

    def density(self, u):
        """C min(1, 2(1 − |u|/ε))."""
        r2 = dot(u, u)
        near = r2 < (self.epsilon / 2) ** 2
        r = jnp.sqrt(jnp.where(near, 1.0, r2))
        return self.constant * jnp.where(near, 1.0, jnp.maximum(2.0 - 2.0 * r / self.epsilon, 0.0))

    def bond(self, u, d):
        """∫ over the outer sphere of 2 − 2r/ε, plus ∫ over the inner of 2r/ε − 1."""
        a, b, c = dot(d, d), dot(u, d), dot(u, u)
        low, high = clip_to_sphere(a, b, c, self.epsilon)
        inner_low, inner_high = clip_to_sphere(a, b, c, self.epsilon / 2)
        outer = 2 * (high - low) - 2 / self.epsilon * _odd_moments(a, b, c, low, high)[0]
        inner = 2 / self.epsilon * _odd_moments(a, b, c, inner_low, inner_high)[0] - (inner_high - inner_low)
        return self.constant * (outer + inner)


class Cubic(AbstractMollifier):
    """η = C (1 − 3(r/ε)² + 2(r/ε)³), C = 5/(4πε³/3) in three dimensions; bonds in closed form.

    Args:
        epsilon: ε, length.
        dimensions: D.
    """

    epsilon: float = eqx.field(static=True)
    dimensions: int = eqx.field(static=True, default=3)

    def __check_init__(self):
        _check(self.dimensions, self.epsilon)

    @property
    def radius(self):
        """ε."""
        return self.epsilon

    @property
    def constant(self) -> float:
        """C from ∫η = 1."""
        d = self.dimensions
        return 1 / (sphere_area(d) * self.epsilon**d * (1 / d - 3 / (d + 2) + 2 / (d + 3)))

    def density(self, u):
        """C (1 − 3ρ² + 2ρ³), ρ = |u|/ε."""
        s = dot(u, u) / self.epsilon**2
        within = s < 1
        positive = within & (s > 0)
        rho = jnp.where(positive, jnp.sqrt(jnp.where(positive, s, 1.0)), 0.0)
        return jnp.where(within, self.constant * (1.0 - 3.0 * s + 2.0 * s * rho), 0.0)

    def bond(self, u, d):
        """∫ of 1 − 3r²/ε² by two Gauss nodes (exact), of 2r³/ε³ in closed form."""
        a, b, c = dot(d, d), dot(u, d), dot(u, u)
        low, high = clip_to_sphere(a, b, c, self.epsilon)
        square = jnp.zeros_like(low)
        for node, weight in gauss(2):
            t = low + node * (high - low)
            square = square + weight * (c - 2 * b * t + a * t * t)
        _, cube = _odd_moments(a, b, c, low, high)
        even = (high - low) * (1.0 - 3.0 / self.epsilon**2 * square)
        return self.constant * (even + 2.0 / self.epsilon**3 * cube)
