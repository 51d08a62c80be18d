"""Pair potentials φ(r): Lennard-Jones, WCA, Morse, soft sphere.

The partition of section 3: λⁿ = ½ Σ_m φ(r_nm). Kernels take r², follow its dtype, and are zero with zero slope at
and beyond the cutoff. Far inside the core, where (σ/r)ⁿ passes 10²⁴, φ is held constant: nothing is NaN.
"""

import abc
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from jaxmd_iz.checks import must, one_of
from jaxmd_iz.potentials.base import AbstractPairPotential
from jaxmd_iz.potentials.elementary import between, reciprocal, root
from jaxmd_iz.shapes import Scalar

TRUNCATIONS = ("cut", "shift", "force_shift")
Table = Float[Array, ""] | Float[Array, "S S"]


def _real(value) -> Float[Array, "..."]:
    return jnp.asarray(value, float)


def _check_table(name: str, value: Array, positive: bool) -> None:
    square = value.ndim == 2 and value.shape[0] == value.shape[1] > 0
    but = f"its shape is {value.shape}"
    must(value.ndim == 0 or square, name, "be a number or an (S, S) matrix by species", but)
    if isinstance(value, Tracer):
        return
    number = np.asarray(value)
    must(bool(np.isfinite(number).all()), name, "be finite", "it has NaN or infinite entries")
    same = np.allclose(number, number.T, rtol=1e-12, atol=0.0)
    must(same, name, "be symmetric in the species", "entries (a, b) and (b, a) differ")
    lowest = float(number.min())
    word = "be positive" if positive else "not be negative"
    must(lowest > 0 or (lowest == 0 and not positive), name, word, f"it holds {lowest:g}")


def _at(table: Array, one: Array, other: Array) -> Array:
    return table if table.ndim == 0 else table[one, other]


class AbstractTruncatedPair(AbstractPairPotential):
    """A one-state φ from a kernel on r² and tables by species, truncated at `cutoff`.

    `truncation`: `cut` leaves φ; `shift` subtracts φ(r_c); `force_shift` subtracts φ(r_c) + (r − r_c) φ′(r_c).
    """

    truncation: eqx.AbstractVar[str]
    states: ClassVar[int] = 1
    own_bonds: ClassVar[bool] = True
    invariant: ClassVar[bool] = True
    complex: ClassVar[bool] = False
    triangles: ClassVar[bool] = False

    names: eqx.AbstractClassVar[tuple[str, ...]]  # of the tables: an energy, …, a length σ last
    core: eqx.AbstractVar[float]  # φ is constant below r² = core σ²

    def __check_init__(self):
        must(self.cutoff > 0, "cutoff", "be positive", f"it is {self.cutoff}")
        one_of(self.truncation, "truncation", TRUNCATIONS)
        finite = math.isfinite(self.cutoff) or self.truncation == "cut"
        must(finite, "cutoff", f"be finite for truncation `{self.truncation}`", "it is infinite")
        for name in self.names:
            _check_table(name, getattr(self, name), positive=name != self.names[0])
        sizes = {getattr(self, name).shape for name in self.names} - {()}
        names = ", ".join(self.names)
        must(len(sizes) < 2, names, "be for the same number of species", f"shapes are {sizes}")

    @abc.abstractmethod
    def kernel(self, r2: Array, *tables: Array) -> Array:
        """φ from r² and the parameters in the order of `names`, without truncation."""

    @property
    def level(self):
        """No one-particle term."""
        return 0.0

    def pair(self, r2, one, other):
        """φ(r), an array like r2."""
        tables = [getattr(self, name).astype(r2.dtype) for name in self.names]
        here = [_at(t, one, other) for t in tables]
        edge = jnp.asarray(self.cutoff**2, r2.dtype)
        inside = r2 < edge
        # a regular r² first, then the kernel, then the masks: gradients of all branches are finite
        least = jax.lax.stop_gradient(self.core * here[-1] ** 2)
        safe = between(r2, least, edge)
        phi = self.kernel(safe, *here)
        phi = jnp.where(r2 < least, self.kernel(jax.lax.stop_gradient(safe), *here), phi)
        if self.truncation != "cut":
            value, slope = jax.jvp(lambda s: self.kernel(s, *tables), (edge,), (jnp.ones_like(edge),))
            phi = phi - _at(value, one, other)
            if self.truncation == "force_shift":  # φ′(r_c) = 2 r_c ∂φ/∂(r²)
                slope = 2.0 * self.cutoff * _at(slope, one, other)
                phi = phi - (root(safe) - self.cutoff) * slope
        return jnp.where(inside, phi, 0.0)


