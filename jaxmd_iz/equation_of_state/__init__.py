"""Equations of state p(ρ, T), e(ρ, T) from one Helmholtz free energy a(ρ, T) per mass, and their fit."""

from jaxmd_iz.equation_of_state.base import AbstractEquationOfState
from jaxmd_iz.equation_of_state.fitting import EquationFit, StatePoints, fit_equation_of_state
from jaxmd_iz.equation_of_state.forms import ElectronicLevels, FreeEnergySeries, IdealGas, NeuralFreeEnergy

__all__ = [
    "AbstractEquationOfState",
    "ElectronicLevels",
    "EquationFit",
    "FreeEnergySeries",
    "IdealGas",
    "NeuralFreeEnergy",
    "StatePoints",
    "fit_equation_of_state",
]
