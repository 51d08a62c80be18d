# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From a trajectory of LAMMPS or ASE to fields
#
# Snapshots of another program, with velocities, become density, stress and heat flux on a grid: from a file, from
# ASE's `Atoms`, as an average over time, and into a file for ParaView. Half a minute on two cores; `GPU = True` takes
# a finer grid. This notebook is the file `trajectory_to_fields.py` beside it, run by `jupytext --to ipynb
# trajectory_to_fields.py` and `jupyter nbconvert --execute --inplace --to notebook
# --ExecutePreprocessor.record_timing=False trajectory_to_fields.ipynb`.

# %%
import jax

jax.config.update("jax_enable_x64", True)

import tempfile
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from ase.io import read, write

import jaxmd_iz as iz
from jaxmd_iz.interop import Particles, from_ase, to_ase
from jaxmd_iz.snapshots import read_snapshots

GPU = False
POINTS = 48 if GPU else 12  # of a map, along each edge
FILE = Path("../tests/data/lj500.extxyz")  # 500 atoms of a liquid, written by LAMMPS in reduced units
BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8a94a0"  # Okabe and Ito
plt.rcParams.update({
    **{"font.size": 10, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False},
    **{"legend.frameon": False, "legend.fontsize": 9, "figure.dpi": 80, "lines.linewidth": 1.6},
})  # fmt: skip

# %% [markdown]
# ## 1. A file
#
# `read_snapshots` takes extended XYZ, LAMMPS dumps, H5MD and whatever ASE reads. Speeds follow Maxwell's distribution
# (line) at the temperature that LAMMPS prints, 0.6909.

# %%
shots = read_snapshots(FILE, "lj", species={"X": 1.0})
space = iz.Periodic(jnp.asarray(shots.cell))
x, v = jnp.asarray(shots.x), jnp.asarray(shots.v)
n = x.shape[1]
temperature = float(jnp.sum(v**2) / (3 * (n - 1)))
figure, axes = plt.subplots(figsize=(4.8, 2.6))
axes.hist(np.ravel(v), bins=40, density=True, color=BLUE, alpha=0.5)
u = np.linspace(-3, 3, 200)
axes.plot(u, np.exp(-(u**2) / (2 * temperature)) / np.sqrt(2 * np.pi * temperature), color=RED)
axes.set(xlabel="component of a velocity / σ τ⁻¹", ylabel="density", title=f"{n} atoms, T = {temperature:.5f} ε")
plt.show()

# %% [markdown]
# ## 2. Its fields
#
# The potential must be that of the run: here it is cut and shifted at 2.5 σ. A map of ρ and σ_xx in a plane, with a
# mollifier of 1.5 σ; the mean of −tr σ/3 over the cell is the pressure, which LAMMPS has as 0.84045.

# %%
system = iz.System(iz.LennardJones(1.0, 1.0, 2.5, "shift"), space, jnp.ones(n))
edge = float(space.heights[0])
line = (np.arange(POINTS) + 0.5) * edge / POINTS
y = jnp.asarray([[a, b, edge / 2] for a in line for b in line])
key = jax.random.key(0)
plane = iz.simulate(system, iz.Canonical(1.0), iz.Grid(y, iz.Polynomial(1.5)), x, p=v, key=key)
dataset = plane.to_xarray()
figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.0), layout="constrained")
for axis, values, label in (
    (axes[0], dataset.rho[0], "ρ / m σ⁻³"),
    (axes[1], dataset.sigma[0].sel(i="x", j="x"), "$σ_{xx}$ / ε σ⁻³"),
):
    image = axis.pcolormesh(line, line, values.values.reshape(POINTS, POINTS).T, cmap="cividis")
    axis.set(xlabel="x / σ", ylabel="y / σ", aspect="equal")
    figure.colorbar(image, ax=axis, label=label)
plt.show()
print(f"P = {float(plane.pressure[0]):.5f}, residuals of the laws {np.max(np.asarray(plane.residuals)):.1e}")

# %% [markdown]
# ## 3. From ASE
#
# Any calculator can make the trajectory. Here ten frames come from our own dynamics and go through ASE's `Atoms` into
# an extended XYZ file and back, momenta and all.

# %%
shifted = iz.System(iz.LennardJones(1.0, 1.0, 2.5, "force_shift"), space, jnp.ones(n))


@jax.jit
def ahead(x, p):
    """25 steps."""
    return iz.trajectory(iz.VelocityVerlet(0.005), lambda a: shifted.force(a, 0), shifted.masses, x, p, 25)


frames, now = [], (x[0], v[0])
for _ in range(10):
    now = ahead(*now)
    frames.append(to_ase(Particles(*now, shifted.masses, shifted.species, space, ("Ar",)), "lj"))
with tempfile.TemporaryDirectory() as folder:
    write(Path(folder) / "liquid.extxyz", frames)
    back = [from_ase(atoms, "lj") for atoms in read(Path(folder) / "liquid.extxyz", ":")]
positions, momenta = (jnp.stack([getattr(a, name) for a in back]) for name in ("x", "p"))
walk = jnp.sqrt(jnp.mean(jnp.sum((positions - positions[:1]) ** 2, axis=-1), axis=1))
figure, axes = plt.subplots(figsize=(4.8, 2.6))
axes.plot(0.125 * np.arange(10), walk, "o-", color=BLUE)
axes.set(xlabel="t / τ", ylabel="root mean square displacement / σ")
plt.show()

# %% [markdown]
# ## 4. Averages over frames, with error bars
#
# With `average = "time"` the frames of one chain are one average; the jackknife takes their correlation in time into
# account. A profile of the normal stress: in a liquid at rest it is flat, and is so within its bands.

# %%
z = jnp.linspace(0, edge, 24, endpoint=False)
grid = iz.Grid(jnp.zeros((24, 3)).at[:, 2].set(z), iz.slab(iz.Polynomial(1.5, 1), space, axis=2), axis=2)
profile = iz.simulate(shifted, iz.Canonical(1.0), grid, positions, p=momenta, key=key).to_xarray()
stress = profile.sigma[0].sel(i="z", j="z")
half = 2.26 * profile.sigma_err[0].sel(i="z", j="z")  # Student's t for ten groups
figure, axes = plt.subplots(figsize=(4.8, 2.6))
axes.fill_between(z, stress - half, stress + half, color=BLUE, alpha=0.25, lw=0)
axes.plot(z, stress, color=BLUE)
axes.axhline(float(stress.mean()), color=GREY, lw=0.8)
axes.set(xlabel="z / σ", ylabel="$σ_{zz}$ / ε σ⁻³")
plt.show()
with tempfile.TemporaryDirectory() as folder:
    written = iz.write_vtk(dataset, Path(folder) / "plane")
    print("for ParaView:", sorted(path.name for path in Path(folder).iterdir()))

# %% [markdown]
# **What to change.** `FILE` and the potential for yours, with `units` of the file in `read_snapshots`; `POINTS` and
# the mollifier's 1.5 for the resolution. A file without velocities needs `configurational=True` and gives no kinetic
# parts. From the shell: `jaxmd-iz measure CONFIG TRAJECTORY`, which writes NetCDF, VTK and a report.
