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
# # Scaling out: ensembles, precision, neighbour lists, devices
#
# What a step costs and where to spend a bigger machine: many small systems at once, single precision, neighbour lists
# for one large system, samples against error bars, and several devices. A minute on two cores; `GPU = True` takes
# sizes that fill one. Timings are of the machine that ran this. This notebook is the file `scaling_out.py` beside it,
# run by `jupytext --to ipynb scaling_out.py` and `jupyter nbconvert --execute --inplace --to notebook
# --ExecutePreprocessor.record_timing=False scaling_out.ipynb`.

# %%
import jax

jax.config.update("jax_enable_x64", True)

import time

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxmd_iz as iz
from jaxmd_iz import pieces
from jaxmd_iz.build.lattice import lattice
from jaxmd_iz.neighbours import neighbour_list

GPU = False
BATCHES = (64, 512, 4096, 16384) if GPU else (1, 4, 16, 64)
SIZES = (4000, 32000, 256000) if GPU else (256, 500, 1372, 2048)
SAMPLES = (64, 256, 1024, 4096) if GPU else (16, 64, 256)
BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8a94a0"  # Okabe and Ito
plt.rcParams.update({
    **{"font.size": 10, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False},
    **{"legend.frameon": False, "legend.fontsize": 9, "figure.dpi": 80, "lines.linewidth": 1.6},
})  # fmt: skip


def fluid(n, dtype=jnp.float32):
    """A Lennard-Jones liquid, ρ = 0.8442, on a lattice that is disturbed."""
    edge = (n / 0.8442) ** (1 / 3)
    space = iz.Periodic([edge] * 3)
    x = lattice(edge * np.eye(3), n) + 0.05 * np.random.default_rng(0).normal(size=(n, 3))
    cutoff = min(2.5, 0.49 * edge)
    return iz.System(iz.LennardJones(1.0, 1.0, cutoff, "force_shift"), space, jnp.ones(n, dtype)), jnp.asarray(x, dtype)


def seconds(function, *arguments):
    """Of one call, when it is compiled: the shorter of two."""
    jax.block_until_ready(function(*arguments))
    taken = []
    for _ in range(2):
        begin = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        taken.append(time.perf_counter() - begin)
    return min(taken)


# %% [markdown]
# ## 1. Many small systems
#
# Under `vmap` the pair forces of a batch become loops whose fastest axis is the batch: the cost of an atom falls until
# the device is full. Single precision is for speed, double for physics; sums of many terms are compensated.

# %%
figure, axes = plt.subplots(figsize=(4.8, 2.8))
for dtype, colour in ((jnp.float32, BLUE), (jnp.float64, RED)):
    system, x = fluid(64, dtype)
    force = jax.jit(jax.vmap(lambda a, system=system: system.force(a, 0)))
    cost = [seconds(force, jnp.stack([x] * batch)) / (64 * batch) for batch in BATCHES]
    axes.loglog(BATCHES, 1e9 * np.array(cost), "o-", color=colour, label=jnp.dtype(dtype).name)
axes.set(xlabel="systems of 64 atoms", ylabel="force, ns an atom")
axes.legend()
plt.show()

# %% [markdown]
# ## 2. One large system
#
# All pairs cost n², lists n (dotted: slopes). `simulate` takes lists from 400 particles on (`neighbours="auto"`),
# rebuilds them on the device and keeps particles that are close in space close in memory.

# %%
pairs, lists = [], []
for n in SIZES:
    system, x = fluid(n)
    near = neighbour_list(system.space, x, system.potential.cutoff, 0.3, whole=False)
    lists.append(seconds(jax.jit(lambda a, near, system=system: system.force(a, 0, near)), x, near))
    if n < 5000:
        pairs.append(seconds(jax.jit(lambda a, system=system: system.force(a, 0)), x))
figure, axes = plt.subplots(figsize=(4.8, 2.8))
axes.loglog(SIZES[: len(pairs)], 1e3 * np.array(pairs), "o-", color=RED, label="all pairs")
axes.loglog(SIZES, 1e3 * np.array(lists), "o-", color=BLUE, label="neighbour lists")
axes.loglog(SIZES, 1e3 * lists[0] * np.array(SIZES) / SIZES[0], ":", color=GREY)
axes.set_xticks(SIZES, SIZES)
axes.minorticks_off()
axes.set(xlabel="n", ylabel="force / ms")
axes.legend()
plt.show()

# %% [markdown]
# ## 3. What samples buy
#
# Error bars fall as 1/√S (dotted) but for the scatter that few groups leave in them, so ten times narrower bands need
# a hundred times the samples: these are independent, and what one spreads over devices.

# %%
system, x = fluid(32, jnp.float64)
edge = float(system.space.heights[0])
y = jnp.zeros((8, 3)).at[:, 2].set(jnp.linspace(0, edge, 8, endpoint=False))
grid = iz.Grid(y, iz.slab(iz.Polynomial(1.0, 1), system.space, axis=2), axis=2)


def error(samples):
    """The mean standard error of σ_zz."""
    sampling = iz.Sampling(samples, 30, step=0.01)
    run = iz.simulate(system, iz.Canonical(1.0), grid, x, key=jax.random.key(1), sampling=sampling)
    return float(jnp.mean(run.series["fields"].errors.sigma[0, :, 2, 2]))


errors = np.array([error(count) for count in SAMPLES])
figure, axes = plt.subplots(figsize=(4.8, 2.8))
axes.loglog(SAMPLES, errors, "o-", color=BLUE)
axes.loglog(SAMPLES, errors[0] * np.sqrt(SAMPLES[0] / np.array(SAMPLES)), ":", color=GREY)
axes.set_xticks(SAMPLES, SAMPLES)
axes.minorticks_off()
axes.set(xlabel="samples", ylabel="standard error of $σ_{zz}$ / ε σ⁻³")
plt.show()

# %% [markdown]
# ## 4. Several devices and processes
#
# `simulate` cuts the ensemble over every device there is. On a CPU, `JAX_NUM_CPU_DEVICES=2` before the start makes
# two; `pieces.over_devices(k)` takes the first k. Every sample has its own random keys, and every piece of the ensemble
# is taken by the same program, so the result is the same bit for bit for the same number of pieces.
# Under SLURM `srun jaxmd-iz run CONFIG.toml --distributed` finds the other processes.

# %%
counts = range(1, jax.device_count() + 1)
found = []
for count in counts:
    with pieces.over_devices(count, pieces=4):
        found.append(error(SAMPLES[0]))
figure, axes = plt.subplots(figsize=(4.8, 2.4))
axes.bar(list(counts), found, color=BLUE, width=0.4)
axes.set(xlabel="devices", ylabel="standard error of $σ_{zz}$", xticks=list(counts))
plt.show()
print("the same bits on any number of devices:", all(f == found[0] for f in found))

# %% [markdown]
# **What to change.** `GPU = True` on a GPU, or the three tuples for other sizes. `python -m bench` measures all of
# this against other programs. For long runs take `jaxmd-iz run`, which writes checkpoints and goes on with `--resume`.
