"""Avoided crossings of one particle on a line: Tully's three, super-exchange, NaI (section 11), and a quartic well.

V¹ = V(x) at x of shape (1, 1), in an electron basis that does not move. V depends on the absolute position,
so gⁿ ≠ 0 and only the split `energy` applies. All but the last are flat at infinity, `confined = False`: a canonical
average of them needs a confining V_b. Atomic units.
"""

import abc
import dataclasses
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from jaxmd_iz.checks import must
from jaxmd_iz.potentials.base import AbstractPotential
from jaxmd_iz.shapes import Scalar
from jaxmd_iz.units import convert

ANGSTROM = convert(1.0, "length", "metal", "atomic")  # in bohr
ELECTRON_VOLT = convert(1.0, "energy", "metal", "atomic")  # in hartree
AMU = convert(1.0, "mass", "metal", "atomic")  # in electron masses


def _number(default: float):
    return eqx.field(converter=lambda value: jnp.asarray(value, float), default=default)


def _symmetric(first: Scalar, off: Scalar, second: Scalar) -> Float[Array, "2 2"]:
    return jnp.stack([jnp.stack([first, off]), jnp.stack([off, second])])


def _saturating(rate: Scalar, x: Scalar) -> Scalar:
    """sgn(x)(1 − e^{−rate |x|}): its slope is continuous, and `rate` at 0, in autodiff too."""
    side = jnp.where(x < 0, -1.0, 1.0).astype(x.dtype)
    return -side * jnp.expm1(-rate * side * x)


class AbstractOnALine(AbstractPotential):
    """V(x) of one particle on a line, from numbers in hartree and bohr; `mass` is the published one, in mₑ.

    Raises:
        InputError: parameters that are not finite numbers; at the first use, n ≠ 1 or D ≠ 1.
    """

    mass: eqx.AbstractClassVar[float]
    confined: eqx.AbstractClassVar[bool]
    own_bonds: ClassVar[bool] = True  # and on xⁿ
    invariant: ClassVar[bool] = False
    complex: ClassVar[bool] = False
    cutoff: ClassVar[float] = math.inf

    def __check_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            must(value.ndim == 0, field.name, "be a number", f"its shape is {value.shape}")
            finite = isinstance(value, Tracer) or math.isfinite(float(value))
            must(finite, field.name, "be finite", f"it is {value}")

    @abc.abstractmethod
    def matrix(self, x: Scalar) -> Float[Array, "d d"]:
        """V(x), (d, d), in the dtype of x."""

    def partition(self, e):
        """V¹ = V(x), (1, d, d)."""
        must(e.x.shape == (1, 1), "x", "be one particle on a line, (1, 1)", f"its shape is {e.x.shape}")
        same = jax.tree.map(lambda value: value.astype(e.x.dtype), self)
        return same.matrix(e.x[0, 0])[None]


class Tully1(AbstractOnALine):
    """Simple avoided crossing: V₁₁ = −V₂₂ = sgn(x) A(1 − e^{−B|x|}), V₁₂ = C e^{−Dx²}.

    Source: J. C. Tully, J. Chem. Phys. 93, 1061 (1990).

    Args:
        A, C: energies, hartree.
        B: 1/bohr.
        D: 1/bohr².
    """

    A: Scalar = _number(0.01)
    B: Scalar = _number(1.6)
    C: Scalar = _number(0.005)
    D: Scalar = _number(1.0)
    states: ClassVar[int] = 2
    mass: ClassVar[float] = 2000.0
    confined: ClassVar[bool] = False

    def matrix(self, x):
        """V(x), (2, 2); V₁₁″ jumps at 0, and with κ ≠ 0 so does ∇λ̄ (the slope from the right is given)."""
        first = self.A * _saturating(self.B, x)
        return _symmetric(first, self.C * jnp.exp(-self.D * x * x), -first)


class Tully2(AbstractOnALine):
    """Dual avoided crossing: V₁₁ = 0, V₂₂ = E₀ − A e^{−Bx²}, V₁₂ = C e^{−Dx²}.

    Source: J. C. Tully, J. Chem. Phys. 93, 1061 (1990).

    Args:
        A, C, E0: energies, hartree.
        B, D: 1/bohr².
    """

    A: Scalar = _number(0.1)
    B: Scalar = _number(0.28)
    C: Scalar = _number(0.015)
    D: Scalar = _number(0.06)
    E0: Scalar = _number(0.05)
    states: ClassVar[int] = 2
    mass: ClassVar[float] = 2000.0
    confined: ClassVar[bool] = False

    def matrix(self, x):
        """V(x), (2, 2)."""
        second = self.E0 - self.A * jnp.exp(-self.B * x * x)
        return _symmetric(jnp.zeros_like(x), self.C * jnp.exp(-self.D * x * x), second)


class Tully3(AbstractOnALine):
    """Extended coupling with reflection: V₁₁ = −V₂₂ = A, V₁₂ = B e^{Cx} for x < 0, B(2 − e^{−Cx}) for x > 0.

    Source: J. C. Tully, J. Chem. Phys. 93, 1061 (1990).

    Args:
        A, B: energies, hartree.
        C: 1/bohr.
    """

    A: Scalar = _number(6e-4)
    B: Scalar = _number(0.1)
    C: Scalar = _number(0.9)
    states: ClassVar[int] = 2
    mass: ClassVar[float] = 2000.0
    confined: ClassVar[bool] = False

    def matrix(self, x):
        """V(x), (2, 2); V₁₂″ jumps at 0, and with κ ≠ 0 so does ∇λ̄ (the slope from the right is given)."""
        return _symmetric(self.A, self.B * (1.0 + _saturating(self.C, x)), -self.A)


