"""Gradients through trajectories: their time in forward runs, and their memory against the number of steps."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp

import jaxmd_iz as iz
from bench.systems import fluid, lattices
from bench.timing import alternating, row

WAYS = ("store", "checkpoint", "reversible")
BATCH, N = 64, 64


def gradients(quick: bool) -> Iterator[dict]:
    """The derivative of a number of the last phase points in all first positions, float32, n = 64, one state."""
    lengths = (32, 128) if quick else (32, 128, 512)
    x, edge = lattices(N, BATCH)
    x = jnp.asarray(x, jnp.float32)
    p = jax.random.normal(jax.random.key(0), x.shape, x.dtype)
    system = fluid(N, edge, jnp.float32)

    def last(x, steps, way):
        def one(x, p):
            force = lambda a: system.force(a, 0)  # noqa: E731
            step = iz.VelocityVerlet(jnp.asarray(0.002, x.dtype))
            return iz.trajectory(step, force, system.masses, x, p, steps, gradient=way)

        return sum(jnp.sum(a) for a in jax.vmap(one)(x, p))

    forward = jax.jit(last, static_argnums=(1, 2))
    slope = jax.jit(jax.grad(last), static_argnums=(1, 2))
    for way in WAYS:
        sides = {
            "ours": lambda steps, way=way: slope(x, steps, way),
            "peer": lambda steps, way=way: forward(x, steps, way),
        }
        taken = alternating(sides, lengths[1], 2 if quick else 5)
        name = f"gradient `{way}` of {lengths[1]} steps, in forward runs"
        yield row(name, 1e3 * taken["ours"], "ms a step", 1e3 * taken["peer"], "≤ 3.5")
        memory = [slope.lower(x, s, way).compile().memory_analysis().temp_size_in_bytes for s in lengths]
        for steps, size in zip(lengths, memory, strict=True):
            title = f"memory of a gradient `{way}`, {steps} steps"
            yield row(title, size / 1e6, "MB", line=f"memory `{way}`", at=steps)
        growth = memory[-1] / memory[0]
        target = "≤ 1" if way == "reversible" else None
        yield row(f"memory `{way}` of {lengths[-1]} steps against {lengths[0]}", growth, "times", 1.0, target)
