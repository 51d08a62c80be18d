"""One large system on neighbour lists: whole steps of molecular dynamics with the building of lists, float32."""

from collections.abc import Iterator

import jax.numpy as jnp

from bench import peers
from bench.systems import CUTOFF, fluid, melt, ours
from bench.timing import alternating, cores, on_gpu, row
from jaxmd_iz import chunks

STEP, SKIN = 0.005, 0.5
#: The ratios asked for, by peer, at about 4000 particles and at more.
CPU = {"OpenMM CPU": ("≥ 1.2", "≥ 1.2"), "jax-md Dense": ("≥ 10", "≥ 20"), "jax-md OrderedSparse": ("≥ 10", "≥ 20")}
GPU = {"jax-md Dense": (None, "≥ 4")}


def one_system(quick: bool) -> Iterator[dict]:
    """Atom-steps per second of one Lennard-Jones system against every peer that is installed, on equal threads."""
    threads, targets = cores(), GPU if on_gpu() else CPU
    where = "" if on_gpu() else f", {threads} cores" if threads > 1 else ", 1 core"
    for size in (4000,) if quick else (4000, 32000, 256000) if on_gpu() else (4000, 32000):
        x, v, edge = melt(size)
        n = len(x)
        sides = {"ours": ours(fluid(n, edge, jnp.float32), x[None], v[None], STEP, SKIN)}
        sides |= peers.trajectories(x, v, edge, CUTOFF, STEP, SKIN, threads)
        # as many steps as `simulate` takes between two looks at the host; jax-md takes minutes for them
        taken = alternating(sides, chunks.CHUNK, 2 if quick or n > 8000 else 4)
        speed = {name: n / seconds for name, seconds in taken.items()}
        for name in sides:
            if name != "ours":
                target = targets.get(name, (None, None))[n > 4000]
                label = f"one system n={n}{where}, against {name}"
                yield row(label, speed["ours"], "atom-steps/s", speed[name], target, line=f"one system, {name}", at=n)
        if len(sides) == 1:
            yield row(f"one system n={n}{where}, no peer installed", speed["ours"], "atom-steps/s")


def sizes(quick: bool) -> Iterator[dict]:
    """The cost of an atom-step against the number of particles, in that of the smallest system."""
    least = None
    for size in (500, 4000) if quick else (500, 4000, 32000, 256000):
        x, v, edge = melt(size)
        side = ours(fluid(len(x), edge, jnp.float32), x[None], v[None], STEP, SKIN)
        steps = max(10, min(100, 400_000 // len(x)))
        cost = 1e9 * alternating({"ours": side}, steps, 2)["ours"] / len(x)
        name = f"an atom-step of one system, n={len(x)}" + ("" if least is None else ", against n=500")
        yield row(name, cost, "ns", least, line="one system, ns an atom-step", at=len(x))
        least = cost if least is None else least
