"""Transport coefficients: Green–Kubo from the fluxes of the whole cell, and the decay of waves in the fields."""

from jaxmd_iz.transport.fluxes import Fluxes, fluxes
from jaxmd_iz.transport.green_kubo import (
    GreenKubo,
    bulk_viscosity,
    coefficients,
    conductivity,
    green_kubo,
    in_units,
    viscosity,
)
from jaxmd_iz.transport.series import FluxSeries, flux_series
from jaxmd_iz.transport.spectra import Coefficient, coefficient
from jaxmd_iz.transport.waves import Decay, Wave, heat_decay, shear_decay, sound_decay, wave

__all__ = [
    "Coefficient",
    "Decay",
    "FluxSeries",
    "Fluxes",
    "GreenKubo",
    "Wave",
    "bulk_viscosity",
    "coefficient",
    "coefficients",
    "conductivity",
    "flux_series",
    "fluxes",
    "green_kubo",
    "heat_decay",
    "in_units",
    "shear_decay",
    "sound_decay",
    "viscosity",
    "wave",
]
