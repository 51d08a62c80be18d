"""What goes wrong on the way: numbers that are none, energy that drifts, atoms that are lost, surfaces that touch.

Looked at for every walker between two chunks of steps, in one small program on the device, and told with time, sample
and state: once for each kind of trouble, where it is first seen.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxmd_iz import eigen
from jaxmd_iz.checks import must, one_of
from jaxmd_iz.distributed import everywhere
from jaxmd_iz.ensemble import Walkers
from jaxmd_iz.gibbs import outside
from jaxmd_iz.integrators import AbstractIntegrator, ForestRuth, VelocityVerlet
from jaxmd_iz.neighbours import Neighbours
from jaxmd_iz.pieces import each
from jaxmd_iz.space import Free
from jaxmd_iz.system import System

CODE = 4  # exit code of a command that `stop` has ended
TOGETHER = 64  # walkers looked at together; bounds the memory


class Broken(Exception):
    """A run that was watched has been ended, with a sentence that says what was seen and what to do."""


class Watch(eqx.Module):
    """What to look for, and what to do when it is seen.

    Args:
        action: `flag` it in the warnings of the run, or `stop`; surfaces that touch are flagged only.
        energy_drift: change of a walker's energy that is too much, in units of its largest kinetic energy so far. For
            integrators that conserve energy.
        distance: from the centre of mass, in free space, beyond which an atom is lost, length; by default ten times the
            largest one at the start. In a periodic cell no atom can be.
        times, lengths: the units that are told, in internal ones, and their names.

    Raises:
        InputError: another action, numbers that are not positive.
    """

    action: str = eqx.field(static=True, default="flag")
    energy_drift: float = eqx.field(static=True, default=0.1)
    distance: float | None = eqx.field(static=True, default=None)
    times: tuple[float, str] = eqx.field(static=True, default=(1.0, ""))
    lengths: tuple[float, str] = eqx.field(static=True, default=(1.0, ""))

    def __check_init__(self):
        one_of(self.action, "action", ("flag", "stop"))
        for name in ("energy_drift", "distance"):
            value = getattr(self, name)
            must(value is None or value > 0, name, "be positive", f"it is {value}")


def look(
    watch: Watch,
    system: System,
    integrator: AbstractIntegrator | None,
    walkers: Walkers,
    neighbours: Neighbours | None,
    steps: tuple[int, int],
    before: dict[str, Any] | None,
) -> dict[str, Any]:
    """What is seen of all walkers now, with what was seen before.

    Args:
        watch, system: see there.
        integrator: whose `step` gives times; None at t = 0.
        walkers: B trajectories.
        neighbours: lists with leading axis B that hold here, or None.
        steps: numbers of the step of the last look, and of this one.
        before: the last one; None at the start.

    Returns:
        `energy` (B,) at the start, the largest `kinetic` energy (B,) so far, `distance` at the start, and `events`:
        dictionaries of what, time, sample, state, how many walkers, value and bound.
    """
    phase = walkers.phase
    seen = each(_measured, system)(phase.x, phase.p, phase.force, walkers.state, neighbours)
    energy, kinetic, distance, touches, finite = (np.asarray(a) for a in everywhere(seen))
    if before is None:
        with np.errstate(invalid="ignore"):
            before = {"energy": energy, "kinetic": kinetic, "distance": float(np.max(distance)), "events": ()}
    events = list(before["events"])
    state, sample = (np.asarray(a) for a in everywhere((walkers.state, walkers.sample)))
    conserves = isinstance(integrator, VelocityVerlet | ForestRuth)
    largest = np.fmax(np.asarray(before["kinetic"]), kinetic)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        drift = np.abs(energy - np.asarray(before["energy"])) / np.where(largest > 0, largest, np.inf)
    furthest = watch.distance if watch.distance is not None else 10 * before["distance"]
    lost = isinstance(system.space, Free) and furthest > 0
    step = 0.0 if integrator is None else float(integrator.step)
    for what, wrong, value, bound in (
        ("finite", ~finite, None, None),
        ("energy", finite & (drift > watch.energy_drift) & conserves, drift, watch.energy_drift),
        ("lost", finite & (distance > furthest) & lost, distance / watch.lengths[0], furthest / watch.lengths[0]),
        ("crossing", finite & touches, None, None),
    ):
        if not wrong.any() or any(event["what"] == what for event in events):
            continue
        b = int(np.argmax(wrong))
        event = {"what": what, "from": steps[0] * step / watch.times[0], "to": steps[1] * step / watch.times[0]}
        event |= {"sample": int(sample[b]), "state": int(state[b]), "walkers": int(wrong.sum()), "of": len(wrong)}
        event |= {"value": None if value is None else float(value[b]), "bound": bound}
        events.append(event)
        if watch.action == "stop" and what != "crossing":
            raise Broken(told(watch, event))
    return {**before, "kinetic": largest, "events": tuple(events)}


def told(watch: Watch, event: dict[str, Any]) -> str:
    """An event in one sentence.

    Args:
        watch: which has seen it.
        event: as `look` gives it.
    """
    unit = f" {watch.times[1]}".rstrip()
    when = f"at t = {event['to']:.6g}{unit}"
    if event["from"] != event["to"]:
        when = f"between t = {event['from']:.6g} and {event['to']:.6g}{unit}"
    others = f", and {event['walkers'] - 1} more of {event['of']} walkers" if event["walkers"] > 1 else ""
    who = f"sample {event['sample']} on state {event['state']}{others}, {when}"
    if event["what"] == "finite":
        return f"Positions, momenta, forces or energies are no longer finite: {who}. Take a smaller time step."
    if event["what"] == "energy":
        much = f"by {event['value']:.3g} of the kinetic energy, above {event['bound']:g}"
        return f"The energy has drifted {much}: {who}. Take a smaller time step."
    if event["what"] == "lost":
        far = f"{event['bound']:.4g} {watch.lengths[1]}".rstrip()
        return f"An atom is lost, further than {far} from the centre of mass: {who}."
    return f"Two surfaces touch, where the force on one of them is not defined: {who}."


def _measured(system: System, *several):
    """Energy, kinetic energy, largest distance from the centre of mass, another level here, all finite; (B,) each."""

    def one(walker):
        x, p, force, k, near = walker
        m = system.masses
        kinetic = jnp.sum(p**2 / m[:, None]) / 2
        levels = system.levels(x, near)
        energy = jnp.take(levels, k) + outside(system, x) + kinetic
        centre = jnp.sum(m[:, None] * x, axis=0, keepdims=True) / jnp.sum(m)
        distance = jnp.sqrt(jnp.max(jnp.sum((x - centre) ** 2, axis=1)))
        touches = jnp.take(eigen.degenerate(levels), k)
        finite = jnp.isfinite(energy) & jnp.all(jnp.isfinite(force)) & jnp.isfinite(distance)
        return energy, kinetic, distance, touches, finite

    return jax.lax.map(one, several, batch_size=min(TOGETHER, several[0].shape[0]))
