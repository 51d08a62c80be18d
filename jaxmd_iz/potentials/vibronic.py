"""Vibronic models (section 11): normal modes coupled linearly to electron states, and E×e Jahn–Teller.

Normal-mode models take x of shape (A, 1), "particle" α being the coordinate q_α of mode α. They have no
y-space: only energies, sum rules and weights make sense, `y_space = False`.
"""

import abc
import itertools
import math
from pathlib import Path
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from jaxmd_iz.checks import fail, must, nearest
from jaxmd_iz.potentials.base import AbstractPotential
from jaxmd_iz.shapes import Scalar

WIDTHS = {"epsilon": 3, "kappa": 4, "lambda": 5, "gamma": 6}  # numbers in a line of each section
STILL = 1e-6  # hartree: below it a mode is a translation or a rotation


def _real(value) -> Float[Array, "..."]:
    return jnp.asarray(value, float)


def _check(name: str, value: Array, positive: bool = False) -> None:
    if isinstance(value, Tracer):
        return
    must(bool(np.isfinite(np.asarray(value)).all()), name, "be finite", "it has NaN or infinite entries")
    least = float(np.min(np.asarray(value), initial=math.inf))
    must(least > 0 or not positive, name, "be positive", f"the smallest is {least:g}")


def _check_number(name: str, value: Array, positive: bool = False) -> None:
    must(value.ndim == 0, name, "be a number", f"its shape is {value.shape}")
    _check(name, value, positive)


class AbstractNormalModes(AbstractPotential):
    """V(q) = V₀ + Σ_α (½ k_α q_α² I + q_α L_α); mode α takes its own terms and V₀/A."""

    own_bonds: ClassVar[bool] = True  # and on xⁿ
    invariant: ClassVar[bool] = False
    complex: ClassVar[bool] = False
    confined: ClassVar[bool] = True
    y_space: ClassVar[bool] = False
    cutoff: ClassVar[float] = math.inf

    @abc.abstractmethod
    def terms(self) -> tuple[Float[Array, " A"], Float[Array, "A d d"], Float[Array, "d d"]]:
        """k (A,), L (A, d, d) symmetric, V₀ (d, d)."""

    @property
    @abc.abstractmethod
    def masses(self) -> Float[Array, " A"]:
        """Mass of each mode."""

    def partition(self, e):
        """Vⁿ = ½ k q² I + q L + V₀/A, (A, d, d)."""
        k, slopes, constant = (a.astype(e.x.dtype) for a in self.terms())
        count = k.shape[0]
        must(e.x.shape == (count, 1), "x", f"hold one coordinate a mode, ({count}, 1)", f"its shape is {e.x.shape}")
        q = e.x[:, :, None]
        eye = jnp.eye(self.states, dtype=e.x.dtype)[None]
        return 0.5 * k[:, None, None] * q * q * eye + q * slopes + (constant / count)[None]


class SpinBoson(AbstractNormalModes):
    """Spin–boson model: V = (E + Σ g_α q_α) σ_z + V σ_x + ½ Σ ω_α² q_α² I, modes of mass 1.

    ω_α = Ω tan((α − ½)π/2A), g_α = ω_α √(2λ/A): the A equal pieces of the Debye bath
    (π/2) Σ (g_α²/ω_α) δ(ω − ω_α) → 2λ ωΩ/(ω² + Ω²), whose reorganisation energy is 4λ here; k_B T = 1 goes with it.

    Source: A. J. Leggett et al., Rev. Mod. Phys. 59, 1 (1987); parameters as in section 11.

    Args:
        bias: E, an energy in any coherent units with ħ = 1.
        coupling: V, an energy.
        rate: Ω, a frequency.
        reorganisation: λ, an energy.
        modes: A.

    Raises:
        InputError: parameters that are not finite numbers, Ω ≤ 0 or λ ≤ 0, no modes; at the first use, x not (A, 1).
    """

    bias: Scalar = eqx.field(converter=_real, default=0.5)
    coupling: Scalar = eqx.field(converter=_real, default=0.5)
    rate: Scalar = eqx.field(converter=_real, default=0.1)
    reorganisation: Scalar = eqx.field(converter=_real, default=0.005)
    modes: int = eqx.field(static=True, default=100)
    states: ClassVar[int] = 2

    def __check_init__(self):
        for name in ("bias", "coupling", "rate", "reorganisation"):
            _check_number(name, getattr(self, name), positive=name in ("rate", "reorganisation"))
        must(self.modes > 0, "modes", "be positive", f"it is {self.modes}")

    @property
    def frequencies(self):
        """ω_α, (A,)."""
        return self.rate * jnp.asarray(np.tan(np.pi / 2 * (np.arange(self.modes) + 0.5) / self.modes), self.rate.dtype)

    def terms(self):
        """ω², g σ_z, E σ_z + V σ_x."""
        omega = self.frequencies
        z, x = (jnp.asarray(sigma, omega.dtype) for sigma in ([[1, 0], [0, -1]], [[0, 1], [1, 0]]))
        g = omega * jnp.sqrt(2.0 * self.reorganisation / self.modes)
        return omega**2, g[:, None, None] * z[None], self.bias * z + self.coupling * x

    @property
    def masses(self):
        """1."""
        return jnp.ones(self.modes)


