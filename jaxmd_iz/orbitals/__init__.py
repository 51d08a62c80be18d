"""Electrons in s-type Gaussians: `integrals`, `basis` sets, and determinants of one spin (`configurations`)."""

from jaxmd_iz.orbitals.basis import BASES, Basis, atomic_number, basis_data, even_tempered, molecule
from jaxmd_iz.orbitals.configurations import Configurations, configurations

__all__ = [
    "BASES",
    "Basis",
    "Configurations",
    "atomic_number",
    "basis_data",
    "configurations",
    "even_tempered",
    "molecule",
]
