"""Basis sets of contracted s-type Gaussians, and the constants that carry primitives to orbitals.

Facts: the exponents and coefficients of STO-3G are those of Hehre, Stewart and Pople (1969). `even-tempered` holds
exponents αβᵏ, k = 0 … K − 1, uncontracted; α and β minimise the energy of the neutral atom in its own set (full CI).
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmd_iz.checks import fail, must, one_of

SYMBOLS = ("H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne")

#: A contracted Gaussian: pairs of exponent (bohr⁻²) and coefficient of the normalised primitive.
Shell: TypeAlias = tuple[tuple[float, float], ...]
#: The shells of each element, (Z, shells): hashable, so that it can be a static field.
BasisData: TypeAlias = tuple[tuple[int, tuple[Shell, ...]], ...]


def _shell(exponents: Sequence[float], coefficients: Sequence[float]) -> Shell:
    return tuple(zip(exponents, coefficients, strict=True))


_FIRST, _SECOND = (0.15432897, 0.53532814, 0.44463454), (-0.09996723, 0.39951283, 0.70011547)
STO_3G: BasisData = (
    (1, (_shell((3.42525091, 0.62391373, 0.1688554), _FIRST),)),
    (2, (_shell((6.36242139, 1.158923, 0.31364979), _FIRST),)),
    (3, (_shell((16.119575, 2.9362007, 0.7946505), _FIRST), _shell((0.6362897, 0.1478601, 0.0480887), _SECOND))),
)


def atomic_number(element: int | str) -> int:
    """Z of an element given by number or symbol.

    Raises:
        InputError: a symbol that is not one of the first ten elements, or a number that is not positive.
    """
    if isinstance(element, str):
        return SYMBOLS.index(one_of(element, "charges", SYMBOLS)) + 1
    whole = element == int(element) and element > 0
    must(whole, "charges", "be positive whole numbers or symbols", f"one is {element}")
    return int(element)


def even_tempered(sets: Mapping[int | str, tuple[float, float, int]]) -> BasisData:
    """Uncontracted s functions with exponents αβᵏ, k = 0 … K − 1, for each element.

    Good values for H: (0.163, 4.88, 3) gives the atom −0.4958 hartree, (0.1348, 4.074, 4) −0.49875,
    (0.1042, 3.258, 6) −0.49984.

    Args:
        sets: element (number or symbol) ↦ smallest exponent α in bohr⁻², ratio β > 1, number K.

    Returns:
        Data for `Electrons(basis=…)`.

    Raises:
        InputError: an exponent, ratio or number that is out of range, or an unknown element.
    """
    data = []
    for element, (smallest, ratio, number) in sets.items():
        name = f"sets[{element!r}]"
        but = f"it is {(smallest, ratio, number)}"
        must(smallest > 0 and ratio > 1 and number >= 1, name, "be (α > 0, β > 1, K ≥ 1)", but)
        shells = tuple(((float(smallest * ratio**k), 1.0),) for k in range(number))
        data.append((atomic_number(element), shells))
    return tuple(data)


#: Energies of the atoms, s functions only: H −0.49875, He −2.8757 (limit −2.8790), Li −7.4452 (limit −7.449) hartree.
EVEN_TEMPERED = even_tempered({1: (0.1348, 4.074, 4), 2: (0.2613, 3.992, 5), 3: (0.0402, 3.553, 8)})
BASES: dict[str, BasisData] = {"sto-3g": STO_3G, "even-tempered": EVEN_TEMPERED}


def basis_data(basis: str | Mapping | tuple) -> BasisData:
    """The data of a basis given by name, or by element ↦ shells, each a list of (exponent, coefficient).

    Raises:
        InputError: an unknown name, or shells that do not hold pairs of numbers with positive exponents.
    """
    if isinstance(basis, str):
        return BASES[one_of(basis, "basis", BASES)]
    items = basis.items() if isinstance(basis, Mapping) else basis
    data = []
    for element, shells in items:
        try:
            read = tuple(tuple((float(a), float(c)) for a, c in shell) for shell in shells)
        except (TypeError, ValueError):
            fail("basis", "map elements to lists of shells, lists of (exponent, coefficient)", f"it has {shells!r}")
        good = bool(read) and all(shell and all(a > 0 for a, _ in shell) for shell in read)
        must(good, "basis", "hold shells with positive exponents", f"of element {element} it has {read}")
        data.append((atomic_number(element), read))
    return tuple(data)


@dataclass(frozen=True, eq=False)
class Basis:
    """The orbitals χ_a of a molecule in terms of primitives, which are numbered orbital by orbital.

    Attributes:
        exponents: (P,) of the primitives.
        homes: (m,) nucleus of each orbital.
        left: (Q, n) 1 at the nucleus of the first primitive of each product: times x, its centre.
        right: (Q, n) the same of the second primitive.
        pairs: (2, Q) the primitives of each product, the first ≤ the second.
        contraction: (m, m, Q) from products of primitives to those of orbitals.
    """

    exponents: np.ndarray
    homes: np.ndarray
    left: np.ndarray
    right: np.ndarray
    pairs: np.ndarray
    contraction: np.ndarray

    @property
    def size(self) -> int:
        """m, the number of orbitals."""
        return len(self.homes)

    def contract(self, values: Float[Array, "*b Q"]) -> Float[Array, "*b m m"]:
        """One-electron integrals over orbitals, symmetric, from those over products of primitives."""
        return jnp.einsum("...Q,abQ->...ab", values, jnp.asarray(self.contraction, values.dtype))

    def onto(self, c: Float[Array, "m m"]) -> Float[Array, "mm Q"]:
        """From products of primitives to those of the orbitals φ_p = Σ_a χ_a c_ap, (m², Q)."""
        contraction = jnp.asarray(self.contraction, c.dtype)
        return jnp.einsum("ap,bq,abQ->pqQ", c, c, contraction).reshape(self.size**2, -1)

    def contract_odd(self, values: Float[Array, "Q D"]) -> Float[Array, "m m D"]:
        """⟨χ_a, ∇_b χ_b⟩, antisymmetric in a and b, from ⟨left, ∇ right⟩ over primitives."""
        order = np.arange(self.size)
        odd = np.sign(order[None, :] - order[:, None])[:, :, None] * self.contraction
        return jnp.einsum("abQ,QD->abD", jnp.asarray(odd, values.dtype), values)


@functools.lru_cache(maxsize=64)
def molecule(charges: tuple[int, ...], data: BasisData) -> Basis:
    """The basis of a molecule, normalised: every orbital on nucleus n before those on n + 1.

    Args:
        charges: (n,) Z_n.
        data: shells by element.

    Raises:
        InputError: an element that the basis does not hold.
    """
    shells = dict(data)
    for z in charges:
        known = ", ".join(SYMBOLS[k - 1] if k <= len(SYMBOLS) else str(k) for k in shells)
        must(z in shells, "charges", f"be elements that the basis holds ({known})", f"one is {z}")
    orbitals = [(n, np.array(shell).T) for n, z in enumerate(charges) for shell in shells[z]]
    coefficients = [_normalised(*shell) for _, shell in orbitals]
    exponents = np.concatenate([shell[0] for _, shell in orbitals])
    sizes = [len(c) for c in coefficients]
    owner = np.repeat(np.arange(len(orbitals)), sizes)
    flat = np.concatenate(coefficients)
    homes = np.array([n for n, _ in orbitals])
    pairs = np.stack(np.triu_indices(len(exponents)))
    left, right = owner[pairs]
    # within one orbital a product of two primitives is met twice
    weight = np.where((left == right) & (pairs[0] != pairs[1]), 2.0, 1.0) * flat[pairs[0]] * flat[pairs[1]]
    contraction = np.zeros((len(homes), len(homes), len(weight)))
    contraction[left, right, np.arange(len(weight))] = weight
    contraction[right, left, np.arange(len(weight))] = weight
    at = np.eye(len(charges))[homes]
    return Basis(exponents, homes, at[left], at[right], pairs, contraction)


def _normalised(exponents: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Coefficients of plain exponentials for which the contracted orbital has norm 1."""
    c = coefficients * (2 * exponents / np.pi) ** 0.75
    overlap = (np.pi / (exponents[:, None] + exponents[None, :])) ** 1.5
    return c / np.sqrt(c @ overlap @ c)
