"""One process of `test_distributed`: a small run on every device there is, its fields written by the first process."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxmd_iz as iz
from jaxmd_iz import distributed


def small_run() -> dict[str, np.ndarray]:
    """Fields, errors and q_j* of six samples of three particles on a ring: sampled, carried along, observed."""
    system = iz.System(iz.WCA(1.0, 1.0), iz.Periodic([3.6]), jnp.ones(3))
    x = jnp.asarray([[0.1], [1.2], [2.4]])
    grid = iz.Grid(x + 0.5, iz.Polynomial(1.0, 1))
    sampling = iz.Sampling(6, 16, leapfrog=3)
    scheme = iz.VelocityVerlet(0.004)
    found = iz.simulate(
        system, iz.Canonical(1.0), grid, x, key=jax.random.key(3), sampling=sampling, integrator=scheme, steps=6
    )
    series = found.series["fields"]
    named = {"sigma": series.fields.sigma, "q": series.fields.q, "error": series.errors.sigma, "q_star": found.q_star}
    return {name: np.asarray(value) for name, value in named.items()} | {"residuals": np.asarray(found.residuals)}


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    if len(sys.argv) > 2:
        distributed.start()
    result = small_run()
    if distributed.is_first():
        np.savez(Path(sys.argv[1]), devices=jax.device_count(), **result)