class LennardJones(AbstractTruncatedPair):
    """Lennard-Jones: φ(r) = 4ε[(σ/r)¹² − (σ/r)⁶] (J. E. Lennard-Jones, 1924 and 1931).

    Args:
        epsilon: ε, an energy in any coherent units: a number or (S, S) by species.
        sigma: σ, a length: a number or (S, S).
        cutoff: r_c, a length; good values are 2.5 σ (liquids) to 4 σ (interfaces).
        truncation: `cut`, `shift` or `force_shift` (Stoddard and Ford, 1973).
        tail: whether long-range corrections are asked for, by `tail_energy` and `tail_pressure`.

    Raises:
        InputError: parameters that are not finite, positive and symmetric, or `tail` with a shifted φ.
    """

    epsilon: Table = eqx.field(converter=_real)
    sigma: Table = eqx.field(converter=_real)
    cutoff: float = eqx.field(static=True, converter=float)
    truncation: str = eqx.field(static=True, default="cut")
    tail: bool = eqx.field(static=True, default=False)
    names: ClassVar[tuple[str, ...]] = ("epsilon", "sigma")
    core: ClassVar[float] = 1e-4

    def __check_init__(self):
        if self.tail:
            self._check_tail()

    @classmethod
    def mixed(cls, epsilon, sigma, cutoff: float, truncation: str = "cut", tail: bool = False):
        """Several species by Lorentz–Berthelot mixing: ε_ab = √(ε_a ε_b), σ_ab = (σ_a + σ_b)/2.

        Args:
            epsilon: (S,) energies; the gradient with respect to one that is 0 is set to 0.
            sigma: (S,) lengths.
            cutoff, truncation, tail: as in the class.

        Raises:
            InputError: arrays that are not both (S,), or that the class refuses.
        """
        eps, sig = _real(epsilon), _real(sigma)
        fits = eps.ndim == 1 and eps.shape == sig.shape
        but = f"shapes are {eps.shape} and {sig.shape}"
        must(fits, "epsilon, sigma", "both be (S,), one number a species", but)
        valid = isinstance(eps, Tracer) or (np.asarray(eps) >= 0).all()
        must(valid, "epsilon", "not be negative", f"it is {eps}")
        product = eps[:, None] * eps[None, :]
        root = jnp.where(product > 0, jnp.sqrt(jnp.where(product > 0, product, 1.0)), 0.0)
        mean = 0.5 * (sig[:, None] + sig[None, :])
        return cls(epsilon=root, sigma=mean, cutoff=cutoff, truncation=truncation, tail=tail)

    def kernel(self, r2, epsilon, sigma):
        """4ε(s⁶ − s³) with s = σ²/r²."""
        s6 = (sigma * sigma * reciprocal(r2)) ** 3
        return 4.0 * epsilon * (s6 * s6 - s6)

    def _check_tail(self) -> None:
        remedy = "A shifted φ has no standard correction: take `cut`, or leave the tail out."
        cut, but = self.truncation == "cut", f"the truncation is `{self.truncation}`"
        must(cut, "tail", "go with truncation `cut`", but, remedy)

    def _tail(self, counts, twelve: float, six: float) -> Scalar:
        """Σ_ab N_a N_b 4ε(twelve σ¹²/9r_c⁹ − six σ⁶/3r_c³)."""
        self._check_tail()
        number = jnp.asarray(counts, self.epsilon.dtype)
        size = max(self.epsilon.shape + self.sigma.shape, default=None)
        fits = number.ndim == 1 and size in (None, number.size)
        must(fits, "counts", "hold one number a species", f"its shape is {number.shape}")
        s6, rc3 = self.sigma**6, self.cutoff**3
        term = 4.0 * self.epsilon * (twelve * s6 * s6 / (9.0 * rc3**3) - six * s6 / (3.0 * rc3))
        return jnp.sum(number[:, None] * number[None, :] * term)

    def tail_energy(self, counts, volume) -> Scalar:
        """Energy beyond r_c if g = 1 there, in 3D: U = (2π/V) Σ_ab N_a N_b ∫_{r_c}^∞ φ_ab r² dr.

        Args:
            counts: (S,) particles of each species.
            volume: V, a volume.

        Returns:
            () an energy (Allen and Tildesley, Computer Simulation of Liquids, 2017, section 2.8).

        Raises:
            InputError: a truncation other than `cut`, or counts that do not fit the parameters.
        """
        return 2.0 * math.pi / volume * self._tail(counts, 1.0, 1.0)

    def tail_pressure(self, counts, volume) -> Scalar:
        """Pressure beyond r_c if g = 1 there: P = −(2π/3V²) Σ_ab N_a N_b ∫_{r_c}^∞ φ′_ab r³ dr.

        Args, Raises: as in `tail_energy`.

        Returns:
            () a pressure, to add to a virial pressure without the impulse of the jump at r_c.
        """
        return 2.0 * math.pi / (3.0 * volume**2) * self._tail(counts, 12.0, 6.0)


