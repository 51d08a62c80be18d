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
# # Stress and heat flux of a fluid, with error bars
#
# A Lennard-Jones fluid whose temperature varies along z: profiles of T, σ and q in time, how wide their bands are and
# why, what the parts are, and what a mollifier of another width sees. Half a minute on two cores, reduced units; `GPU
# = True` takes more samples. This notebook is the file `stress_and_heat_flux.py` beside it, run by `jupytext --to
# ipynb stress_and_heat_flux.py` and `jupyter nbconvert --execute --inplace --to notebook
# --ExecutePreprocessor.record_timing=False stress_and_heat_flux.ipynb`.

# %%
import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxmd_iz as iz
from jaxmd_iz.build.lattice import lattice
from jaxmd_iz.local_gibbs import natural
from jaxmd_iz.statistics import field_bands

GPU = False
SAMPLES, STEPS = (4096, 400) if GPU else (128, 60)
BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8a94a0"  # Okabe and Ito
plt.rcParams.update({
    **{"font.size": 10, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False},
    **{"legend.frameon": False, "legend.fontsize": 9, "figure.dpi": 80, "lines.linewidth": 1.6},
})  # fmt: skip

# %% [markdown]
# ## 1. A temperature wave
#
# The local Gibbs density has T(z) = 1.2 (1 + 0.3 cos kz) in its parameters; positions are drawn by Monte Carlo,
# momenta exactly. Two-dimensional, so that it is quick. The grey line is what was asked, on the scale of the
# mollifier.

# %%
n, cell = 48, (6.0, 12.0)
space = iz.Periodic(list(cell))
system = iz.System(iz.LennardJones(1.0, 1.0, 2.5, "force_shift"), space, np.ones(n))
spacing = cell[1] / 8
s = spacing * (jnp.arange(8) + 0.5)
points = jnp.zeros((8, 2)).at[:, 1].set(s)
shape = iz.slab(iz.Cubic(spacing, 1), space, axis=1)
cells = iz.Cells(points, jnp.full(8, space.volume / 8), shape)
k = 2 * np.pi / cell[1]
temperature = 1.2 * (1 + 0.3 * jnp.cos(k * s))
density = iz.LocalGibbs(cells, natural(temperature, jnp.zeros((8, 2)), jnp.zeros(8)), 1 / 1.2)
z = jnp.linspace(0, cell[1], 36, endpoint=False)
y = jnp.zeros((36, 2)).at[:, 1].set(z)


def look(epsilon):
    """A profile along z with a mollifier of some width."""
    return iz.Grid(y, iz.slab(iz.Polynomial(epsilon, 1), space, axis=1), f"{epsilon:g}", 1)


run = iz.simulate(
    system, density, [look(1.5), look(0.75)], jnp.asarray(lattice(np.diag(cell), n)), key=jax.random.key(2),
    sampling=iz.Sampling(SAMPLES, 60, leapfrog=10, step=0.02), integrator=iz.VelocityVerlet(0.004), steps=STEPS,
    every=STEPS // 2,
)  # fmt: skip
series = run.series["1.5"]
low, high = field_bands(series)
COLOURS = (BLUE, GREEN, RED)


def profiles(axes, name, label, *entry):
    """A field at all times with its bands."""
    for t, colour in enumerate(COLOURS):
        at = (t, slice(None), *entry)
        axes.fill_between(z, getattr(low, name)[at], getattr(high, name)[at], color=colour, alpha=0.2, lw=0)
        axes.plot(z, getattr(series.fields, name)[at], color=colour, label=f"t = {float(series.time[t]):.2g} τ")
    axes.set(xlabel="z / σ", ylabel=label)


figure, axes = plt.subplots(figsize=(5.2, 2.8))
profiles(axes, "T", "T / ε")
axes.plot(z, 1.2 * (1 + 0.3 * np.cos(k * z)), color=GREY, ls="--")
axes.legend()
plt.show()

# %% [markdown]
# ## 2. Stress and heat flux
#
# Heat flows from hot to cold as soon as the dynamics begins: at t = 0 the samples of a local Gibbs density know no
# gradient, and q vanishes within its bands.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8.4, 2.8), layout="constrained")
profiles(axes[0], "sigma", "$σ_{zz}$ / ε σ⁻²", 1, 1)
profiles(axes[1], "q", "$q_z$ / ε σ⁻¹ τ⁻¹", 1)
axes[1].axhline(0, color=GREY, lw=0.8)
axes[0].legend()
plt.show()

# %% [markdown]
# ## 3. Their parts
#
# Momentum carried by particles, and forces across bonds. In a dense fluid the second part is most of the stress, and
# still more of the heat flux.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8.4, 2.8), layout="constrained")
for axis, name, entry in ((axes[0], "sigma", (1, 1)), (axes[1], "q", (1,))):
    for part, colour in (("kinetic", BLUE), ("potential", RED)):
        axis.plot(z, getattr(series.fields, f"{name}_{part}")[(-1, slice(None), *entry)], color=colour, label=part)
    axis.axhline(0, color=GREY, lw=0.8)
axes[0].set(xlabel="z / σ", ylabel="$σ_{zz}$ / ε σ⁻²")
axes[1].set(xlabel="z / σ", ylabel="$q_z$ / ε σ⁻¹ τ⁻¹")
axes[0].legend()
plt.show()

# %% [markdown]
# ## 4. How wide the bands are
#
# Errors come from a jackknife over 16 groups of whole chains. A mollifier of half the width sees half the particles,
# so its bands are wider; the error of q is larger than that of σ in units of what one looks for. Samples help as 1/√S.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8.4, 2.8), layout="constrained")
for name, colour in (("1.5", BLUE), ("0.75", RED)):
    errors = run.series[name].errors
    axes[0].plot(z, errors.sigma[-1, :, 1, 1], color=colour, label=f"ε = {name} σ")
    axes[1].plot(z, errors.q[-1, :, 1], color=colour)
axes[0].set(xlabel="z / σ", ylabel="standard error of $σ_{zz}$", ylim=(0, None))
axes[1].set(xlabel="z / σ", ylabel="standard error of $q_z$", ylim=(0, None))
axes[0].legend()
plt.show()
print("largest relative residuals of mass, momentum, energy:", np.max(np.asarray(run.residuals), axis=0))

# %% [markdown]
# **What to change.** `SAMPLES` for narrower bands (`GPU = True`), `STEPS` for a longer time, `temperature` and the
# zeros of `natural` for other fields: velocities (second argument) and chemical potentials (third). With data for ρ,
# ρu and E in place of parameters see `initial_density.ipynb`. From the shell: `jaxmd-iz run temperature_step`.
