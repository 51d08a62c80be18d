"""Unit systems, converted only at the edges.

Inside, everything is coherent: length L, energy E and mass m are the unit system's own and time
is L√(m/E), so that kinetic energy is mv²/2 with no constant. A system therefore has two factors
only, for its time and for k_B: that of any other quantity follows from its power of time.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any

from scipy.constants import physical_constants

from jaxmd_iz.checks import must, one_of

#: Each quantity as length^(a + bD) · energy^c · mass^d · time^e in D dimensions: (a, b, c, d, e).
QUANTITIES: dict[str, tuple[int, int, int, int, int]] = {
    "length": (1, 0, 0, 0, 0),
    "energy": (0, 0, 1, 0, 0),
    "mass": (0, 0, 0, 1, 0),
    "time": (0, 0, 0, 0, 1),
    "rate": (0, 0, 0, 0, -1),
    "temperature": (0, 0, 1, 0, 0),
    "velocity": (1, 0, 0, 0, -1),
    "momentum": (1, 0, 0, 1, -1),
    "force": (-1, 0, 1, 0, 0),
    "number_density": (0, -1, 0, 0, 0),
    "density": (0, -1, 0, 1, 0),
    "momentum_density": (1, -1, 0, 1, -1),
    "energy_density": (0, -1, 1, 0, 0),
    "stress": (0, -1, 1, 0, 0),
    "pressure": (0, -1, 1, 0, 0),
    "heat_flux": (1, -1, 1, 0, -1),
    "force_density": (-1, -1, 1, 0, 0),
    "power_density": (0, -1, 1, 0, -1),
}


@dataclass(frozen=True)
class Units:
    """One unit system: its labels, its time and its k_B, and its size where it has one.

    Attributes:
        name: name of the system.
        symbols: labels of length, energy, mass, time and temperature.
        time: internal times L√(m/E) in one unit of time.
        boltzmann: k_B, in units of energy per unit of temperature.
        size: length in Å, energy in eV and mass in amu; None for reduced units.
    """

    name: str
    symbols: tuple[str, str, str, str, str]
    time: float
    boltzmann: float
    size: tuple[float, float, float] | None

    def factor(self, quantity: str) -> float:
        """Internal units in one unit of `quantity`; the same in every dimension D.

        Args:
            quantity: one of `QUANTITIES`.

        Returns:
            k_B for a temperature, which is k_B T inside; else timeᵉ with its power of time e.

        Raises:
            InputError: if the quantity is unknown.
        """
        one_of(quantity, "quantity", QUANTITIES)
        return self.boltzmann if quantity == "temperature" else self.time ** QUANTITIES[quantity][4]

    def to_internal(self, value: Any, quantity: str) -> Any:
        """`value` in internal units: `value` · factor.

        Args:
            value: number or array, in this system's unit of `quantity`.
            quantity: one of `QUANTITIES`.

        Returns:
            The same shape, in internal units.

        Raises:
            InputError: if the quantity is unknown.
        """
        return value * self.factor(quantity)

    def from_internal(self, value: Any, quantity: str) -> Any:
        """`value` in this system's units: `value` / factor.

        Args:
            value: number or array, in internal units.
            quantity: one of `QUANTITIES`.

        Returns:
            The same shape, in this system's unit of `quantity`.

        Raises:
            InputError: if the quantity is unknown.
        """
        return value / self.factor(quantity)

    def label(self, quantity: str, dim: int = 3) -> str:
        """The unit of `quantity` as text, e.g. "eV/Å²/ps".

        Args:
            quantity: one of `QUANTITIES`.
            dim: dimension D of space; densities are per lengthᴰ.

        Returns:
            The label.

        Raises:
            InputError: if the quantity is unknown.
        """
        one_of(quantity, "quantity", QUANTITIES)
        if quantity == "temperature":
            return self.symbols[4]
        powers = dict(zip(self.symbols[:4], _powers(quantity, dim), strict=True))
        if list(powers.values()).count(0) == 3 and 1 in powers.values():
            return next(s for s, k in powers.items() if k == 1)
        length, energy, mass, _ = self.symbols[:4]
        above = [_power(s, powers[s]) for s in (energy, mass, length) if powers[s] > 0]
        below = [_power(s, -k) for s, k in powers.items() if k < 0]
        return "/".join(["·".join(above) or "1", *below])


def _powers(quantity: str, dim: int) -> tuple[int, int, int, int]:
    """Powers of (length, energy, mass, time) in D = `dim` dimensions."""
    length, of_dim, energy, mass, time = QUANTITIES[quantity]
    return length + of_dim * dim, energy, mass, time


def _power(symbol: str, power: int) -> str:
    """A symbol to a positive power; bracketed where it is a formula itself."""
    text = f"({symbol})" if set(symbol) & set("/√") else symbol
    return text if power == 1 else text + "⁰¹²³⁴⁵⁶⁷⁸⁹"[power]


_MVV2E = 1.0364269e-4  # LAMMPS `metal`: E[eV] = _MVV2E · m[amu] · v²[(Å/ps)²]
_ATOMIC_SIZE = (
    physical_constants["Bohr radius"][0] * 1e10,
    physical_constants["Hartree energy in eV"][0],
    physical_constants["electron mass in u"][0],
)  # CODATA 2022 (SciPy 1.15 and later)

_SYSTEMS = {
    u.name: u
    for u in (
        Units("lj", ("σ", "ε", "m", "τ", "ε/k_B"), 1.0, 1.0, None),
        Units("metal", ("Å", "eV", "amu", "ps", "K"), 1 / sqrt(_MVV2E), 8.617343e-5, (1.0, 1.0, 1.0)),
        Units("atomic", ("bohr", "hartree", "m_e", "ħ/E_h", "hartree"), 1.0, 1.0, _ATOMIC_SIZE),
        # k_B as in ase.units (CODATA 2014)
        Units("ase", ("Å", "eV", "amu", "Å√(amu/eV)", "K"), 1.0, 8.617330337217213e-5, (1.0, 1.0, 1.0)),
    )
}


def units(name: str) -> Units:
    """The unit system called `name`.

    - `lj`: reduced units: σ, ε, m, τ = σ√(m/ε), temperature in ε/k_B.
    - `metal`: as LAMMPS has it: Å, eV, amu, ps, K, stress in eV/Å³, with LAMMPS's own constants
      k_B = 8.617343e-5 eV/K and mvv2e = 1.0364269e-4.
    - `atomic`: bohr, hartree, m_e, ħ/E_h; k_B = 1, so temperature in hartree.
    - `ase`: what ASE holds in memory: Å, eV, amu, K. ASE's unit of time is by definition Å√(amu/eV)
      (10.1805 fs): the internal time itself, whatever the constants; k_B is that of `ase.units`.

    Args:
        name: `lj`, `metal`, `atomic` or `ase`.

    Returns:
        The system.

    Raises:
        InputError: if there is no such system.
    """
    return _SYSTEMS[one_of(name, "units", _SYSTEMS)]


def convert(value: Any, quantity: str, source: Units | str, target: Units | str, dim: int = 3) -> Any:
    """`value` in another unit system, through the internal units of both.

    Length, energy and mass are scaled by CODATA 2022 (`scipy.constants`), time by L√(m/E) and
    temperature as the energy k_B T: energies and the equations of motion are kept exactly. Times
    and temperatures carry the constants of both systems: LAMMPS's picosecond differs from that of
    `ase.units` by 3e-8 relative, its k_B by 1.5e-6.

    Args:
        value: number or array, in the source's unit of `quantity`.
        quantity: one of `QUANTITIES`.
        source: system of `value`, or its name.
        target: system of the result, or its name.
        dim: dimension D of space; densities are per lengthᴰ.

    Returns:
        The same shape, in the target's unit of `quantity`.

    Raises:
        InputError: if a name or the quantity is unknown, or just one of the systems is `lj`.
    """
    source = units(source) if isinstance(source, str) else source
    target = units(target) if isinstance(target, str) else target
    internal = source.to_internal(value, quantity)
    if source == target:
        return target.from_internal(internal, quantity)
    physical = ", ".join(f"`{u.name}`" for u in _SYSTEMS.values() if u.size)
    for argument, system, other in (("source", source, target), ("target", target, source)):
        must(
            system.size is not None,
            argument,
            f"be one of {physical} to convert with `{other.name}`",
            f"it is `{system.name}`, which has no size",
            "Scale by the σ, ε and m of your own system first.",
        )
    assert source.size and target.size
    length, energy, mass = (s / t for s, t in zip(source.size, target.size, strict=True))
    l, e, m, t = _powers(quantity, dim)
    scale = length**l * energy**e * mass**m * (length * sqrt(mass / energy)) ** t
    return target.from_internal(internal * scale, quantity)
