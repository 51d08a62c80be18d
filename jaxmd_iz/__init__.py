"""Continuum fields from particle dynamics: density, momentum, energy, stress and heat flux, exactly conservative.

Implements Plecháč, Sandberg and Szepessy, *The classical limit of quantum observables in the conservation laws of
fluid dynamics*. Importing changes no JAX setting; for rounding-level conservation enable `jax_enable_x64`.
"""

from importlib.metadata import PackageNotFoundError, version

from jaxmd_iz.balance import balance_terms, relative_residual
from jaxmd_iz.checks import InputError
from jaxmd_iz.fields import Fields, fields
from jaxmd_iz.gibbs import Canonical
from jaxmd_iz.integrators import Baoab, ForestRuth, VelocityVerlet, trajectory
from jaxmd_iz.mollifiers import Bump, Cubic, Polynomial, Trapezoid
from jaxmd_iz.moments import Moments, moments
from jaxmd_iz.neighbours import neighbour_list
from jaxmd_iz.pair_split import bonds
from jaxmd_iz.potentials import (
    WCA,
    FromFunction,
    Gaussian,
    HarmonicBonds,
    HarmonicTrap,
    LennardJones,
    Morse,
    QuarticTrap,
    SoftSphere,
    StillingerWeber,
    Sum,
    TwoStateFluid,
    UniformForce,
    Walls,
)
from jaxmd_iz.simulate import Grid, Run, simulate
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.statistics import FieldSeries
from jaxmd_iz.surfaces import surface
from jaxmd_iz.system import System
from jaxmd_iz.windows import Fourier, Separable, Slab, slab

try:
    __version__ = version("jaxmd-iz")
except PackageNotFoundError:  # used from a folder that is not installed
    __version__ = "0"

__all__ = [
    "WCA",
    "Baoab",
    "Bump",
    "Canonical",
    "Cubic",
    "FieldSeries",
    "Fields",
    "ForestRuth",
    "Fourier",
    "Free",
    "FromFunction",
    "Gaussian",
    "Grid",
    "HarmonicBonds",
    "HarmonicTrap",
    "InputError",
    "LennardJones",
    "Moments",
    "Morse",
    "Periodic",
    "Polynomial",
    "QuarticTrap",
    "Run",
    "Separable",
    "Slab",
    "SoftSphere",
    "StillingerWeber",
    "Sum",
    "System",
    "Trapezoid",
    "TwoStateFluid",
    "UniformForce",
    "VelocityVerlet",
    "Walls",
    "balance_terms",
    "bonds",
    "fields",
    "moments",
    "neighbour_list",
    "relative_residual",
    "simulate",
    "slab",
    "surface",
    "trajectory",
]
