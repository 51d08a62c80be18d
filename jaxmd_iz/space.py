"""Space: free or periodic (triclinic), in D = 1, 2, 3, and the bonds of a configuration in it.

Interactions use one image, the nearest; mollifiers and bond functions use every image that reaches y.
"""

import abc
import itertools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact, Int

from jaxmd_iz.checks import fail, must


class Edges(eqx.Module):
    """Bonds n → m of one configuration, `K` slots a particle.

    `d[n, k]` = xⁿ − xᵐ with m = `to[n, k]`, in the image that the potential uses; it is used once, for everything.
    `back[n, k]` is the slot of row m that holds the opposite bond m → n. `half` numbers (flat, n·K + k) one bond
    of every opposite pair, so that a sum over `half` is a sum over n < m.
    `reach` bounds |d| over the real bonds (`inf` in free space); `dense` says that all pairs are present.
    """

    x: Float[Array, "n D"]
    species: Int[Array, " n"]
    d: Float[Array, "n K D"]
    to: Int[Array, "n K"]
    back: Int[Array, "n K"]
    mask: Bool[Array, "n K"]
    half: Int[Array, " P"]
    half_mask: Bool[Array, " P"]
    reach: float = eqx.field(static=True)
    dense: bool = eqx.field(static=True)
    space: Any = eqx.field(static=True, default=None)  # if `d` is what it makes of `x`, of all pairs or on a list

    @property
    def r2(self) -> Float[Array, "n K"]:
        """|d|², with 1 in empty slots so that powers and gradients of it stay finite."""
        return jnp.where(self.mask, jnp.sum(self.d**2, axis=-1), 1.0)


def pull_back(e: Edges, along: Inexact[Array, "n K *c"]) -> Inexact[Array, "n *c"]:
    """Σ over bonds that carries a derivative with respect to `d` to one with respect to x.

    ∂/∂xⁿ = Σ_k (∂/∂d[n, k] − ∂/∂d[m, back]), since d[n, k] = xⁿ − xᵐ. Gathers only, no scatter.

    Args:
        e: the bonds.
        along: derivative with respect to each `d[n, k]`, (n, K, …), zero in empty slots.

    Returns:
        (n, …).
    """
    mask = e.mask.reshape(e.mask.shape + (1,) * (along.ndim - 2))
    opposite = jnp.swapaxes(along, 0, 1) if e.dense else along[e.to, e.back]
    return jnp.sum(jnp.where(mask, along - opposite, 0.0), axis=1)


