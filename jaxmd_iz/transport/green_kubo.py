"""Viscosities and thermal conductivity from the fluctuations of stress and heat flux at equilibrium, Green–Kubo.

η = 1/(V T) ∫⟨Σ_xy(0) Σ_xy(t)⟩ dt over the independent traceless components, ζ = 1/(V T) ∫⟨δΠ(0) δΠ(t)⟩ dt with Π = p V,
κ = 1/(V T²) ∫⟨Q_x(0) Q_x(t)⟩ dt, with Σ = ∫σ and Q = ∫q over the cell (`fluxes`); T is k_B T, κ is per k_B.
"""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxmd_iz.checks import must
from jaxmd_iz.chunks import ListKeeper, progress_bar, wants_list
from jaxmd_iz.gibbs import AbstractDensity
from jaxmd_iz.integrators import AbstractIntegrator
from jaxmd_iz.pieces import on_all_devices
from jaxmd_iz.sampled import sample
from jaxmd_iz.sampling import Sampling
from jaxmd_iz.system import System
from jaxmd_iz.transport.fluxes import check_cell
from jaxmd_iz.transport.series import FluxSeries, flux_series
from jaxmd_iz.transport.spectra import Coefficient, coefficient
from jaxmd_iz.units import Units
from jaxmd_iz.units import units as unit_system


class GreenKubo(eqx.Module):
    """Transport coefficients in internal units, and the series behind them."""

    viscosity: Coefficient | None  # η; None in one dimension
    bulk_viscosity: Coefficient  # ζ
    conductivity: Coefficient | None  # κ; None for several species
    series: FluxSeries
    warnings: tuple[str, ...] = eqx.field(static=True, default=())


def viscosity(series: FluxSeries, **options: Any) -> Coefficient:
    """Shear viscosity η from the independent traceless components of the stress.

    Args:
        series: of trajectories at equilibrium; trajectories on several surfaces count by their weights.
        options: of `spectra.coefficient`.

    Raises:
        InputError: one dimension; what `spectra.coefficient` refuses.
    """
    components = series.deviatoric.shape[2]
    must(components > 0, "series", "be of two or three dimensions for a shear viscosity", "it is of one")
    factor = 1 / (series.volume * series.temperature)
    return coefficient(series.deviatoric, series.spacing, factor, series.weight, samples=series.samples, **options)


def bulk_viscosity(series: FluxSeries, **options: Any) -> Coefficient:
    """Bulk viscosity ζ from the pressure, less its mean over each trajectory, whose energy is constant.

    Args:
        series: as in `viscosity`. Nothing hops, so that a difference of the pressures of two surfaces never decays: it
            is left out.
        options: of `spectra.coefficient`.
    """
    factor = 1 / (series.volume * series.temperature)
    flux = series.pressure[:, :, None]
    return coefficient(flux, series.spacing, factor, series.weight, samples=series.samples, centre=True, **options)


def conductivity(series: FluxSeries, **options: Any) -> Coefficient:
    """Thermal conductivity κ of a fluid of one species from its heat flux, per k_B.

    Args:
        series: as in `viscosity`. With several states it is the conductivity at fixed populations: heat that is carried
            by transitions between surfaces, and by diffusion of populations, is left out.
        options: of `spectra.coefficient`.

    Raises:
        InputError: several species, whose heat flux holds the enthalpy that diffusion carries.
    """
    must(series.kinds == 1, "series", "be of one species for a thermal conductivity", f"it has {series.kinds}")
    factor = 1 / (series.volume * series.temperature**2)
    return coefficient(series.heat, series.spacing, factor, series.weight, samples=series.samples, **options)


def coefficients(series: FluxSeries, warnings: tuple[str, ...] = (), **options: Any) -> GreenKubo:
    """All coefficients that a series has; `options` as in `spectra.coefficient`."""
    return GreenKubo(
        viscosity(series, **options) if series.deviatoric.shape[2] else None,
        bulk_viscosity(series, **options),
        conductivity(series, **options) if series.kinds == 1 else None,
        series,
        warnings,
    )


@on_all_devices
def green_kubo(
    system: System,
    density: AbstractDensity,
    x: Float[Array, "*samples n D"],
    *,
    key: PRNGKeyArray,
    sampling: Sampling | None = None,
    integrator: AbstractIntegrator,
    steps: int,
    every: int = 5,
    neighbours: str = "auto",
    progress: bool = False,
    **options: Any,
) -> GreenKubo:
    """Samples a density, runs every surface from every sample at constant energy, and reads the coefficients.

    Good values: trajectories of 100 correlation times or more (a liquid: 50 to 500 σ√(m/ε)), 16 samples or more so
    that the error in closed form can be compared with that of groups of trajectories, `err_replicas`.

    Args:
        system: n particles in a periodic cell.
        density: canonical; gives the weights of the surfaces and the momenta.
        x: (n, D) start of every chain, or (samples, n, D).
        key: PRNG key.
        sampling: how to sample; by default `Sampling()`.
        integrator: of constant energy.
        steps, every, neighbours: as in `series.flux_series`.
        progress: show progress bars.
        options: of `spectra.coefficient`.

    Returns:
        GreenKubo.

    Raises:
        InputError: what the parts refuse.
    """
    check_cell(system)
    using = Sampling() if sampling is None else sampling
    use = wants_list(system, system.masses.shape[0], neighbours)
    room = system.space.largest_cutoff() - system.potential.cutoff
    skin = min(0.3 * system.potential.cutoff, room)
    bar = progress_bar(progress, using.burn_in)
    found = sample(system, density, using, x, jax.random.split(key), ListKeeper(system, use and skin > 0, skin), bar)
    bar.close()
    series = flux_series(
        system, found.walkers, integrator, steps=steps, every=every, neighbours=neighbours, progress=progress
    )
    return coefficients(series, found.warnings, **options)


def in_units(value: float | Float[Array, ""], quantity: str, units: str | Units, dimensions: int = 3):
    """A coefficient in the units of a system, with its label.

    Args:
        value: in internal units.
        quantity: `viscosity` or `conductivity`.
        units: unit system, or its name.
        dimensions: D.

    Returns:
        (number, text such as "ε·τ/σ³").
    """
    to = unit_system(units) if isinstance(units, str) else units
    known = {"viscosity": ("stress", "time"), "conductivity": ("heat_flux", "length", "temperature")}
    must(quantity in known, "quantity", f"be one of {sorted(known)}", f"it is {quantity!r}")
    names = known[quantity]
    if quantity == "viscosity":
        return value / (to.factor("stress") * to.factor("time")), f"({to.label('stress', dimensions)})·{to.symbols[3]}"
    # κ is per k_B inside: q / ∇(k_B T)
    number = value / (to.factor(names[0]) * to.factor("length")) * to.factor("temperature")
    return number, f"({to.label('heat_flux', dimensions)})·{to.symbols[0]}/{to.symbols[4]}"
