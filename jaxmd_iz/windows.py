"""Mollifiers that are not balls: separable products, slabs (profiles along one axis) and Fourier modes of a cell."""

import itertools
import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from jaxmd_iz.checks import must
from jaxmd_iz.mollifiers import AbstractMollifier, Polynomial, dot, gauss
from jaxmd_iz.space import AbstractSpace, Periodic


class Separable(AbstractMollifier):
    """η = Π_a C₁ (1 − (y_a/ε)²)^q, a product over the axes; qD + 1 Gauss nodes on the clipped bond are exact.

    Args:
        epsilon: ε, half the edge of the cube of support, length.
        dimensions: D.
        exponent: q ≥ 1.
    """

    epsilon: float = eqx.field(static=True)
    dimensions: int = eqx.field(static=True, default=3)
    exponent: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        Polynomial(epsilon=self.epsilon, dimensions=self.dimensions, exponent=self.exponent)  # the same conditions

    @property
    def radius(self):
        """Half the diagonal of the cube, √D ε."""
        return self.epsilon * math.sqrt(self.dimensions)

    def density(self, u):
        """The product of one-dimensional polynomials."""
        one = Polynomial(epsilon=self.epsilon, dimensions=1, exponent=self.exponent)
        value = one.density(u[:1])
        for axis in range(1, self.dimensions):
            value = value * one.density(u[axis : axis + 1])
        return value

    def bond(self, u, d):
        """Exact on the part of the bond inside the cube."""
        shape = jnp.broadcast_shapes(u.shape[1:], d.shape[1:])
        low, high = jnp.full(shape, -0.5, u.dtype), jnp.full(shape, 0.5, u.dtype)
        inside = jnp.ones(shape, bool)
        for axis in range(self.dimensions):  # |u_a − t d_a| < ε
            moves = d[axis] != 0
            safe = jnp.where(moves, d[axis], 1.0)
            one, two = (u[axis] - self.epsilon) / safe, (u[axis] + self.epsilon) / safe
            low = jnp.where(moves, jnp.maximum(low, jnp.minimum(one, two)), low)
            high = jnp.where(moves, jnp.minimum(high, jnp.maximum(one, two)), high)
            inside = inside & (moves | (jnp.abs(u[axis]) < self.epsilon))
        length = jnp.where(inside & (high > low), high - low, 0.0)
        total = jnp.zeros_like(length)
        for node, weight in gauss(self.exponent * self.dimensions + 1):
            t = low + node * length
            total = total + weight * self.density(u - t[None] * d)
        return total * length


class Slab(AbstractMollifier):
    """η along one axis, averaged over the others: η₁(y·n̂)/area with a one-dimensional mollifier of any kind.

    Make it with `slab`. The vectors and tensors of the fields keep all D components.
    """

    profile: AbstractMollifier
    direction: tuple[float, ...] = eqx.field(static=True)
    axis: int = eqx.field(static=True)
    area: float = eqx.field(static=True)

    @property
    def dimensions(self):
        """D of the space."""
        return len(self.direction)

    @property
    def radius(self):
        """ε of the profile."""
        return self.profile.radius

    def _along(self, u):
        total = self.direction[0] * u[0]
        for i in range(1, len(self.direction)):
            total = total + self.direction[i] * u[i]
        return total[None]

    def density(self, u):
        """η₁(u·n̂)/area."""
        return self.profile.density(self._along(u)) / self.area

    def bond(self, u, d):
        """The bond function of the profile for (u·n̂, d·n̂), over the area."""
        return self.profile.bond(self._along(u), self._along(d)) / self.area

    def images(self, space, reach):
        """Images along the normal only: the others are averaged over."""
        if math.isinf(self.radius):  # a Fourier profile is periodic itself
            return np.zeros((1, self.dimensions))
        return space.images_along(self.axis, self.radius + reach / 2)


def slab(profile: AbstractMollifier, space: AbstractSpace, axis: int, area: float | None = None) -> Slab:
    """The slab average of a one-dimensional mollifier normal to a face of the cell.

    Args:
        profile: mollifier with dimensions = 1.
        space: free or periodic; its D is that of the fields.
        axis: cell vector (Cartesian axis in free space) that the profile follows.
        area: area over which to average; by default that of the cell's face. Needed in free space for D > 1.

    Returns:
        Slab.

    Raises:
        InputError: a profile that is not one-dimensional, an axis that is not there, a missing area.
    """
    must(profile.dimensions == 1, "profile", "have dimensions = 1", f"it has {profile.dimensions}")
    must(0 <= axis < space.dimensions, "axis", f"be below {space.dimensions}", f"it is {axis}")
    if area is None and isinstance(space, Periodic):
        area = space.volume / float(space.heights[axis])
    elif area is None and space.dimensions == 1:
        area = 1.0
    must(area is not None and area > 0, "area", "be a positive area for a slab in free space", f"it is {area}")
    assert area is not None
    return Slab(profile, space.normal(axis), axis, float(area))


class Fourier(AbstractMollifier):
    """η(y) = V⁻¹ Σ_k e^{−|k|²ε²/2} cos k·y over the modes of a cell: every law holds mode by mode.

    A Gaussian of width ε cut in Fourier space, so slightly negative in places when `modes` is small.

    Args:
        cell: (D, D) or (D,) as for `Periodic`.
        epsilon: width of the Gaussian, length; 0 for a plain truncated δ.
        modes: largest mode number along each cell vector.
    """

    cell: tuple[tuple[float, ...], ...] = eqx.field(static=True)
    epsilon: float = eqx.field(static=True)
    modes: int = eqx.field(static=True)

    def __init__(self, cell, epsilon: float, modes: int):
        must(modes >= 0, "modes", "be zero or more", f"it is {modes}")
        self.cell = Periodic(cell).cell
        self.epsilon = float(epsilon)
        self.modes = int(modes)

    @property
    def dimensions(self):
        """D of the cell."""
        return len(self.cell)

    @property
    def radius(self):
        """Infinite: the kernel is periodic itself."""
        return math.inf

    def _table(self):
        """Wave vectors with a positive leading number, and twice their weight over the volume."""
        space = Periodic(self.cell)
        reciprocal = 2 * np.pi * np.linalg.inv(space.matrix).T
        numbers = range(-self.modes, self.modes + 1)
        rows = [(0.0,) * self.dimensions]
        weights = [1.0 / space.volume]
        for m in itertools.product(numbers, repeat=self.dimensions):
            if m > (0,) * self.dimensions:
                k = np.asarray(m, float) @ reciprocal
                rows.append(tuple(k))
                weights.append(2 * float(np.exp(-(k @ k) * self.epsilon**2 / 2)) / space.volume)
        return np.array(rows), np.array(weights)

    def _sum(self, u, factor):
        """Σ_k weight cos(k·u) factor(k), one mode at a time."""
        total = jnp.zeros_like(dot(u, u))
        for k, weight in zip(*self._table(), strict=True):
            phase = sum(float(k[i]) * u[i] for i in range(self.dimensions))
            total = total + float(weight) * jnp.cos(phase) * factor(k)
        return total

    def density(self, u):
        """V⁻¹ Σ_k ŵ(k) cos k·u."""
        return self._sum(u, lambda k: 1.0)

    def bond(self, u, d):
        """V⁻¹ Σ_k ŵ(k) cos(k·u) sinc(k·d/2)."""

        def factor(k):
            half = sum(float(k[i]) * d[i] for i in range(self.dimensions)) / 2
            return jnp.sinc(half / math.pi)

        return self._sum(u, factor)

    def images(self, space, reach):
        """Only T = 0."""
        return np.zeros((1, self.dimensions))
