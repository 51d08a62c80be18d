"""The Shin–Metiu model of section 11: one nucleus on a line and one electron on a grid (atomic units)."""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from jaxmd_iz.checks import must, one_of
from jaxmd_iz.potentials.base import AbstractPotential
from jaxmd_iz.shapes import Scalar

#: Published screening lengths (R_f, R_l, R_r), by the avoided crossings that follow one another.
CHOICES = {"one_crossing": (5.0, 3.1, 4.0), "two_crossings": (7.0, 4.4, 3.1)}
TERMS = 13  # of the series of erf(u)/u below ½: the next one is below 1e-17


def _real(value) -> Float[Array, "..."]:
    return jnp.asarray(value, float)


def screened(r: Float[Array, "*b"], length: Scalar) -> Float[Array, "*b"]:
    """erf(|r|/R)/|r|, smooth at r = 0, where it is 2/(√π R).

    Args:
        r: distances, of either sign.
        length: R.
    """
    u2 = (r / length) ** 2
    near = u2 < 0.25
    z = jnp.where(near, u2, 0.0)
    series = jnp.zeros_like(z)
    for k in reversed(range(TERMS)):  # (2/√π) Σ (−u²)ᵏ / k!(2k + 1)
        series = (-1.0) ** k / (math.factorial(k) * (2 * k + 1)) + z * series
    u = jnp.sqrt(jnp.where(near, 1.0, u2))
    far = jax.lax.erf(u) / u
    return jnp.where(near, 2.0 / math.sqrt(math.pi) * series, far) / length


def _kinetic(points: int, extent: float) -> np.ndarray:
    """−½ ∂²/∂r² between sinc functions on a grid of spacing h: π²/6h², or (−1)^{i−j}/h²(i − j)²."""
    h = 2.0 * extent / (points - 1)
    apart = np.arange(points)[:, None] - np.arange(points)[None, :]
    off = (-1.0) ** apart / np.where(apart == 0, 1, apart) ** 2
    return np.where(apart == 0, np.pi**2 / 6.0, off) / h**2


class ShinMetiu(AbstractPotential):
    """One ion at R between two fixed ones at ∓L/2, and an electron in a basis of N_e sinc functions on [−L_e, L_e].

    V = T + 1/|L/2 − R| + 1/|L/2 + R| − erf(|r − R|/R_f)/|r − R| − erf(|r + L/2|/R_l)/|r + L/2|
    − erf(|r − L/2|/R_r)/|r − L/2|, T = −½ ∂²/∂r², for |R| < L/2. The basis does not move, so V is exact in it.

    Source: S. Shin, H. Metiu, J. Chem. Phys. 102, 9285 (1995).

    Args:
        mobile: R_f, bohr; 5 or 7 in the published choices, see `ShinMetiu.named`.
        left: R_l, bohr; 3.1 or 4.4.
        right: R_r, bohr; 4.0 or 3.1.
        length: L, bohr.
        points: N_e, the number of states; with the default the three lowest levels are converged to 1e-10 hartree.
        extent: L_e, bohr; the spacing 2L_e/(N_e − 1) should be near 1 and L_e near 32.

    Raises:
        InputError: lengths that are not positive numbers, fewer than two points; at the first use, n ≠ 1 or D ≠ 1.
    """

    mobile: Scalar = eqx.field(converter=_real, default=5.0)
    left: Scalar = eqx.field(converter=_real, default=3.1)
    right: Scalar = eqx.field(converter=_real, default=4.0)
    length: Scalar = eqx.field(converter=_real, default=19.0)
    points: int = eqx.field(static=True, default=64)
    extent: float = eqx.field(static=True, default=32.0)
    mass: ClassVar[float] = 1836.0
    own_bonds: ClassVar[bool] = True  # and on xⁿ
    invariant: ClassVar[bool] = False
    complex: ClassVar[bool] = False
    confined: ClassVar[bool] = True  # by the fixed ions
    cutoff: ClassVar[float] = math.inf

    def __check_init__(self):
        for name in ("mobile", "left", "right", "length"):
            value = getattr(self, name)
            must(value.ndim == 0, name, "be a number", f"its shape is {value.shape}")
            positive = isinstance(value, Tracer) or 0 < float(value) < math.inf
            must(positive, name, "be positive and finite", f"it is {value}")
        must(self.points > 1, "points", "be at least 2", f"it is {self.points}")
        must(0 < self.extent < math.inf, "extent", "be positive and finite", f"it is {self.extent}")

    @classmethod
    def named(cls, choice: str, points: int = 64, extent: float = 32.0):
        """A published choice of (R_f, R_l, R_r): `one_crossing` (5, 3.1, 4) or `two_crossings` (7, 4.4, 3.1).

        Args:
            choice: its name; the least gaps of the two lowest levels are 4.7e-3 hartree at R = 1.9 and
                1.0e-3 at −5.7, those of the next two 2.3e-2 at −1.2 and 1.3e-2 at 1.85.
            points, extent: as in the class.

        Raises:
            InputError: an unknown name, or what the class refuses.
        """
        mobile, left, right = CHOICES[one_of(choice, "choice", CHOICES)]
        return cls(mobile=mobile, left=left, right=right, points=points, extent=extent)

    @property
    def states(self):
        """N_e."""
        return self.points

    def partition(self, e):
        """V¹ = V(R), (1, N_e, N_e)."""
        must(e.x.shape == (1, 1), "x", "be one particle on a line, (1, 1)", f"its shape is {e.x.shape}")
        here, dtype = e.x[0, 0], e.x.dtype
        half = self.length.astype(dtype) / 2.0
        r = jnp.asarray(np.linspace(-self.extent, self.extent, self.points), dtype)
        electron = -screened(r - here, self.mobile.astype(dtype))
        electron = electron - screened(r + half, self.left.astype(dtype)) - screened(r - half, self.right.astype(dtype))
        nuclei = 1.0 / jnp.abs(half - here) + 1.0 / jnp.abs(half + here)
        return (jnp.asarray(_kinetic(self.points, self.extent), dtype) + jnp.diag(electron + nuclei))[None]
