"""Timing of compiled functions: the median of several runs, after one that compiles."""

import statistics
import time
from collections.abc import Callable

import jax


def seconds(function: Callable, *arguments, runs: int = 5) -> float:
    """Median wall time of function(*arguments), results ready."""
    jax.block_until_ready(function(*arguments))
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def row(name: str, ours: float, peer: float, unit: str, more_is_better: bool) -> dict:
    """One line of the table; `ratio` above 1 says how many times better ours is, except for rows in units of a step."""
    return {
        "name": name,
        "ours": ours,
        "peer": peer,
        "ratio": ours / peer if more_is_better else peer / ours,
        "unit": unit,
    }
