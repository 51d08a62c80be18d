"""Potentials: what they are (`base`), pairs, many bodies, diabatic matrices, and external ones V_b."""

from jaxmd_iz.potentials.base import (
    AbstractDistancePotential,
    AbstractPairPotential,
    AbstractPotential,
    FromFunction,
    Sum,
)
from jaxmd_iz.potentials.diabatic import Gaussian, TwoStateFluid
from jaxmd_iz.potentials.external import (
    AbstractExternal,
    HarmonicTrap,
    QuarticTrap,
    UniformForce,
    Walls,
    external_gradient,
)
from jaxmd_iz.potentials.many_body import HarmonicBonds, StillingerWeber, read_sw
from jaxmd_iz.potentials.pair import WCA, LennardJones, Morse, SoftSphere

__all__ = [
    "WCA",
    "AbstractDistancePotential",
    "AbstractExternal",
    "AbstractPairPotential",
    "AbstractPotential",
    "FromFunction",
    "Gaussian",
    "HarmonicBonds",
    "HarmonicTrap",
    "LennardJones",
    "Morse",
    "QuarticTrap",
    "SoftSphere",
    "StillingerWeber",
    "Sum",
    "TwoStateFluid",
    "UniformForce",
    "Walls",
    "external_gradient",
    "read_sw",
]
