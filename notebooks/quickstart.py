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
# # Quickstart: from particles to stress and heat flux
#
# A fluid with two electron states, from its potential to profiles of density, stress and heat flux with error bars,
# the check of the conservation laws, and a derivative of the stress. A minute on two cores, reduced units (σ, ε,
# m); `GPU = True` takes more particles and samples. This notebook is the file `quickstart.py` beside it, run by
# `jupytext --to ipynb quickstart.py` and `jupyter nbconvert --execute --inplace --to notebook
# --ExecutePreprocessor.record_timing=False quickstart.ipynb`.

# %%
import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxmd_iz as iz
from jaxmd_iz.statistics import field_bands

GPU = False
SIDE, SAMPLES, STEPS = (6, 512, 500) if GPU else (3, 32, 40)  # particles along each edge; samples; time steps
BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8a94a0"  # Okabe and Ito
plt.rcParams.update({
    **{"font.size": 10, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False},
    **{"legend.frameon": False, "legend.fontsize": 9, "figure.dpi": 80, "lines.linewidth": 1.6},
})  # fmt: skip

# %% [markdown]
# ## 1. A potential with two states
#
# V(x) is a 2 × 2 matrix: a Lennard-Jones fluid on both diagonal entries, shifted by a gap on the second, and a
# coupling between close pairs. Its eigenvalues λ_1, λ_2 are the surfaces. Here two particles approach each other.

# %%
base = iz.LennardJones(epsilon=1.0, sigma=1.0, cutoff=2.2, truncation="force_shift")
coupling, shift = iz.Gaussian(0.1, 0.25, 1.2), iz.Gaussian(0.05, 0.25, 1.1)
pair = iz.System(iz.TwoStateFluid(base, coupling, shift, gap=1.0, particles=2), iz.Free(3), jnp.ones(2))
r = jnp.linspace(0.95, 2.4, 200)
levels = jax.vmap(lambda r: pair.levels(jnp.zeros((2, 3)).at[1, 0].set(r)))(r)
figure, axes = plt.subplots(figsize=(4.8, 3.0))
axes.plot(r, levels, label=["$λ_1$", "$λ_2$"])
axes.set(xlabel="r / σ", ylabel="λ / ε", ylim=(-1.5, 3))
axes.legend()
plt.show()

# %% [markdown]
# ## 2. A run
#
# `simulate` draws samples of the canonical density of both surfaces, follows each sample on each surface, weighted by
# w_j = e^{−βλ_j}/Σ_k e^{−βλ_k}, and returns fields at t = 0 and at the end. Bands hold the truth 95 % of the time.

# %%
n, edge = SIDE**3, 5.0 * SIDE / 3
space = iz.Periodic([edge] * 3)
fluid = iz.TwoStateFluid(base, coupling, shift, gap=1.0, particles=n)
system = iz.System(fluid, space, masses=jnp.ones(n), correction="paper", split="energy")
start = jnp.stack(jnp.meshgrid(*[jnp.arange(SIDE) * edge / SIDE] * 3), -1).reshape(-1, 3)
y = jnp.zeros((24, 3)).at[:, 2].set(jnp.linspace(0, edge, 24, endpoint=False))
grid = iz.Grid(y, iz.slab(iz.Polynomial(epsilon=1.3, dimensions=1), space, axis=2), axis=2)
run = iz.simulate(
    system, iz.Canonical(temperature=1.1), grid, start, key=jax.random.key(0), steps=STEPS,
    sampling=iz.Sampling(SAMPLES, burn_in=100, step=0.015), integrator=iz.VelocityVerlet(0.004),
)  # fmt: skip
series = run.series["fields"]
low, high = field_bands(series)


def profile(axes, name, label, *entry):
    """A field at the last time with its band."""
    z, at = np.asarray(y[:, 2]), (-1, slice(None), *entry)
    axes.fill_between(z, getattr(low, name)[at], getattr(high, name)[at], color=BLUE, alpha=0.25, lw=0)
    axes.plot(z, getattr(series.fields, name)[at], color=BLUE)
    axes.set(xlabel="z / σ", ylabel=label)


figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
profile(axes[0], "rho", "ρ / m σ⁻³")
profile(axes[1], "T", "T / ε")
plt.show()
print("weights of the surfaces:", np.round(run.q_star, 3), " warnings:", run.warnings)

# %% [markdown]
# ## 3. Stress and heat flux
#
# σ is positive in tension, so −σ_zz is a pressure; q is the heat flux in the frame of the centre of mass. Both have a
# kinetic part and one of the bonds, which is spread exactly along each bond.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
profile(axes[0], "sigma", "$σ_{zz}$ / ε σ⁻³", 2, 2)
profile(axes[1], "q", "$q_z$ / ε σ⁻² τ⁻¹", 2)
axes[1].axhline(0, color=GREY, lw=0.8)
plt.show()

# %% [markdown]
# ## 4. Are the conservation laws obeyed?
#
# At sampled points every run compares ∂ρ + ∇·m, ∂m + ∇·(K − S) − F and ∂E + ∇·(…) − P with zero: what is left is
# rounding. A run that breaks a law says so.

# %%
figure, axes = plt.subplots(figsize=(4.8, 2.6))
for name, values, colour in zip(("mass", "momentum", "energy"), run.residuals.T, (BLUE, RED, GREEN), strict=True):
    axes.semilogy(series.time, values, "o", color=colour, label=name)
axes.set(xlabel="t / τ", ylabel="largest relative residual", ylim=(1e-17, 1e-10))
axes.legend()
plt.show()

# %% [markdown]
# ## 5. Gradients
#
# Everything is differentiable: here σ_zz at one point after a short trajectory as a function of the coupling, with its
# tangent by `jax.grad` through dynamics, eigenvectors and bond integrals.


# %%
@jax.jit
def stress(amplitude):
    """σ_zz of one trajectory on the upper surface."""
    moved = iz.TwoStateFluid(base, iz.Gaussian(amplitude, 0.25, 1.2), shift, 1.0, 8)
    small = iz.System(moved, iz.Periodic([4.4] * 3), jnp.ones(8), correction="none")
    x = 1.6 * jnp.stack(jnp.meshgrid(*[jnp.arange(2.0)] * 3), -1).reshape(-1, 3)
    x = x + 0.1 * jnp.sin(7 * x)
    x, p = iz.trajectory(iz.VelocityVerlet(0.004), lambda x: small.force(x, 1), small.masses, x, 0 * x, 10)
    return small.moments(x[:1], x, p, 1, iz.Polynomial(1.5)).s[0, 2, 2]


amplitudes = np.linspace(0.0, 0.6, 13)
value, slope = jax.value_and_grad(stress)(0.3)
figure, axes = plt.subplots(figsize=(4.8, 2.8))
axes.plot(amplitudes, [stress(a) for a in amplitudes], "o", color=BLUE, label="trajectories")
axes.plot(amplitudes, value + slope * (amplitudes - 0.3), color=RED, label="tangent by `jax.grad`")
axes.set(xlabel="coupling / ε", ylabel="$σ_{zz}$ / ε σ⁻³")
axes.legend()
plt.show()

# %% [markdown]
# **What to change.** `SIDE`, `SAMPLES` and `STEPS` for size, or `GPU = True`; `temperature` and `gap` for how much the
# upper surface weighs; the potential for another: `iz.StillingerWeber`, `iz.EmbeddedAtom`, or any function by
# `iz.FromFunction`. `run.to_xarray()` is the whole result with units. From the shell: `jaxmd-iz demo`.