class LinearVibronicCoupling(AbstractNormalModes):
    """Linear vibronic coupling: V = Σ_α (½ ω_α Q_α² I + Q_α L_α) + diag(ε), L_α with κ on the diagonal and λ off it.

    Q are dimensionless: mode α has mass 1/ω_α, so that it swings with ω_α (ħ = 1, hartree).

    Source: H. Köppel, W. Domcke, L. S. Cederbaum, Adv. Chem. Phys. 57, 59 (1984); as in SHARC:
    F. Plasser, S. Gómez, M. F. S. J. Menger, S. Mai, L. González, Phys. Chem. Chem. Phys. 21, 57 (2019).

    Args:
        frequencies: ω, (A,) hartree.
        epsilon: ε, (d,) vertical energies, hartree.
        linear: L, (A, d, d) symmetric, hartree.

    Raises:
        InputError: shapes that do not fit, frequencies that are not positive, or L not symmetric;
            at the first use, x not (A, 1).
    """

    frequencies: Float[Array, " A"] = eqx.field(converter=_real)
    epsilon: Float[Array, " d"] = eqx.field(converter=_real)
    linear: Float[Array, "A d d"] = eqx.field(converter=_real)

    def __check_init__(self):
        shapes = [a.shape for a in (self.frequencies, self.epsilon, self.linear)]
        fits = [len(s) for s in shapes] == [1, 1, 3] and shapes[2] == shapes[0] + 2 * shapes[1] and 0 not in shapes[2]
        must(fits, "frequencies, epsilon, linear", "be (A,), (d,) and (A, d, d)", f"shapes are {shapes}")
        for name in ("frequencies", "epsilon", "linear"):
            _check(name, getattr(self, name), positive=name == "frequencies")
        if not isinstance(self.linear, Tracer):
            same = np.array_equal(self.linear, np.swapaxes(self.linear, 1, 2))
            must(same, "linear", "be symmetric in the states", "entries (i, j) and (j, i) differ")

    @property
    def states(self):
        """d."""
        return self.epsilon.shape[0]

    def terms(self):
        """ω, L, diag(ε)."""
        return self.frequencies, self.linear, jnp.diag(self.epsilon)

    @property
    def masses(self):
        """1/ω_α."""
        return 1.0 / self.frequencies


class JahnTeller(AbstractPotential):
    """E×e Jahn–Teller, one particle in the plane: V = ½ρ² I + k [[x, y], [y, −x]], conical at ρ = 0.

    λ_± = ½ρ² ± kρ and |∇α|² = 1/ρ², all in dimensionless units.

    Source: H. C. Longuet-Higgins, U. Öpik, M. H. L. Pryce, R. A. Sack, Proc. R. Soc. A 244, 1 (1958).

    Args:
        coupling: k.

    Raises:
        InputError: a coupling that is not a finite number; at the first use, n ≠ 1 or D ≠ 2.
    """

    coupling: Scalar = eqx.field(converter=_real, default=1.0)
    states: ClassVar[int] = 2
    own_bonds: ClassVar[bool] = True  # and on xⁿ
    invariant: ClassVar[bool] = False
    complex: ClassVar[bool] = False
    confined: ClassVar[bool] = True
    cutoff: ClassVar[float] = math.inf

    def __check_init__(self):
        _check_number("coupling", self.coupling)

    def partition(self, e):
        """V¹ = V(x), (1, 2, 2)."""
        must(e.x.shape == (1, 2), "x", "be one particle in the plane, (1, 2)", f"its shape is {e.x.shape}")
        x, y = e.x[0, 0], e.x[0, 1]
        off_centre = jnp.stack([x, y, y, -x]).reshape(2, 2)
        return (0.5 * (x * x + y * y) * jnp.eye(2, dtype=x.dtype) + self.coupling.astype(x.dtype) * off_centre)[None]


