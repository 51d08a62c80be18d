"""What needs processes of its own: other numbers of devices, the first result after start, peak memory."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax

from bench.timing import cores, on_gpu, row

ROOT = Path(__file__).resolve().parent.parent


def child(task: str, *arguments: int, devices: int = 1, cache: str | None = None) -> dict:
    """What the task of `bench.tasks` measures in a fresh process.

    Args:
        task: its name.
        *arguments: its numbers.
        devices: CPU devices.
        cache: folder of the persistent compilation cache, or None for none.
    """
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # the command line chooses one of its own
    environment |= {"XDG_CACHE_HOME": cache} if cache else {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    command = [sys.executable, "-m", "bench.tasks", task, *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def scaling(quick: bool) -> Iterator[dict]:
    """An ensemble of n = 64 over 1, 2, 4, … devices, as many systems in all (strong) or on each (weak)."""
    most = jax.device_count() if on_gpu() else cores()
    batch, steps = (4096, 200) if on_gpu() else (256, 20 if quick else 60)
    counts = [d for d in (1, 2, 4, 8, 16, 32, 64) if d <= most]
    first = None
    for d in counts:
        more = steps, d, 0 if on_gpu() else d
        speeds = {"strong": child("speed", 64, batch, *more, devices=d)["speed"]}
        speeds["weak"] = speeds["strong"] if d == 1 else child("speed", 64, batch * d, *more, devices=d)["speed"]
        for kind, speed in speeds.items():
            name = f"{kind} scaling, {batch * (d if kind == 'weak' else 1)} systems on {d} of the devices"
            yield row(name, speed, "atom-steps/s", first, line=f"{kind} scaling", at=d)
        first = first or speeds["strong"]


def start(quick: bool) -> Iterator[dict]:
    """The demo in fresh processes, with an empty and then with a filled compilation cache."""
    with tempfile.TemporaryDirectory() as cache:
        cold, warm = (child("demo", cache=cache) for _ in range(2))
    yield row("compile time of the demo", cold["compile"], "s", None, None if on_gpu() else "≤ 20")
    yield row("compile time of the demo, cache filled", warm["compile"], "s", cold["compile"])
    for key, kind in (("wall", ""), ("busy", ", processor time")):
        yield row(f"first result after start, demo{kind}", cold[key], "s")
        yield row(f"first result after start, demo, cache filled{kind}", warm[key], "s", cold[key])


def memory(quick: bool) -> Iterator[dict]:
    """Peak memory of a process that runs one system, float32: with Python and JAX on a CPU, the device's on a GPU."""
    for size in (32000,) if quick else (32000, 1_000_000):
        found = child("memory", size, 3, devices=1)
        target = "≤ 20" if size > 500_000 else None
        yield row(f"peak memory, one system n={found['n']}", found["bytes"] / 1e9, "GB", None, target)