class SuperExchange(AbstractOnALine):
    """Super-exchange through a high state: V_ii = 0, Δ₂, Δ₃, V₁₂ = c₁₂ e^{−x²/2}, V₂₃ = c₂₃ e^{−x²/2}, V₁₃ = 0.

    Source: L. Wang, D. Trivedi, O. V. Prezhdo, J. Chem. Theory Comput. 10, 3598 (2014).

    Args:
        second, third: Δ₂ and Δ₃, hartree.
        coupling12, coupling23: c₁₂ and c₂₃, hartree.
    """

    second: Scalar = _number(0.01)
    third: Scalar = _number(0.005)
    coupling12: Scalar = _number(0.001)
    coupling23: Scalar = _number(0.01)
    states: ClassVar[int] = 3
    mass: ClassVar[float] = 2000.0
    confined: ClassVar[bool] = False

    def matrix(self, x):
        """V(x), (3, 3)."""
        zero, bell = jnp.zeros_like(x), jnp.exp(-0.5 * x * x)
        v12, v23 = self.coupling12 * bell, self.coupling23 * bell
        rows = [[zero, v12, zero], [v12, self.second, v23], [zero, v23, self.third]]
        return jnp.stack([jnp.stack(row) for row in rows])


class SodiumIodide(AbstractOnALine):
    """NaI, ionic X and covalent A, of the distance R = x > 0 in bohr, with the mass of Na–I reduced.

    V_X = [A₂ + (B₂/R)⁸] e^{−R/ρ} − e²/R − e²(λ₊ + λ₋)/2R⁴ − C₂/R⁶ − 2e²λ₊λ₋/R⁷ + ΔE₀,
    V_A = A₁ e^{−β₁(R−R₀)}, V_XA = A₁₂ e^{−β₁₂(R−R_x)²}; X is the first state.

    Source: V. Engel, H. Metiu, J. Chem. Phys. 90, 6116 (1989), after M. B. Faist, R. D. Levine,
    J. Chem. Phys. 64, 2953 (1976).

    Args:
        A1, A2, A12, gap: A₁, A₂, A₁₂ and ΔE₀, eV.
        B2, C2: eV^{1/8} Å and eV Å⁶.
        beta1, beta12: 1/Å and 1/Å².
        rho, R0, Rx: Å.
        plus, minus: polarisabilities λ₊ and λ₋, Å³.
        charge2: e², eV Å.
    """

    A1: Scalar = _number(0.813)
    beta1: Scalar = _number(4.08)
    R0: Scalar = _number(2.67)
    A2: Scalar = _number(2760.0)
    B2: Scalar = _number(2.398)
    C2: Scalar = _number(11.3)
    rho: Scalar = _number(0.3489)
    plus: Scalar = _number(0.408)
    minus: Scalar = _number(6.431)
    gap: Scalar = _number(2.075)
    A12: Scalar = _number(0.055)
    beta12: Scalar = _number(0.6931)
    Rx: Scalar = _number(6.93)
    charge2: Scalar = _number(14.399613877582553)
    states: ClassVar[int] = 2
    mass: ClassVar[float] = AMU * 22.98976928 * 126.90447 / (22.98976928 + 126.90447)
    confined: ClassVar[bool] = False

    def matrix(self, x):
        """V(R), (2, 2), in hartree."""
        r = x / ANGSTROM
        core = (self.A2 + (self.B2 / r) ** 8) * jnp.exp(-r / self.rho)
        induced = (self.plus + self.minus) / (2.0 * r**4) + 2.0 * self.plus * self.minus / r**7
        ionic = core - self.charge2 * (1.0 / r + induced) - self.C2 / r**6 + self.gap
        covalent = self.A1 * jnp.exp(-self.beta1 * (r - self.R0))
        off = self.A12 * jnp.exp(-self.beta12 * (r - self.Rx) ** 2)
        return ELECTRON_VOLT * _symmetric(ionic, off, covalent)


class QuarticCrossing(AbstractOnALine):
    """A quartic well with an avoided crossing at 0: V = ¼(x − x₀)⁴ I + c [[x, a], [a, −x]], least gap 2ca.

    The model on which the classical limit is measured in section 2, with gap 1: c = 1, a = x₀ = ½.

    Args:
        coupling: c, energy/length.
        offset: a, a length; 0 makes the levels cross.
        centre: x₀, a length.
    """

    coupling: Scalar = _number(1.0)
    offset: Scalar = _number(0.5)
    centre: Scalar = _number(0.5)
    states: ClassVar[int] = 2
    mass: ClassVar[float] = 1.0
    confined: ClassVar[bool] = True

    def matrix(self, x):
        """V(x), (2, 2)."""
        well, off = (x - self.centre) ** 4 / 4, self.coupling * self.offset
        return _symmetric(well + self.coupling * x, off, well - self.coupling * x)
