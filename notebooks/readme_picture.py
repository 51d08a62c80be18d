"""Draws the picture of the README: fields of a real configuration, and a profile of the demo with error bands.

Run from the project's root: `python notebooks/readme_picture.py [DEMO_FOLDER]`; writes `.github/fields.png`.
The profile is that of `jaxmd-iz demo --out DEMO_FOLDER`.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import xarray as xr

import jaxmd_iz as iz
from jaxmd_iz.fields import fields

ROOT = Path(__file__).resolve().parent.parent


def plane(points: int = 28):
    """Fields of the Lennard-Jones liquid of `tests/data` on the plane z = L/2."""
    data = np.load(ROOT / "tests/data/lj500_cut_shift.npz")
    edge = float(data["box"][0])
    potential = iz.LennardJones(1.0, 1.0, cutoff=2.5, truncation="shift")
    system = iz.System(potential, iz.Periodic(data["box"]), jnp.ones(len(data["x"])))
    line = np.arange(points) * edge / points
    y = np.stack([*np.meshgrid(line, line, indexing="ij"), np.full((points, points), edge / 2)], -1).reshape(-1, 3)
    lists = iz.neighbour_list(system.space, data["x"], 2.5)
    p = jnp.asarray(data["v"])
    moments = system.moments(jnp.asarray(y), jnp.asarray(data["x"]), p, 0, iz.Polynomial(1.5), lists)
    return line, fields(moments, jnp.sum(p, axis=0) / len(p)), points


def main(demo: Path) -> None:
    """Both panels."""
    jax.config.update("jax_enable_x64", True)
    line, f, points = plane()
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    pressure = -np.trace(np.asarray(f.sigma), axis1=1, axis2=2).reshape(points, points) / 3
    reach = np.abs(pressure).max()
    image = left.pcolormesh(line, line, pressure.T, cmap="RdBu_r", vmin=-reach, vmax=reach, shading="gouraud")
    q = np.asarray(f.q).reshape(points, points, 3)[::2, ::2]
    left.quiver(line[::2], line[::2], q[..., 0].T, q[..., 1].T, color="black", width=0.003)
    left.set(xlabel="x  [σ]", ylabel="y  [σ]", aspect="equal", title="One configuration: −tr σ/3 (colour), heat flux q")
    fig.colorbar(image, ax=left, label="−tr σ/3  [ε/σ³]")
    demo_fields = xr.open_dataset(demo / "fields.nc", engine="h5netcdf")
    last = demo_fields.isel(time=-1)
    s = last["s"].values
    parts = (("sigma", "σ_zz"), ("sigma_kinetic", "kinetic part"), ("sigma_potential", "potential part"))
    for (name, label), colour in zip(parts, ("black", "tab:red", "tab:blue"), strict=True):
        value, error = last[name].values[:, 2, 2], last[f"{name}_err"].values[:, 2, 2]
        right.fill_between(s, value - 2 * error, value + 2 * error, color=colour, alpha=0.2, linewidth=0)
        right.plot(s, value, color=colour, label=label)
    right.set(xlabel="z  [σ]", ylabel="σ_zz  [ε/σ³]", title="Two-state fluid, ±2 standard errors")
    right.set_ylim(top=0.35)
    right.legend(loc="upper center", ncols=3)
    fig.savefig(ROOT / ".github/fields.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "jaxmd_iz_demo"))
