"""Time series of the fluxes of many trajectories, each on its own surface, recorded on the device."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmd_iz import ensemble
from jaxmd_iz.checks import must
from jaxmd_iz.chunks import ListKeeper, progress_bar, wants_list
from jaxmd_iz.distributed import everywhere
from jaxmd_iz.ensemble import Walkers
from jaxmd_iz.integrators import AbstractIntegrator
from jaxmd_iz.pieces import each, on_all_devices
from jaxmd_iz.system import System
from jaxmd_iz.transport.fluxes import check_cell, deviatoric, look, pressure


class FluxSeries(eqx.Module):
    """Fluxes of B trajectories at N times, integrals over the cell; those of a sample are next to each other."""

    deviatoric: Float[Array, "B N C"]  # independent components of the traceless ∫σ, energy; C = 0 in one dimension
    pressure: Float[Array, "B N"]  # p V, energy
    heat: Float[Array, "B N D"]  # ∫q, energy · velocity
    kinetic: Float[Array, "B N"]  # in the frame of the centre of mass, energy
    potential: Float[Array, "B N"]  # λ̄, energy
    spacing: Float[Array, ""]  # time
    volume: Float[Array, ""]
    state: Int[Array, " B"]
    weight: Float[Array, " B"]
    samples: int = eqx.field(static=True)
    particles: int = eqx.field(static=True)
    kinds: int = eqx.field(static=True)

    @property
    def temperature(self) -> Float[Array, ""]:
        """k_B T from the mean kinetic energy of D(n − 1) degrees of freedom."""
        freedom = self.heat.shape[-1] * (self.particles - 1)
        return jnp.sum(self.weight * jnp.mean(self.kinetic, axis=1)) / jnp.sum(self.weight) * 2 / freedom

    @property
    def drift(self) -> Float[Array, ""]:
        """Root mean square change of the energy per particle from the first to the last tenth of a trajectory."""
        total = self.kinetic + self.potential
        tenth = max(total.shape[1] // 10, 1)
        change = jnp.mean(total[:, -tenth:], axis=1) - jnp.mean(total[:, :tenth], axis=1)
        return jnp.sqrt(jnp.mean(change**2)) / self.particles


@on_all_devices
def flux_series(
    system: System,
    walkers: Walkers,
    integrator: AbstractIntegrator,
    *,
    steps: int,
    every: int = 5,
    neighbours: str = "auto",
    skin: float | None = None,
    progress: bool = False,
) -> FluxSeries:
    """Carries walkers along their surfaces and records the fluxes of the cell every few steps.

    Args:
        system: n particles in a periodic cell.
        walkers: where they start, with their states and weights; see `ensemble.walkers_from_samples`.
        integrator: of constant energy: friction and noise change the coefficients.
        steps: time steps, a multiple of `every`.
        every: steps between two records. Good values are 10 to 20 records for each oscillation of the fluxes.
        neighbours: `auto`, `dense` or `list`.
        skin: of the list, length; by default 0.3 of the cutoff, or less in a small cell.
        progress: show a progress bar.

    Returns:
        FluxSeries of steps/every times, the first one after `every` steps.

    Raises:
        InputError: what `fluxes.check_cell` refuses; steps that are not a positive multiple of `every`.
    """
    check_cell(system)
    must(every >= 1, "every", "be 1 or more", f"it is {every}")
    must(steps >= every and steps % every == 0, "steps", f"be a positive multiple of {every}", f"it is {steps}")
    room = system.space.largest_cutoff() - system.potential.cutoff
    skin = min(0.3 * system.potential.cutoff, room) if skin is None else skin
    must(skin > 0 or neighbours != "list", "skin", "be positive", f"it is {skin}")
    n = system.masses.shape[0]
    lists = ListKeeper(system, skin > 0 and wants_list(system, n, neighbours), skin)
    bar = progress_bar(progress, steps // every)
    seen: dict[int, Any] = {}

    def step(now, first, count, nl):
        record = each(_record, system, integrator, first, count, every)
        phase, told, found = record(now.phase, now.state, now.key, nl)
        seen[int(first)] = everywhere(found)  # a chunk that is redone is overwritten
        return now._replace(phase=phase), (jnp.zeros((), bool) if told is None else told)

    lists.advance(step, walkers, lambda w: w.phase.x, steps // every, bar)
    bar.close()
    columns = zip(*(seen[k] for k in sorted(seen)), strict=True)
    shear, p, heat, kinetic, potential = (jnp.concatenate(several, axis=1) for several in columns)
    return FluxSeries(
        deviatoric=shear,
        pressure=p,
        heat=heat,
        kinetic=kinetic,
        potential=potential,
        spacing=jnp.asarray(every * integrator.step, p.dtype),
        volume=jnp.asarray(system.space.volume, p.dtype),  # type: ignore[attr-defined]
        state=everywhere(walkers.state),
        weight=everywhere(walkers.weight),
        samples=walkers.state.shape[0] // system.states,
        particles=n,
        kinds=system.kinds,
    )


def _record(system, integrator, first, count: int, every: int, phase, state, key, lists):
    """`count` records: phase, lists, and (B, count, …) components, p V, ∫q, kinetic and potential energy."""
    several = system.space.dimensions > 1

    def body(carry, i):
        phase, near = ensemble.carried(system, integrator, (first + i) * every, every, carry[0], state, key, carry[1])
        found = look(system, phase.x, phase.p, state, near)
        shear = deviatoric(found) if several else jnp.zeros((state.shape[0], 0), phase.x.dtype)
        return (phase, near), (shear, pressure(found), found.heat, found.kinetic, found.potential)

    (phase, lists), found = jax.lax.scan(body, (phase, lists), jnp.arange(count))
    return phase, lists, tuple(jnp.swapaxes(a, 0, 1) for a in found)
