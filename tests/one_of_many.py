"""One process of `test_distributed`: a small run on every device there is, its fields written by the first process."""

import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxmd_iz as iz
from jaxmd_iz import chunks, distributed, simulation
from jaxmd_iz.checkpoint import Checkpoints
from jaxmd_iz.pieces import over_devices

PIECES = 4


def small_run(checkpoints: Checkpoints | None = None) -> dict[str, np.ndarray]:
    """Fields, errors and q_j* of six samples of three particles on a ring: sampled, carried along, observed."""
    system = iz.System(iz.WCA(1.0, 1.0), iz.Periodic([3.6]), jnp.ones(3))
    x = jnp.asarray([[0.1], [1.2], [2.4]])
    grid = iz.Grid(x + 0.5, iz.Polynomial(1.0, 1))
    sampling = iz.Sampling(6, 16, sampler="langevin", step=0.01)
    scheme = iz.VelocityVerlet(0.004)
    found = iz.simulate(
        system,
        iz.Canonical(1.0),
        grid,
        x,
        key=jax.random.key(3),
        sampling=sampling,
        integrator=scheme,
        steps=6,
        every=3,
        neighbours="list",
        checkpoints=checkpoints,
    )
    series = found.series["fields"]
    named = {"sigma": series.fields.sigma, "q": series.fields.q, "error": series.errors.sigma, "q_star": found.q_star}
    return {name: np.asarray(value) for name, value in named.items()} | {"residuals": np.asarray(found.residuals)}


def interrupted(folder: Path, after: int) -> dict[str, np.ndarray]:
    """The same from two runs: one that ends with its report number `after`, and one that goes on from there."""
    reports = []

    def bar(count):
        reports.append(count)
        if len(reports) == after:
            raise InterruptedError

    bar.close = lambda: None  # type: ignore[attr-defined]
    plain, simulation.progress_bar = simulation.progress_bar, lambda *_: bar
    try:
        small_run(Checkpoints(folder, 0.0))
    except InterruptedError:
        simulation.progress_bar = plain
        if distributed.is_first():
            shutil.copytree(folder, f"{folder}_left")
        return small_run(Checkpoints(folder, resume=True))
    raise AssertionError("the run was not interrupted")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    if "together" in sys.argv:
        distributed.start()
    chunks.CHUNK = 8  # reports: none yet, 8 and 8 proposals, 3 and 3 steps
    file = Path(sys.argv[1])
    with over_devices(pieces=PIECES):
        result = small_run()
        for stage, after in (("sampling", 3), ("steps", 5)) if "again" in sys.argv else ():
            again = interrupted(file.with_suffix(f".{stage}"), after)
            result |= {f"{name}_{stage}": value for name, value in again.items()}
    if "left" in sys.argv:  # by a run on other devices
        result |= {f"{name}_whole": value for name, value in small_run().items()}
        for stage in ("sampling", "steps"):
            again = small_run(Checkpoints(file.with_name(f"2.{stage}_left"), resume=True))
            result |= {f"{name}_{stage}": value for name, value in again.items()}
    if distributed.is_first():
        np.savez(file, devices=jax.device_count(), **result)