def read_lvc(path: str | Path, multiplicity=1, frequencies=None, ignore_spin_orbit=False) -> LinearVibronicCoupling:
    """The model of one spin multiplicity in a SHARC `LVC.template`, without its modes of zero frequency.

    The file names V0.txt, counts the states of each multiplicity, and has the sections `epsilon` (multiplicity,
    state, value), `kappa` (…, state, mode, value) and `lambda` (…, state, state, mode, value), each after the
    number of its lines; all count from 1, values are in hartree. Dipoles and other properties are skipped.

    Args:
        path: the file.
        multiplicity: 1 singlet, 2 doublet, ….
        frequencies: ω of every mode, hartree; by default those of V0.txt, which is looked for beside the file.
        ignore_spin_orbit: leave spin–orbit couplings out, so that no multiplicity changes.

    Returns:
        LinearVibronicCoupling.

    Raises:
        InputError: a file that is missing or not in this format, quadratic terms (`gamma`), spin–orbit couplings
            that are not ignored, a multiplicity without states, or couplings to a mode that does not swing.
    """
    lines = _lines(path)
    _fits(len(lines) > 1, "name V0.txt and count the states in its first two lines", f"`{path}` is too short")
    counts = _numbers(lines[1], int)
    size = counts[multiplicity - 1] if 0 < multiplicity <= len(counts) else 0
    must(size > 0, "multiplicity", "have states", f"it is {multiplicity} and the file counts {counts}")
    if frequencies is None:
        frequencies = _frequencies(Path(path).parent / lines[0][1])
    omega = np.asarray(frequencies, float)
    real = omega.ndim == 1 and bool((omega > -STILL).all())
    must(real, "frequencies", "be (A,), none imaginary", f"they are {omega}")
    epsilon, linear = np.zeros(size), np.zeros((omega.size, size, size))
    for n, kind, index, value in _entries(lines[2:], sum((m + 1) * c for m, c in enumerate(counts))):
        _fits(kind != "gamma", "be linear in the modes", f"line {n} holds a quadratic term (`gamma`)")
        if kind == "soc":
            remedy = "Take it out of the file, or call `read_lvc` with `ignore_spin_orbit`, to leave it out."
            _fits(not value or ignore_spin_orbit, "have no spin–orbit coupling", f"line {n} couples spins", remedy)
        elif index[0] == multiplicity:
            states = [i - 1 for i in index[1 : 3 if kind == "lambda" else 2]]
            known = all(0 <= i < size for i in states) and len(set(states)) == len(states)
            _fits(known, f"name (different) states from 1 to {size}", f"line {n} names {[i + 1 for i in states]}")
            if kind == "epsilon":
                epsilon[states[0]] += value
                continue
            mode = index[-1] - 1
            swings = 0 <= mode < omega.size and (omega[mode] > STILL or value == 0)
            _fits(swings, "couple modes of positive frequency", f"line {n} couples mode {mode + 1} of {omega.size}")
            for i, j in {(states[0], states[-1]), (states[-1], states[0])}:
                linear[mode, i, j] += value
    return LinearVibronicCoupling(omega[omega > STILL], epsilon, linear[omega > STILL])


def _fits(condition, requirement: str, but: str, remedy: str = "") -> None:
    must(bool(condition), "path", requirement, but, remedy)


def _lines(path: str | Path) -> list[tuple[int, str]]:
    """Numbered lines that say something."""
    _fits(Path(path).is_file(), "be a file", f"`{path}` is none")
    text = (line.split("#")[0].strip() for line in Path(path).read_text().splitlines())
    return [(number, line) for number, line in enumerate(text, 1) if line]


def _numbers(line: tuple[int, str], kind) -> list:
    try:
        return [kind(word) for word in line[1].split()]
    except ValueError:
        fail("path", "hold numbers there", f"line {line[0]} is `{line[1]}`")


def _frequencies(path: Path) -> list[float]:
    remedy = "Put V0.txt beside the template, or call `read_lvc` with `frequencies`."
    _fits(path.is_file(), "lie beside its V0.txt", f"`{path}` is no file", remedy)
    at = [after for (_, line), after in itertools.pairwise(_lines(path)) if line.lower() == "frequencies"]
    _fits(at, "have a V0.txt with `Frequencies`", f"`{path}` has none", remedy)
    return _numbers(at[0], float)


def _entries(lines: list[tuple[int, str]], spins: int):
    """(line, section, indices, value) of the sections; a row of the spin–orbit matrix gives its largest entry."""
    while lines:
        number, name = lines[0][0], lines[0][1].lower()
        words, width = name.split(), WIDTHS.get(name)
        if width or words[0] == "multipolar":
            _fits(lines[1:], f"count the lines of `{name}`", f"it ends with line {number}")
            count, start = _numbers(lines[1], int)[0], 2
        else:
            matrix = len(words) == 2 and words[1] in ("r", "i")
            _fits(matrix, "have known sections", f"line {number} is `{name}`", nearest(name, WIDTHS))
            count, start = spins, 1
        rows, lines = lines[start : start + count], lines[start + count :]
        _fits(len(rows) == count, f"have {count} lines in `{name}`", f"{len(rows)} come after line {number}")
        for row in rows if width or words[0] == "soc" else ():
            numbers = _numbers(row, float)
            if not width:
                yield row[0], "soc", [], max(map(abs, numbers))
                continue
            fits = len(numbers) == width and all(v.is_integer() for v in numbers[:-1])
            _fits(fits, f"have {width - 1} indices and a value in `{name}`", f"line {row[0]} is `{row[1]}`")
            yield row[0], name, [int(v) for v in numbers[:-1]], numbers[-1]
