"""What a process of its own measures: `python -m bench.tasks NAME NUMBERS`, JSON in the last line."""

import json
import os
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from bench.systems import fluid, lattices, melt, ours
from bench.timing import alternating, on_gpu
from jaxmd_iz.pieces import over_devices


def speed(n: int, batch: int, steps: int, devices: int, processors: int) -> dict:
    """Atom-steps per second of an ensemble on the first `devices` devices; `processors` is 0 for all."""
    if processors and hasattr(os, "sched_setaffinity"):  # before JAX starts its threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:processors])
    x, edge = lattices(n, batch)
    side = ours(fluid(n, edge, jnp.float32), x, None, 0.002)
    with over_devices(devices):
        taken = alternating({"ours": side}, steps, 3)
    return {"speed": batch * n / taken["ours"]}


def demo() -> dict:
    """Wall and processor time of the demo with all imports but JAX's, and the compilation in it."""
    spent = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":  # or the time to find it in the cache
            spent.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    begin, busy = time.perf_counter(), time.process_time()
    from jaxmd_iz import cli

    cli.demo(Path("out"))
    wall, busy = time.perf_counter() - begin, time.process_time() - busy
    return {"wall": wall, "busy": busy, "compile": sum(spent)}


def memory(size: int, steps: int) -> dict:
    """Peak memory in bytes of one large system over some steps."""
    import resource

    x, v, edge = melt(size)
    side = ours(fluid(len(x), edge, jnp.float32), x[None], v[None], 0.005, 0.5)
    jax.block_until_ready(side(steps))
    if on_gpu():
        return {"n": len(x), "bytes": jax.devices()[0].memory_stats()["peak_bytes_in_use"]}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"n": len(x), "bytes": unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


if __name__ == "__main__":
    tasks = {"speed": speed, "demo": demo, "memory": memory}
    print(json.dumps(tasks[sys.argv[1]](*map(int, sys.argv[2:]))))
