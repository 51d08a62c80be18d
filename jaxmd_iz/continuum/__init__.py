"""The continuum: a differentiable finite-volume solver of the balance laws, with any equation of state and closure."""

from jaxmd_iz.continuum.solver import rates, safe_step, solve
from jaxmd_iz.continuum.state import State1D

__all__ = ["State1D", "rates", "safe_step", "solve"]
