"""Profiles of a flow that molecular dynamics gave, as states on a line of cells, with what one group less would say.

From the raw moments of a `fields.nc`: ρ, ρu and E as the continuum carries them, and in the same cells T, p = −tr σ/D
and e, which are state points of the fluid as far as it is in local equilibrium.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmd_iz.checks import must
from jaxmd_iz.continuum.state import State1D
from jaxmd_iz.equation_of_state.fitting import StatePoints
from jaxmd_iz.units import units as unit_system


class Seen(eqx.Module):
    """What averages of moments say, with leading axes such as (T, Y)."""

    state: State1D
    temperature: Float[Array, "*t N"]
    pressure: Float[Array, "*t N"]
    energy: Float[Array, "*t N"]  # e, energy/mass


class Flow(eqx.Module):
    """One run on a periodic line, in internal units; components of u begin with the one along the line.

    `without` has a leading axis of G groups: what the run says without each of them.
    """

    time: Float[Array, " T"]  # from 0
    dx: Float[Array, ""]
    seen: Seen  # (T, Y)
    without: Seen  # (G, T, Y)
    number_density: Float[Array, "T N"]
    name: str = eqx.field(static=True, default="")

    def error(self, of: Callable[[Seen], Any] = lambda seen: seen.state) -> Any:
        """Standard errors of what `of` takes from `Seen`, by the jackknife over groups of equal weight."""
        return jax.tree.map(_spread, of(self.without))

    def points(self, seen: Seen | None = None) -> StatePoints:
        """T, p and e of every cell and frame, with the covariance of (p, e) by the jackknife; or those of others."""
        seen = self.seen if seen is None else seen
        both = jnp.stack([self.without.pressure, self.without.energy], axis=-1)
        groups = both.shape[0]
        miss = both - jnp.mean(both, axis=0, keepdims=True)
        covariance = (groups - 1) / groups * jnp.einsum("gtyi,gtyj->tyij", miss, miss)
        columns = (seen.state.rho, seen.temperature, seen.pressure, seen.energy)
        return StatePoints(*(c.reshape(-1) for c in columns), covariance.reshape(-1, 2, 2))


def _spread(without: Float[Array, "G *t"]) -> Float[Array, "*t"]:
    groups = without.shape[0]
    miss = without - jnp.mean(without, axis=0, keepdims=True)
    return jnp.sqrt((groups - 1) / groups * jnp.sum(miss**2, axis=0))


def flow(source: Any, name: str = "", begin: float = 0.0) -> Flow:
    """The profiles of a dataset (`store.read_fields`) along an axis of a periodic cell.

    Args:
        source: xarray.Dataset of a profile on even points over one period, with two groups of samples or more.
        name: what to call it.
        begin: frames before this time after the first one are left out, internal units.

    Returns:
        Flow in internal units; its time starts at 0 again.

    Raises:
        InputError: no profile, no even points, a single time, too few groups, or several species.
    """
    what = f"`{name}`" if name else "it"
    must("s" in source.coords, "source", "be a profile along an axis", f"{what} has no coordinate `s`")
    must("unit_system" in source.attrs, "source", "name its `unit_system`", f"{what} does not")
    units = unit_system(str(source.attrs["unit_system"]))
    for other in ("i", "species", "group_weight", *(f"y_{a}" for a in (source["i"].values if "i" in source else ()))):
        must(other in source, "source", "be fields of a run", f"{what} has no `{other}`")
    for moment in ("rho", "momentum", "k", "s", "number", "energy_kinetic", "energy_potential"):
        there = f"moment_{moment}" in source
        must(there, "source", "hold the raw moments of groups", f"{what} has no `moment_{moment}`")
        finite = there and bool(np.all(np.isfinite(source[f"moment_{moment}"].values)))
        must(finite, "source", "be finite", f"`moment_{moment}` of {what} is not everywhere")

    def values(variable, quantity):
        return np.asarray(units.to_internal(np.asarray(source[variable].values, float), quantity))

    y = np.stack([values(f"y_{a}", "length") for a in source["i"].values], axis=1)
    axis = int(np.argmax(np.ptp(y, axis=0)))
    s, time = y[:, axis], values("time", "time")
    step = np.diff(s)
    even = len(s) >= 8 and bool(np.all(np.abs(step - step[0]) < 1e-4 * abs(step[0])))
    must(even, "source", "have 8 points or more at even distances", f"{what} has not")
    late = time - time[0] >= begin * (1 - 1e-9)
    must(
        int(late.sum()) > 1,
        "source",
        "have two times or more",
        f"{what} has {int(late.sum())}",
        "Set `dynamics.every`.",
    )
    weight = np.asarray(source["group_weight"].values, float)
    held = weight[0] > 0
    must(int(held.sum()) > 1, "source", "have two groups of samples or more", f"{what} has {int(held.sum())}")
    must(source.sizes["species"] == 1, "source", "be of one species", f"{what} has {source.sizes['species']}")
    names = {"rho": "density", "momentum": "momentum_density", "k": "stress", "s": "stress", "number": "number_density"}
    raw = {key: values(f"moment_{key}", quantity) for key, quantity in names.items()}
    raw["energy"] = values("moment_energy_kinetic", "energy_density") + values(
        "moment_energy_potential", "energy_density"
    )
    turn = slice(None, None, -1 if step[0] < 0 else 1)
    raw = {key: value[late][:, held, turn] for key, value in raw.items()}
    weight, time = weight[late][:, held], time[late]
    order = [axis, *(a for a in range(y.shape[1]) if a != axis)]

    def average(sums, mass):
        mean = {key: jnp.asarray(a / mass.reshape(mass.shape + (1,) * (a.ndim - mass.ndim))) for key, a in sums.items()}
        return _seen(mean, order)

    total = average({key: a.sum(axis=1) for key, a in raw.items()}, weight.sum(axis=1))
    rest = {key: np.moveaxis(a.sum(axis=1, keepdims=True) - a, 1, 0) for key, a in raw.items()}
    without = average(rest, (weight.sum(axis=1, keepdims=True) - weight).T)
    number = jnp.asarray(raw["number"].sum(axis=(1, 3)) / weight.sum(axis=1)[:, None])
    return Flow(jnp.asarray(time - time[0]), jnp.asarray(abs(float(step[0]))), total, without, number, name)


def _seen(mean: dict[str, Array], order: list[int]) -> Seen:
    """T = (tr K − ρ|u|²)/(D N), p = tr(K − ρ u⊗u − S)/D, e = (E − ρ|u|²/2)/ρ: (3.8), (3.10)."""
    rho, m, number = mean["rho"], mean["momentum"], mean["number"][..., 0]
    dim = m.shape[-1]
    along = jnp.sum(m**2, axis=-1) / rho  # ρ|u|²
    kinetic = jnp.trace(mean["k"], axis1=-2, axis2=-1) - along
    pressure = (kinetic - jnp.trace(mean["s"], axis1=-2, axis2=-1)) / dim
    state = State1D(rho, m[..., jnp.array(order)], mean["energy"])
    return Seen(state, kinetic / (dim * number), pressure, (mean["energy"] - 0.5 * along) / rho)
