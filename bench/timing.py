"""Timing of both sides of a ratio in turn, and the rows of the table."""

import os
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np


def seconds(function: Callable, *arguments, runs: int = 5) -> float:
    """Median wall time of function(*arguments), results ready, after one run that compiles."""
    jax.block_until_ready(function(*arguments))
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def alternating(sides: dict[str, Callable[[int], object]], steps: int, rounds: int) -> dict[str, float]:
    """Seconds of one step of each side, the least of several rounds in turn, after one that compiles.

    Args:
        sides: for each name a function that goes on for so many steps; what it returns is waited for.
        steps: of one round.
        rounds: number of rounds.
    """
    best = dict.fromkeys(sides, np.inf)
    for go in sides.values():
        jax.block_until_ready(go(steps))
    for _ in range(rounds):
        for name, go in sides.items():
            start = time.perf_counter()
            jax.block_until_ready(go(steps))
            best[name] = min(best[name], (time.perf_counter() - start) / steps)
    return best


def cores() -> int:
    """Processors that this process may use: `taskset -c 1 python -m bench` compares single ones."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_gpu() -> bool:
    """Whether the rows are those of a GPU."""
    return jax.default_backend() == "gpu"


def row(
    name: str, ours: float, unit: str, peer: float | None = None, target: str | None = None, **more: object
) -> dict:
    """One line of the table.

    Args:
        name: what was measured, and against what.
        ours: a speed, a time or a number.
        unit: of `ours` and `peer`.
        peer: the same of the other side, in this run unless the name says otherwise; None if there is none.
        target: "≥ 40" or "≤ 6" of the ratio, or of `ours` where there is no peer.
        **more: `line` and `at` place the row in a figure: the name of its curve and its abscissa.

    Returns:
        name, ours, peer, ratio = ours/peer, unit, target, reached, and `more`.
    """
    ours, peer = float(ours), None if peer is None else float(peer)
    ratio = None if peer is None else ours / peer
    reached = None
    if target is not None:
        sign, bound = target.split()
        value = ours if ratio is None else ratio
        reached = bool(value >= float(bound) if sign == "≥" else value <= float(bound))
    return {
        "name": name, "ours": ours, "peer": peer, "ratio": ratio, "unit": unit, "target": target, "reached": reached
    } | more  # fmt: skip
