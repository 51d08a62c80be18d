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
# # From fields to a fluid
#
# What conservation fields are for: two flows of a Lennard-Jones fluid from molecular dynamics, a wave of transverse
# velocity and one of temperature, give its equation of state, viscosities and conductivity; a continuum solver with
# them predicts a third flow; Green–Kubo gives the same coefficients without any flow; a network learns the closure.
#
# Reduced units, ρ = 0.8, T = 1. Two minutes on two cores; `GPU = True` takes a longer Green–Kubo run. This notebook
# is the file `fluid.py` beside it, run by `jupytext --to ipynb fluid.py` and
# `jupyter nbconvert --execute --inplace --to notebook --ExecutePreprocessor.record_timing=False fluid.ipynb`.

# %%
import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxmd_iz as iz
from jaxmd_iz import fitted, store, transport
from jaxmd_iz.closures import LearnedClosure, NewtonFourier
from jaxmd_iz.fit.constitutive import compare, fit_constitutive, train
from jaxmd_iz.transport import shear_decay, wave

GPU = False
COPIES, STEPS = (256, 20000) if GPU else (16, 2000)  # trajectories and steps of Green–Kubo
COLOURS = ("#440154", "#31688e", "#35b779", "#c8a200")
plt.rcParams.update({
    **{"font.size": 10, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False},
    **{"legend.frameon": False, "legend.fontsize": 9, "figure.dpi": 80, "lines.linewidth": 1.6},
})  # fmt: skip

flows = {name: fitted.read_flow(name, 0.5) for name in ("lj_shear_wave", "lj_heat_wave", "lj_mixed_waves")}


def profiles(axes, flow, of, predicted=None, label=""):
    """Bands of one standard error at four times, and lines of the continuum."""
    seen, error = of(flow.seen.state), flow.error(lambda s: of(s.state))
    place = (np.arange(seen.shape[1]) + 0.5) * float(flow.dx)
    for k, colour in zip(np.linspace(0, len(seen) - 1, 4).round().astype(int), COLOURS, strict=True):
        axes.fill_between(place, seen[k] - error[k], seen[k] + error[k], color=colour, alpha=0.35, linewidth=0)
        line = seen if predicted is None else of(predicted)
        axes.plot(place, line[k], color=colour, label=f"t = {float(flow.time[k]):.2f} τ")
    axes.set(xlabel="z [σ]", ylabel=label)


def across(state):
    """The transverse velocity."""
    return state.velocity[..., 1]


def energy(state):
    """The energy density."""
    return state.energy


# %% [markdown]
# ## 1. The decay of a wave, read off
#
# The amplitude of the transverse velocity falls as e^{−νk²t}, ν = η/ρ, with a memory τ of the stress at short times.

# %%
shear = wave(store.read_fields(fitted.path_of("lj_shear_wave")), "u", component=0)
decay = shear_decay(shear, memory=True)
nu, nu_error = float(decay.parameters["viscosity"]), float(decay.errors["viscosity"])
print(f"ν = {nu:.3f} ± {nu_error:.3f}, so η = ρν = {0.8 * nu:.3f} ± {0.8 * nu_error:.3f}")
figure, axes = plt.subplots(figsize=(4.6, 3.0))
axes.errorbar(shear.time, shear.amplitude, shear.err, fmt="o", ms=3, color=COLOURS[1], label="molecular dynamics")
axes.plot(shear.time, decay.curve, color="#D55E00", label="fit")
axes.set(xlabel="time [τ]", ylabel="amplitude of u_x [σ/τ]")
axes.legend()
plt.show()

# %% [markdown]
# ## 2. Equation of state and closure from two flows
#
# First a free energy a(ρ, T) from T, p and e of every cell and frame. Then η, ζ and κ such that the continuum, started
# from the first frame, meets the later ones. Errors are those of the jackknife over groups of samples.

# %%
found = fit_constitutive([flows["lj_shear_wave"], flows["lj_heat_wave"]], NewtonFourier(1.5, 1.0, 4.0))
error = np.sqrt(np.diag(found.covariance))
for name, e in zip(("viscosity", "bulk_viscosity", "conductivity"), error, strict=True):
    print(f"{name:15s} {float(getattr(found.closure, name)):.3f} ± {e:.3f}")