class WCA(AbstractTruncatedPair):
    """Repulsive core: φ(r) = 4ε[(σ/r)¹² − (σ/r)⁶] + ε below 2^{1/6}σ, else 0.

    J. D. Weeks, D. Chandler, H. C. Andersen, J. Chem. Phys. 54, 5237 (1971).

    Args:
        epsilon: ε, an energy in any coherent units: a number or (S, S) by species.
        sigma: σ, a length: a number or (S, S).
        cutoff: range of neighbour lists, a length; 2^{1/6} max σ if left out. φ is cut there as well, so give a
            larger one when σ is to grow, as in a fit.

    Raises:
        InputError: parameters that are not finite, positive and symmetric, or a traced σ without a cutoff.
    """

    epsilon: Table
    sigma: Table
    cutoff: float = eqx.field(static=True)
    truncation: str = eqx.field(static=True)
    names: ClassVar[tuple[str, ...]] = ("epsilon", "sigma")
    core: ClassVar[float] = 1e-4

    def __init__(self, epsilon, sigma, cutoff: float | None = None):
        self.epsilon, self.sigma, self.truncation = _real(epsilon), _real(sigma), "cut"
        _check_table("sigma", self.sigma, positive=True)
        if cutoff is None:
            must(not isinstance(sigma, Tracer), "cutoff", "be given when `sigma` is traced", "it is None")
            cutoff = 2 ** (1 / 6) * float(np.max(sigma))
        self.cutoff = float(cutoff)

    def kernel(self, r2, epsilon, sigma):
        """4ε(s⁶ − s³) + ε with s = σ²/r² > 2^{−1/3}, else 0."""
        s2 = sigma * sigma * reciprocal(r2)
        s6 = s2**3
        return jnp.where(s6 > 0.5, 4.0 * epsilon * (s6 * s6 - s6) + epsilon, 0.0)


class Morse(AbstractTruncatedPair):
    """Morse: φ(r) = D[e^{−2a(r−r₀)} − 2e^{−a(r−r₀)}] (P. M. Morse, 1929).

    Args:
        depth: D, an energy in any coherent units: a number or (S, S) by species.
        steepness: a, an inverse length: a number or (S, S).
        distance: r₀, a length: a number or (S, S).
        cutoff: r_c, a length.
        truncation: `cut`, `shift` or `force_shift`.

    Raises:
        InputError: parameters that are not finite, positive and symmetric.
    """

    depth: Table = eqx.field(converter=_real)
    steepness: Table = eqx.field(converter=_real)
    distance: Table = eqx.field(converter=_real)
    cutoff: float = eqx.field(static=True, converter=float)
    truncation: str = eqx.field(static=True, default="cut")
    names: ClassVar[tuple[str, ...]] = ("depth", "steepness", "distance")
    core: ClassVar[float] = 1e-8

    def kernel(self, r2, depth, steepness, distance):
        """D y (y − 2) with y = e^{−a(r−r₀)}."""
        y = jnp.exp(-steepness * (jnp.sqrt(r2) - distance))
        return depth * y * (y - 2.0)


class SoftSphere(AbstractTruncatedPair):
    """Inverse power: φ(r) = ε(σ/r)ⁿ (Hoover et al., J. Chem. Phys. 52, 4931, 1970).

    Args:
        epsilon: ε, an energy in any coherent units: a number or (S, S) by species.
        sigma: σ, a length: a number or (S, S).
        exponent: n, a positive number; static, not differentiable.
        cutoff: r_c, a length.
        truncation: `cut`, `shift` or `force_shift`.

    Raises:
        InputError: parameters that are not finite, positive and symmetric.
    """

    epsilon: Table = eqx.field(converter=_real)
    sigma: Table = eqx.field(converter=_real)
    exponent: float = eqx.field(static=True, converter=float)
    cutoff: float = eqx.field(static=True, converter=float)
    truncation: str = eqx.field(static=True, default="cut")
    names: ClassVar[tuple[str, ...]] = ("epsilon", "sigma")

    def __check_init__(self):
        positive = 0 < self.exponent < math.inf
        must(positive, "exponent", "be positive and finite", f"it is {self.exponent}")

    @property
    def core(self):
        """10^{−48/n}."""
        return 10.0 ** (-48.0 / self.exponent)

    def kernel(self, r2, epsilon, sigma):
        """ε (σ²/r²)^{n/2}."""
        half = self.exponent / 2
        s2 = sigma * sigma * reciprocal(r2)
        return epsilon * (s2 ** int(half) if half == int(half) else s2**half)
