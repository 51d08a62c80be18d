"""Continuum fields from particle dynamics: density, momentum, energy, stress and heat flux, exactly conservative.

Implements Plecháč, Sandberg and Szepessy, *The classical limit of quantum observables in the conservation laws of
fluid dynamics*. Importing changes no JAX setting; for rounding-level conservation enable `jax_enable_x64`.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxmd_iz.balance import balance_terms, relative_residual
    from jaxmd_iz.checkpoint import Checkpoints
    from jaxmd_iz.checks import InputError
    from jaxmd_iz.closures import LearnedClosure, NewtonFourier
    from jaxmd_iz.continuum import State1D, safe_step, solve
    from jaxmd_iz.equation_of_state import (
        ElectronicLevels,
        FreeEnergySeries,
        IdealGas,
        NeuralFreeEnergy,
        StatePoints,
        fit_equation_of_state,
    )
    from jaxmd_iz.fields import Fields
    from jaxmd_iz.fit import match_forces, recover
    from jaxmd_iz.geometric_phase import berry_phase
    from jaxmd_iz.gibbs import Canonical
    from jaxmd_iz.integrators import Baoab, ForestRuth, VelocityVerlet, trajectory
    from jaxmd_iz.interop import PairFunction, Particles, from_ase, from_jax_md, to_ase
    from jaxmd_iz.interop.calculator import SurfaceCalculator
    from jaxmd_iz.local_gibbs import Cells, LocalGibbs
    from jaxmd_iz.mollifiers import Bump, Cubic, Polynomial, Trapezoid
    from jaxmd_iz.moments import Moments
    from jaxmd_iz.neighbours import neighbour_list
    from jaxmd_iz.nonlinear import Iterated, converge
    from jaxmd_iz.pair_split import bonds
    from jaxmd_iz.potentials import (
        WCA,
        DiagonalPartition,
        Dipolar,
        Electrons,
        EmbeddedAtom,
        ExcitonFluid,
        FromFunction,
        Gaussian,
        HarmonicBonds,
        HarmonicTrap,
        JahnTeller,
        LennardJones,
        LepsH3,
        LinearVibronicCoupling,
        Lowest,
        Morse,
        QuarticCrossing,
        QuarticTrap,
        ShinMetiu,
        SodiumIodide,
        SoftSphere,
        SpinBoson,
        StillingerWeber,
        Sum,
        SuperExchange,
        Tully1,
        Tully2,
        Tully3,
        TwoStateFluid,
        UniformForce,
        Walls,
        read_lvc,
    )
    from jaxmd_iz.sampling import Sampling
    from jaxmd_iz.simulation import Grid, Run, simulate
    from jaxmd_iz.space import Free, Periodic
    from jaxmd_iz.statistics import FieldSeries
    from jaxmd_iz.surfaces import surface
    from jaxmd_iz.system import System
    from jaxmd_iz.transport import green_kubo
    from jaxmd_iz.vtk import write_vtk
    from jaxmd_iz.watch import Broken, Watch
    from jaxmd_iz.windows import Fourier, Separable, Slab, slab

try:
    __version__ = version("jaxmd-iz")
except PackageNotFoundError:  # used from a folder that is not installed
    __version__ = "0"

# names are imported when first used: the command line answers before JAX is loaded
_HOMES = {
    "jaxmd_iz.balance": (
        "balance_terms",
        "relative_residual",
    ),
    "jaxmd_iz.checkpoint": ("Checkpoints",),
    "jaxmd_iz.checks": ("InputError",),
    "jaxmd_iz.closures": ("LearnedClosure", "NewtonFourier"),
    "jaxmd_iz.continuum": ("State1D", "safe_step", "solve"),
    "jaxmd_iz.equation_of_state": (
        "ElectronicLevels",
        "FreeEnergySeries",
        "IdealGas",
        "NeuralFreeEnergy",
        "StatePoints",
        "fit_equation_of_state",
    ),
    "jaxmd_iz.fields": ("Fields",),
    "jaxmd_iz.fit": ("match_forces", "recover"),
    "jaxmd_iz.gibbs": ("Canonical",),
    "jaxmd_iz.local_gibbs": ("Cells", "LocalGibbs"),
    "jaxmd_iz.sampling": ("Sampling",),
    "jaxmd_iz.integrators": (
        "Baoab",
        "ForestRuth",
        "VelocityVerlet",
        "Watch",
        "trajectory",
    ),
    "jaxmd_iz.interop": (
        "PairFunction",
        "Particles",
        "from_ase",
        "from_jax_md",
        "to_ase",
    ),
    "jaxmd_iz.interop.calculator": ("SurfaceCalculator",),
    "jaxmd_iz.mollifiers": (
        "Bump",
        "Cubic",
        "Polynomial",
        "Trapezoid",
    ),
    "jaxmd_iz.moments": ("Moments",),
    "jaxmd_iz.neighbours": ("neighbour_list",),
    "jaxmd_iz.pair_split": ("bonds",),
    "jaxmd_iz.nonlinear": ("Iterated", "converge"),
    "jaxmd_iz.geometric_phase": ("berry_phase",),
    "jaxmd_iz.potentials": (
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
        "WCA",
        "Walls",
        "read_lvc",
    ),
    "jaxmd_iz.simulation": (
        "Grid",
        "Run",
        "simulate",
    ),
    "jaxmd_iz.space": (
        "Free",
        "Periodic",
    ),
    "jaxmd_iz.statistics": ("FieldSeries",),
    "jaxmd_iz.surfaces": ("surface",),
    "jaxmd_iz.system": ("System",),
    "jaxmd_iz.transport": ("green_kubo",),
    "jaxmd_iz.vtk": ("write_vtk",),
    "jaxmd_iz.watch": ("Broken", "Watch"),
    "jaxmd_iz.windows": (
        "Fourier",
        "Separable",
        "Slab",
        "slab",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first asked for."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)


__all__ = [
    "WCA",
    "Baoab",
    "Broken",
    "Bump",
    "Canonical",
    "Cells",
    "Checkpoints",
    "Cubic",
    "DiagonalPartition",
    "Dipolar",
    "ElectronicLevels",
    "Electrons",
    "EmbeddedAtom",
    "ExcitonFluid",
    "FieldSeries",
    "Fields",
    "ForestRuth",
    "Fourier",
    "Free",
    "FreeEnergySeries",
    "FromFunction",
    "Gaussian",
    "Grid",
    "HarmonicBonds",
    "HarmonicTrap",
    "IdealGas",
    "InputError",
    "Iterated",
    "JahnTeller",
    "LearnedClosure",
    "LennardJones",
    "LepsH3",
    "LinearVibronicCoupling",
    "LocalGibbs",
    "Lowest",
    "Moments",
    "Morse",
    "NeuralFreeEnergy",
    "NewtonFourier",
    "PairFunction",
    "Particles",
    "Periodic",
    "Polynomial",
    "QuarticCrossing",
    "QuarticTrap",
    "Run",
    "Sampling",
    "Separable",
    "ShinMetiu",
    "Slab",
    "SodiumIodide",
    "SoftSphere",
    "SpinBoson",
    "State1D",
    "StatePoints",
    "StillingerWeber",
    "Sum",
    "SuperExchange",
    "SurfaceCalculator",
    "System",
    "Trapezoid",
    "Tully1",
    "Tully2",
    "Tully3",
    "TwoStateFluid",
    "UniformForce",
    "VelocityVerlet",
    "Walls",
    "Watch",
    "balance_terms",
    "berry_phase",
    "bonds",
    "converge",
    "fit_equation_of_state",
    "from_ase",
    "from_jax_md",
    "green_kubo",
    "match_forces",
    "neighbour_list",
    "read_lvc",
    "recover",
    "relative_residual",
    "safe_step",
    "simulate",
    "slab",
    "solve",
    "surface",
    "to_ase",
    "trajectory",
    "write_vtk",
]
