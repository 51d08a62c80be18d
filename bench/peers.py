"""The same work done by other codes, where they are installed, and by the shortest JAX that does it."""

import importlib.util
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def installed() -> list[str]:
    """Peers that can be imported here."""
    return [name for name in ("jax_md", "openmm") if importlib.util.find_spec(name)]


def naive_force(edge: float, cutoff: float):
    """The gradient of a plain sum over all pairs, as one writes it first: Lennard-Jones, energy-shifted."""
    shift = 4 * (cutoff**-12 - cutoff**-6)

    def energy(x):
        d = x[:, None, :] - x[None, :, :]
        d = d - edge * jnp.round(d / edge)
        own = jnp.eye(x.shape[0], dtype=bool)
        r2 = jnp.where(own, 1.0, jnp.sum(d**2, axis=-1))
        s = 1.0 / r2**3
        return 0.5 * jnp.sum(jnp.where(own | (r2 > cutoff**2), 0.0, 4 * (s * s - s) - shift))

    return lambda x: -jax.grad(energy)(x)


def jax_md_force(edge: float, cutoff: float):
    """jax-md's Lennard-Jones on all pairs, or None if it is not installed."""
    if "jax_md" not in installed():
        return None
    from jax_md import energy, quantity, space

    displacement, _ = space.periodic(edge)
    return quantity.force(energy.lennard_jones_pair(displacement, r_onset=0.8 * cutoff, r_cutoff=cutoff))


def trajectories(
    x: np.ndarray, v: np.ndarray, edge: float, cutoff: float, step: float, skin: float, threads: int
) -> dict[str, Callable[[int], None]]:
    """For each peer that is here a function that carries a Lennard-Jones system on for so many steps."""
    found = {}
    if "openmm" in installed():
        found["OpenMM CPU"] = _openmm(x, v, edge, cutoff, step, threads)
    if "jax_md" in installed():
        for kind in ("Dense", "OrderedSparse"):
            found[f"jax-md {kind}"] = _jax_md(x, v, edge, cutoff, step, skin, kind)
    return found


def _openmm(x, v, edge, cutoff, step, threads):
    """OpenMM on its CPU platform, σ as nm and ε as kJ/mol; it keeps lists of its own."""
    import openmm

    system, force = openmm.System(), openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(cutoff)
    force.setUseDispersionCorrection(False)
    for _ in range(len(x)):
        system.addParticle(1.0)
        force.addParticle(0.0, 1.0, 1.0)
    system.addForce(force)
    system.setDefaultPeriodicBoxVectors(*(edge * np.eye(3)))
    scheme = openmm.VerletIntegrator(step)
    platform = openmm.Platform.getPlatformByName("CPU")
    context = openmm.Context(system, scheme, platform, {"Threads": str(threads)})
    context.setPositions(x)
    context.setVelocities(v)

    def go(steps: int) -> None:
        scheme.step(steps)
        context.getState(getEnergy=True)

    return go


def _jax_md(x, v, edge, cutoff, step, skin, kind):
    """jax-md with a neighbour list of one of its formats, updated in the loop."""
    from jax_md import energy, partition, simulate, space

    displacement, shift = space.periodic(edge)
    lists, function = energy.lennard_jones_neighbor_list(
        displacement,
        edge,
        r_onset=0.96 * cutoff,
        r_cutoff=cutoff,
        dr_threshold=skin,
        format=getattr(partition, kind),
    )
    at = jnp.asarray(x % edge, jnp.float32)
    near = lists.allocate(at, extra_capacity=20 if kind == "Dense" else 0)
    begin, apply = simulate.nve(function, shift, step)
    state = begin(jax.random.key(0), at, float(np.mean(v**2)), neighbor=near)

    @jax.jit
    def run(state, near, steps):
        def body(_, carry):
            state, near = carry
            near = near.update(state.position)
            return apply(state, neighbor=near), near

        return jax.lax.fori_loop(0, steps, body, (state, near))

    now = [(state, near)]

    def go(steps: int) -> None:
        now[0] = jax.block_until_ready(run(*now[0], steps))
        if bool(now[0][1].did_buffer_overflow):
            raise RuntimeError("jax-md's list has overflowed: its speed would mean nothing")

    return go
