"""Many small systems at once, all pairs, float32: whole trajectories against peers, and two states against one."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from bench import c_loop, peers
from bench.systems import CUTOFF, fluid, lattices, on_devices, ours
from bench.timing import alternating, cores, on_gpu, row

STEP = 0.002
FEW = 8  # systems of a peer that takes them one by one
#: Atoms of a batch, and the ratios asked for against jax-md and against `vmap(grad)`, by particles of a system.
CPU = {64: (65536, "≥ 40", None), 256: (32768, "≥ 20", None)}
GPU = {64: (262144, "≥ 15", None), 256: (262144, None, "≥ 6"), 1024: (262144, None, "≥ 5")}


def in_c(x: np.ndarray) -> bool:
    """Whether the loop in C is a side: on one core, for a batch that fills its lanes."""
    return c_loop.available() and cores() == 1 and not on_gpu() and len(x) % c_loop.LANES == 0


def ensembles(quick: bool) -> Iterator[dict]:
    """Atom-steps per second of velocity Verlet.

    jax-md is run as it comes, by `vmap` on one device with every processor, and cut over the devices that ours has.
    TorchSim has the first systems only: it takes one after the other, so that its speed is that of any number.
    """
    for n, (atoms, of_jax_md, of_naive) in (GPU if on_gpu() else CPU).items():
        x, edge = lattices(n, (atoms // 4 if quick else atoms) // n)
        cutoff = min(CUTOFF, edge / 2)
        sides = {
            "ours": on_devices(ours(fluid(n, edge, jnp.float32), x, None, STEP)),
            "vmap(grad)": on_devices(peers.naive_ensemble(x, edge, cutoff, STEP)),
        }
        targets = {"vmap(grad)": of_naive, "jax-md": of_jax_md, "jax-md cut over our devices": of_jax_md}
        if "jax_md" in peers.installed():
            sides["jax-md"] = peers.jax_md_ensemble(x, edge, cutoff, STEP)
            if jax.device_count() > 1:
                sides["jax-md cut over our devices"] = on_devices(peers.jax_md_ensemble(x, edge, cutoff, STEP))
        if in_c(x):
            sides["a loop in C"] = c_loop.ensemble(x, edge, cutoff, STEP)
            targets["a loop in C"] = None
        few = x[:FEW]
        if "torch_sim" in peers.installed():
            sides["TorchSim"] = peers.torch_sim_ensemble(few, edge, cutoff, STEP)
            targets["TorchSim"] = None
        taken = alternating(sides, 10, 2 if quick else 12)
        count = dict.fromkeys(sides, len(x)) | {"TorchSim": len(few)}
        speed = {name: count[name] * n / seconds for name, seconds in taken.items()}
        where = "" if on_gpu() else f", {cores()} cores" if cores() > 1 else ", 1 core"
        for name in [name for name in targets if name in sides]:
            label = f"ensemble n={n}{where}, against {name}"
            placed = {"line": f"ensembles, {name}", "at": n}
            yield row(label, speed["ours"], "atom-steps/s", speed[name], targets[name], **placed)


def states(quick: bool) -> Iterator[dict]:
    """A step on the upper surface of a two-state fluid in steps of one state, float32, all pairs."""
    for n, batch in ((64, 128),) if quick else ((64, 256), (256, 64)):
        x, edge = lattices(n, batch)
        kinds = {"scalar": (1, "none"), "none": (2, "none"), "paper": (2, "paper")}
        sides = {name: ours(fluid(n, edge, jnp.float32, *kind), x, None, STEP) for name, kind in kinds.items()}
        sides = {name: on_devices(side) for name, side in sides.items()}
        if in_c(x):
            cutoff = min(CUTOFF, edge / 2)
            sides |= {f"C, {k}": c_loop.ensemble(x, edge, cutoff, STEP, k) for k in (1, 2)}
        taken = alternating(sides, 5, 2 if quick else 8)
        cost = {name: 1e6 * seconds / batch for name, seconds in taken.items()}
        for correction, target in (("none", "≤ 2"), ("paper", "≤ 6")):
            label = f"two-state step ({correction}) in scalar steps, n={n}"
            yield row(label, cost[correction], "µs", cost["scalar"], target, line=f"two states, {correction}", at=n)
        if "C, 2" in cost:
            label = f"two-state step (none) in scalar steps, both in C, n={n}"
            yield row(label, cost["C, 2"], "µs", cost["C, 1"], line="two states, none, in C", at=n)