class AbstractSpace(eqx.Module):
    """A space knows displacements, the lattice images within a radius, and its volume."""

    dimensions: eqx.AbstractVar[int]

    @abc.abstractmethod
    def displacement(self, d: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
        """The nearest image of a difference of positions, (…, D)."""

    @abc.abstractmethod
    def wrap(self, d: tuple[Float[Array, "*b"], ...], rounding: Callable = jnp.round) -> tuple[Float[Array, "*b"], ...]:
        """The same for D components of any one shape: no axis of length D, for loops that want long rows.

        `rounding` is a function to the nearest integer.
        """

    @abc.abstractmethod
    def images(self, radius: float) -> np.ndarray:
        """Lattice vectors T, (I, D), for which |u + T| < `radius` is possible with u a nearest image."""

    @abc.abstractmethod
    def images_along(self, axis: int, radius: float) -> np.ndarray:
        """Lattice vectors T, (I, D), along cell vector `axis` alone, for slabs normal to it."""

    @abc.abstractmethod
    def normal(self, axis: int) -> tuple[float, ...]:
        """Unit normal of the face spanned by the cell vectors other than `axis`."""

    @abc.abstractmethod
    def largest_cutoff(self) -> float:
        """The largest interaction range for which the nearest image is the only one in range."""

    @abc.abstractmethod
    def longest(self) -> float:
        """A bound on the length of a nearest-image displacement."""

    def edges(self, x: Float[Array, "n D"], species: Int[Array, " n"]) -> Edges:
        """All pairs of a configuration: slot k of particle n holds particle k; its own slot is empty."""
        n = x.shape[0]
        columns = np.broadcast_to(np.arange(n)[None, :], (n, n))
        upper = np.flatnonzero(np.triu(np.ones((n, n), bool), 1))
        return Edges(
            x=x,
            species=species,
            d=self.displacement(x[:, None, :] - x[None, :, :]),
            to=jnp.asarray(columns),
            back=jnp.asarray(columns.T),
            mask=jnp.asarray(~np.eye(n, dtype=bool)),
            half=jnp.asarray(upper),
            half_mask=jnp.ones(upper.shape, bool),
            reach=self.longest(),
            dense=True,
            space=self,
        )


class Free(AbstractSpace):
    """Unbounded space of D dimensions."""

    dimensions: int = eqx.field(static=True, default=3)

    def __check_init__(self):
        must(self.dimensions in (1, 2, 3), "dimensions", "be 1, 2 or 3", f"it is {self.dimensions}")

    def displacement(self, d):
        """The difference itself."""
        return d

    def wrap(self, d, rounding=jnp.round):
        """The difference itself."""
        return d

    def images(self, radius):
        """Only T = 0."""
        return np.zeros((1, self.dimensions))

    def images_along(self, axis, radius):
        """Only T = 0."""
        return np.zeros((1, self.dimensions))

    def normal(self, axis):
        """The Cartesian unit vector."""
        return tuple(float(i == axis) for i in range(self.dimensions))

    def largest_cutoff(self):
        """Infinity."""
        return math.inf

    def longest(self):
        """Infinity."""
        return math.inf


class Periodic(AbstractSpace):
    """Periodic space with cell vectors in the rows of `cell`, orthorhombic or triclinic.

    Args:
        cell: (D, D) rows are the cell vectors, or (D,) edge lengths; numbers, not traced arrays.

    Raises:
        InputError: a cell that is not square, not finite or has no volume; edge lengths that are not positive.
    """

    cell: tuple[tuple[float, ...], ...] = eqx.field(static=True)
    dimensions: int = eqx.field(static=True)

    def __init__(self, cell):
        try:
            matrix = np.asarray(cell, dtype=float)
        except (TypeError, ValueError):
            fail("cell", "be D edge lengths or a D × D matrix of numbers", f"it is {str(cell)[:80]}")
        if matrix.ndim == 1:
            least = matrix.min(initial=np.inf)
            must(not least <= 0, "cell", "have edges of positive length", f"the shortest is {least:g}")
            matrix = np.diag(matrix)
        shape = matrix.shape
        must(
            matrix.ndim == 2 and shape[0] == shape[1] and shape[0] in (1, 2, 3),
            "cell",
            "be D edge lengths or a D × D matrix with D = 1, 2 or 3",
            f"its shape is {np.shape(cell)}",
        )
        must(bool(np.isfinite(matrix).all()), "cell", "be finite", "it has NaN or infinite entries")
        scale = np.prod(np.linalg.norm(matrix, axis=1))
        must(
            abs(np.linalg.det(matrix)) > 1e-10 * scale > 0,
            "cell",
            "have a volume",
            "its vectors are linearly dependent",
        )
        self.cell = tuple(tuple(float(c) for c in row) for row in matrix)
        self.dimensions = shape[0]

    @property
    def matrix(self) -> np.ndarray:
        """Cell vectors in rows, (D, D)."""
        return np.array(self.cell)

    @property
    def volume(self) -> float:
        """Volume (area, length) of the cell."""
        return float(abs(np.linalg.det(self.matrix)))

    @property
    def heights(self) -> np.ndarray:
        """Distance between opposite faces of the cell, (D,)."""
        return 1.0 / np.linalg.norm(np.linalg.inv(self.matrix), axis=0)

    def displacement(self, d):
        """Nearest image by rounding fractional coordinates; exact for |d| below half of every height."""
        if self.orthorhombic:
            edge, rate = (
                jnp.asarray(a, d.dtype).reshape((1,) * (d.ndim - 1) + (-1,)) for a in (self._edges, 1 / self._edges)
            )
            return d - edge * jnp.round(d * rate)
        cell = jnp.asarray(self.matrix, d.dtype)
        inverse = jnp.asarray(np.linalg.inv(self.matrix), d.dtype)
        return d - jnp.round(d @ inverse) @ cell

    def wrap(self, d, rounding=jnp.round):
        """Nearest image by rounding fractional coordinates, component by component."""
        if self.orthorhombic:
            return tuple(c - float(e) * rounding(c * float(1 / e)) for c, e in zip(d, self._edges, strict=True))
        inverse, axes = np.linalg.inv(self.matrix), range(self.dimensions)
        turns = [rounding(sum(float(inverse[a, k]) * d[a] for a in axes)) for k in axes]
        return tuple(d[a] - sum(float(self.matrix[k, a]) * turns[k] for k in axes) for a in axes)

    @property
    def orthorhombic(self) -> bool:
        """Whether the cell vectors lie along the axes."""
        return bool(np.count_nonzero(self.matrix - np.diag(np.diag(self.matrix))) == 0)

    @property
    def _edges(self):
        return np.diag(self.matrix)

    def images(self, radius):
        """Lattice vectors that bring a nearest image within `radius`, (I, D)."""
        heights = self.heights
        counts = [math.floor(radius / h + 0.5) for h in heights]
        orthogonal = np.allclose(self.matrix @ self.matrix.T, np.diag(np.diag(self.matrix @ self.matrix.T)))
        shifts = []
        for k in itertools.product(*(range(-c, c + 1) for c in counts)):
            gaps = np.maximum(np.abs(k) - 0.5, 0.0) * heights  # least distance across each pair of faces
            least = np.linalg.norm(gaps) if orthogonal else gaps.max()
            if least < radius:
                shifts.append(np.asarray(k, float) @ self.matrix)
        return np.array(shifts)

    def images_along(self, axis, radius):
        """Lattice vectors along cell vector `axis` that bring a nearest image within `radius` of a slab."""
        height = self.heights[axis]
        count = math.floor(radius / height + 0.5)
        return np.array([k * self.matrix[axis] for k in range(-count, count + 1)])

    def normal(self, axis):
        """Unit normal of the face spanned by the other cell vectors."""
        reciprocal = np.linalg.inv(self.matrix)[:, axis]
        return tuple(float(c) for c in reciprocal / np.linalg.norm(reciprocal))

    def largest_cutoff(self):
        """Half the smallest height."""
        return float(self.heights.min()) / 2

    def longest(self):
        """Half the sum of squares of the cell vectors, under a root, for a box; half their sum otherwise."""
        lengths = np.linalg.norm(self.matrix, axis=1)
        gram = self.matrix @ self.matrix.T
        if np.allclose(gram, np.diag(np.diag(gram))):
            return float(np.linalg.norm(lengths)) / 2
        return float(lengths.sum()) / 2
