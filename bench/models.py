"""The force of every model on its highest surface, with four Lennard-Jones particles of this run as the peer."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

import jaxmd_iz as iz
from bench.timing import row, seconds
from jaxmd_iz import models as registry

BATCH = 64


def _microseconds(potential, x: np.ndarray, correction: str, runs: int) -> float:
    """Time of one force, of a batch of configurations about x."""
    n, dim = x.shape
    system = iz.System(potential, iz.Free(dim), jnp.ones(n), correction=correction)
    noise = np.random.default_rng(0).normal(scale=0.01, size=(BATCH, n, dim))
    force = jax.jit(jax.vmap(lambda y: system.force(y, potential.states - 1)))
    return 1e6 / BATCH * seconds(force, jnp.asarray(x[None] + noise), runs=runs)


def model_systems(quick: bool) -> Iterator[dict]:
    """A force of each model of the registry without and with the correction of the paper, all pairs, float64."""
    every, runs = registry.MODELS | registry.FAMILIES, 15 if quick else 50
    square = registry.FAMILIES["two_state_fluid"].x
    assert square is not None
    scalar = _microseconds(iz.LennardJones(1.0, 1.0, cutoff=2.5, truncation="shift"), square, "none", runs)
    for name, model in every.items():
        if model.x is None:  # it needs a file
            continue
        potential = registry.family_member(name)
        for correction in ("none", "paper"):
            taken = _microseconds(potential, model.x, correction, runs)
            yield row(f"force of {name} ({correction}), in scalar forces of n = 4", taken, "µs", scalar)
