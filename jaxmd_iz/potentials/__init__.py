"""Potentials: what they are (`base`), pairs, many bodies, models of several states, electrons, external ones V_b."""

from jaxmd_iz.potentials.adiabatic import DiagonalPartition, Lowest
from jaxmd_iz.potentials.avoided import QuarticCrossing, SodiumIodide, SuperExchange, Tully1, Tully2, Tully3
from jaxmd_iz.potentials.base import (
    AbstractDistancePotential,
    AbstractPairPotential,
    AbstractPotential,
    FromFunction,
    Sum,
)
from jaxmd_iz.potentials.conical import LepsH3
from jaxmd_iz.potentials.diabatic import Gaussian, TwoStateFluid
from jaxmd_iz.potentials.electrons import Electrons
from jaxmd_iz.potentials.embedded import EmbeddedAtom, read_setfl
from jaxmd_iz.potentials.exciton import Dipolar, ExcitonFluid
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
from jaxmd_iz.potentials.shin_metiu import ShinMetiu
from jaxmd_iz.potentials.vibronic import JahnTeller, LinearVibronicCoupling, SpinBoson, read_lvc

__all__ = [
    "WCA",
    "AbstractDistancePotential",
    "AbstractExternal",
    "AbstractPairPotential",
    "AbstractPotential",
    "DiagonalPartition",
    "Dipolar",
    "Electrons",
    "EmbeddedAtom",
    "ExcitonFluid",
    "FromFunction",
    "Gaussian",
    "HarmonicBonds",
    "HarmonicTrap",
    "JahnTeller",
    "LennardJones",
    "LepsH3",
    "LinearVibronicCoupling",
    "Lowest",
    "Morse",
    "QuarticCrossing",
    "QuarticTrap",
    "ShinMetiu",
    "SodiumIodide",
    "SoftSphere",
    "SpinBoson",
    "StillingerWeber",
    "Sum",
    "SuperExchange",
    "Tully1",
    "Tully2",
    "Tully3",
    "TwoStateFluid",
    "UniformForce",
    "Walls",
    "external_gradient",
    "read_lvc",
    "read_setfl",
    "read_sw",
]