print(f"p = {float(found.eos.pressure(0.8, 1.0)):.3f}, c = {float(found.eos.sound_speed(0.8, 1.0)):.3f}")
figure, panels = plt.subplots(1, 2, figsize=(8.6, 3.2), layout="constrained")
for panel, name, of, label in zip(
    panels, ("lj_shear_wave", "lj_heat_wave"), (across, energy), ("u_x [σ/τ]", "E [ε/σ³]"), strict=True
):
    result = compare(flows[name], found.eos, found.closure)
    profiles(panel, flows[name], of, result.predicted, label)
panels[0].legend()
plt.show()

# %% [markdown]
# ## 3. A flow that was never fitted
#
# Sound, shear and heat at once, with other amplitudes and phases: the continuum against molecular dynamics.

# %%
result = compare(flows["lj_mixed_waves"], found.eos, found.closure)
print(f"relative error {result.error:.3f}, of which noise {result.noise:.3f}")
figure, panels = plt.subplots(1, 3, figsize=(11.6, 3.2), layout="constrained")
for panel, of, label in zip(
    panels,
    (lambda s: s.velocity[..., 0], across, energy),
    ("u_z, along the line [σ/τ]", "u_x [σ/τ]", "E [ε/σ³]"),
    strict=True,
):
    profiles(panel, flows["lj_mixed_waves"], of, result.predicted, label)
panels[0].legend()
plt.show()

# %% [markdown]
# ## 4. The same coefficients from fluctuations
#
# Green–Kubo: the zero-frequency limit of the spectrum of the stress in equilibrium, by cepstral analysis, which finds
# its cut and its error; the running integral is shown for comparison. This run is short: the band is what it is worth.

# %%
n, side = 125, (125 / 0.8) ** (1 / 3)
fluid = iz.System(iz.LennardJones(1.0, 1.0, 2.5, "force_shift"), iz.Periodic([side] * 3), np.ones(n))
lattice = jnp.asarray(np.stack(np.meshgrid(*[np.arange(5)] * 3), -1).reshape(-1, 3) * side / 5)
kubo = transport.green_kubo(
    fluid,
    iz.Canonical(1.0),
    lattice,
    key=jax.random.key(0),
    sampling=iz.Sampling(COPIES, 150, step=0.01, leapfrog=10),
    integrator=iz.VelocityVerlet(0.004),
    steps=STEPS,
    every=8,
    neighbours="dense",
)
eta = kubo.viscosity
print(f"η = {float(eta.value):.2f} ± {float(eta.err):.2f}")
figure, axes = plt.subplots(figsize=(4.6, 3.0))
here = np.asarray(eta.time) < 3.0
middle, wide = np.asarray(eta.running)[here], np.asarray(eta.running_err)[here]
axes.fill_between(np.asarray(eta.time)[here], middle - wide, middle + wide, color=COLOURS[1], alpha=0.3, linewidth=0)
axes.plot(np.asarray(eta.time)[here], middle, color=COLOURS[1], label="running integral")
axes.axhspan(float(eta.value - eta.err), float(eta.value + eta.err), color="#D55E00", alpha=0.3, label="cepstral")
axes.axhline(float(found.closure.viscosity), color="#1d242b", lw=1, ls="--", label="from the flows")
axes.set(xlabel="time [τ]", ylabel="η [√(mε)/σ²]", ylim=(0, None))
axes.legend()
plt.show()

# %% [markdown]
# ## 5. A closure that is learned
#
# A network of the invariants of ρ, T, ∇u and ∇T, whose form makes it frame-indifferent, symmetric and of non-negative
# entropy production. It begins at the coefficients above; what it gains in a few steps is what they miss.

# %%
start = LearnedClosure(
    key=jax.random.key(1),
    density=0.8,
    rate=0.3,
    gradient=0.1,
    viscosity=float(found.closure.viscosity),
    conductivity=float(found.closure.conductivity),
    width=6,
    depth=1,
)
learned, losses = train([flows["lj_shear_wave"]], found.eos, start, steps=20, rate=1e-2)
figure, axes = plt.subplots(figsize=(4.6, 3.0))
axes.plot(losses, color=COLOURS[1])
axes.set(xlabel="step", ylabel="mean square of misses in errors")
plt.show()

# %% [markdown]
# **What to change.** `flows`: your own `fields.nc` files, profiles with several frames (`dynamics.every`) of runs like
# `jaxmd-iz run fit_newton_fourier`. `GPU = True` for Green–Kubo with an error of a per cent. `train` with more steps
# and flows for a closure that depends on the state. `jaxmd-iz fit` does sections 2 and 3 and writes a report.
