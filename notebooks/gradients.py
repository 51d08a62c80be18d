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
# # Gradients through trajectories and averages
#
# How to differentiate what molecular dynamics gives, and where each way ends: the memory of a gradient through a
# trajectory, stored, checkpointed or reversible; the growth e^{Λt} that makes long ones useless; and averages
# differentiated by weights and score terms instead, whose error does not grow, here of a stress profile.
#
# Reduced units throughout. About a minute on two cores; `GPU = True` takes a larger system. This notebook is the file
# `gradients.py` beside it, run by `jupytext --to ipynb gradients.py` and
# `jupyter nbconvert --execute --inplace --to notebook --ExecutePreprocessor.record_timing=False gradients.ipynb`.

# %%
import jax

jax.config.update("jax_enable_x64", True)

import equinox as eqx
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxmd_iz as iz
from jaxmd_iz.fields import fields
from jaxmd_iz.lyapunov import tangent_growth
from jaxmd_iz.reweighting import sensitivity

GPU = False
SIDE, SAMPLES = (8, 1024) if GPU else (4, 64)  # particles in each direction of a plane; samples
COLOURS = ("#0072B2", "#D55E00", "#009E73")
plt.rcParams.update({
    **{"font.size": 10, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False},
    **{"legend.frameon": False, "legend.fontsize": 9, "figure.dpi": 80, "lines.linewidth": 1.6},
})  # fmt: skip

N, TEMPERATURE = SIDE**2, 1.0
EDGE = SIDE * 1.2
space = iz.Periodic([EDGE, EDGE])
fluid = iz.System(iz.LennardJones(1.0, 1.0, min(2.3, EDGE / 2.01), "force_shift"), space, np.ones(N))
lattice = jnp.asarray(np.stack(np.meshgrid(*[np.arange(SIDE)] * 2), -1).reshape(-1, 2) * 1.2)


def with_epsilon(epsilon):
    """The fluid with another ε."""
    return eqx.tree_at(lambda s: s.potential.epsilon, fluid, epsilon)


ONE = jnp.asarray(1.0)

# %% [markdown]
# ## 1. One gradient, three ways to hold the past
#
# The derivative of a number of the last phase point in ε, in reverse mode. `store` keeps every array of every step;
# `checkpoint` keeps about 32 log₃₂(steps) phase points and runs blocks of steps again; `reversible` keeps nothing: its
# steps are in whole numbers and undone bit for bit, which is checked in every gradient.

# %%
start = lattice + 0.05 * jax.random.normal(jax.random.key(1), lattice.shape)
push = iz.Canonical(TEMPERATURE).momenta(jax.random.key(2), fluid, start)


def last(epsilon, steps, way):
    """A number of the last phase point."""
    system = with_epsilon(epsilon)
    x, p = iz.trajectory(
        iz.VelocityVerlet(0.005), lambda a: system.force(a, 0), system.masses, start, push, steps, gradient=way
    )
    return jnp.sum(jnp.cos(2 * jnp.pi * x / EDGE)) + jnp.sum(p**2) / 2


lengths, found = (32, 128, 512), {}
for way in ("store", "checkpoint", "reversible"):
    slope = jax.jit(jax.grad(last), static_argnums=(1, 2))
    size = [slope.lower(ONE, s, way).compile().memory_analysis().temp_size_in_bytes for s in lengths]
    found[way] = size, float(slope(ONE, lengths[0], way))
print("slopes after 32 steps:", *(f"{way} {value:.12f}" for way, (_, value) in found.items()))
figure, axes = plt.subplots(figsize=(4.6, 3.0))
for (way, (size, _)), colour in zip(found.items(), COLOURS, strict=True):
    axes.loglog(lengths, np.array(size) / 1e3, "o-", color=colour, label=way)
axes.set_xticks(lengths, lengths)
axes.minorticks_off()
axes.set(xlabel="steps", ylabel="memory of the gradient [kB]")
axes.legend()
plt.show()

# %% [markdown]
# ## 2. How fast small changes grow
#
# A change of the start grows as e^{Λt}, Λ the largest Lyapunov exponent, and so does every derivative along the
# trajectory. `tangent_growth` follows one tangent vector in forward mode.

# %%
STEPS = 3000
ways = jax.random.normal(jax.random.key(3), (2, *start.shape))
grow = jax.jit(
    lambda x, p: tangent_growth(
        iz.VelocityVerlet(0.005), lambda a: fluid.force(a, 0), fluid.masses, x, p, STEPS, (ways[0], ways[1])
    )
)
growth = grow(start, push)
exponent = float(growth.exponent)
t = 0.005 * np.arange(1, STEPS + 1)
figure, axes = plt.subplots(figsize=(4.6, 3.0))
axes.semilogy(t, np.exp(growth.log_growth), color=COLOURS[0], label="|δ(t)| / |δ(0)|")
axes.semilogy(t, np.exp(exponent * t), "--", color="#8a94a0", label=f"e^(Λt), Λ = {exponent:.2f}")
axes.set(xlabel="time [τ]", ylabel="growth")
axes.legend()
plt.show()

# %% [markdown]
# ## 3. Where to switch
#
# The derivative of ⟨A(t)⟩ in ε, A = Σ cos(2πx/L), from canonical samples: along the trajectories, or by the score term
# −β⟨A; ∂E/∂ε⟩ of the samples at t = 0. The average does not depend on t, and neither does its derivative; the error of
# the first way grows as e^{Λt}, that of the second does not. They cross after a few 1/Λ: before, differentiate
# trajectories, after, averages.

# %%
sampling = iz.Sampling(SAMPLES, 150, step=0.02, leapfrog=8)
grid = iz.Grid(
    jnp.stack([(jnp.arange(16) + 0.5) * EDGE / 16, jnp.full(16, EDGE / 2)], axis=1),
    iz.slab(iz.Cubic(EDGE / 8, 1), space, 0),
    axis=0,
)
run = iz.simulate(
    fluid, iz.Canonical(TEMPERATURE), grid, lattice, key=jax.random.key(4), sampling=sampling, keep=["positions"]
)
x = run.positions[0]
p = jax.vmap(lambda k, a: iz.Canonical(TEMPERATURE).momenta(k, fluid, a))(
    jax.random.split(jax.random.key(5), SAMPLES), x
)


@jax.jit
def along(x, p):
    """A(t) and dA(t)/dε at every 40th step, in forward mode."""

    def path(epsilon):
        system = with_epsilon(epsilon)

        def frame(phase, _):
            phase = iz.trajectory(iz.VelocityVerlet(0.005), lambda a: system.force(a, 0), system.masses, *phase, 40)
            return phase, jnp.sum(jnp.cos(2 * jnp.pi * phase[0] / EDGE))

        return jax.lax.scan(frame, (x, p), None, length=25)[1]

    return jax.jvp(path, (ONE,), (ONE,))


values, slopes = jax.vmap(along)(x, p)
energy = jax.vmap(lambda a: jax.jvp(lambda e: with_epsilon(e).levels(a)[0], (ONE,), (ONE,))[1])(x)
times = 0.2 * np.arange(1, 26)
path_error = np.std(slopes, axis=0) / np.sqrt(SAMPLES)
score = -(values - values.mean(axis=0)) * (energy - energy.mean())[:, None] / TEMPERATURE
score_error = np.std(score, axis=0) / np.sqrt(SAMPLES)
figure, axes = plt.subplots(figsize=(4.6, 3.0))
axes.semilogy(times, path_error, color=COLOURS[1], label="along trajectories")
axes.semilogy(times, score_error, color=COLOURS[0], label="score term")
axes.set(xlabel="time [τ]", ylabel="standard error of ∂⟨A⟩/∂ε")
axes.legend()
late = times[np.argmax(path_error > score_error)] if np.any(path_error > score_error) else np.nan
plt.show()
print(f"the errors cross at t = {late:.1f} τ, that is {late * exponent:.1f}/Λ")

# %% [markdown]
# ## 4. The slope of a stress profile
#
# `sensitivity` gives averages and their derivatives in any few parameters with standard errors: here σ_xx(y) of the
# fluid in ε and in the temperature. The density also moves: with periodic boundaries all profiles are flat on average.


# %%
def observe(system, x, p, k, neighbours):
    """Moments on the line of points."""
    return system.moments(grid.y, x, p, k, grid.mollifier)


def at(parameters):
    """ε and T ↦ system and density."""
    return with_epsilon(parameters["epsilon"]), iz.Canonical(parameters["temperature"])


parameters = {"epsilon": ONE, "temperature": jnp.asarray(TEMPERATURE)}
seen = jax.jit(
    lambda q: sensitivity(observe, at, q, x, key=jax.random.key(6), estimate=lambda m: fields(m, jnp.zeros(2)))
)(parameters)
figure, panels = plt.subplots(1, 2, figsize=(8.6, 3.0), layout="constrained")
s = np.asarray(grid.y[:, 0])
for k, (panel, symbol) in enumerate(zip(panels, ("ε", "T"), strict=True)):
    value, error = seen.slope.sigma[k, :, 0, 0], seen.slope_error.sigma[k, :, 0, 0]
    panel.fill_between(s, value - error, value + error, color=COLOURS[k], alpha=0.3, linewidth=0)
    panel.plot(s, value, color=COLOURS[k])
    panel.set(xlabel="y [σ]", ylabel=f"∂σ_xx/∂{symbol}")
plt.show()

# %% [markdown]
# **What to change.** `GPU = True` for more particles and samples. `TEMPERATURE` and the spacing 1.2 of the lattice for
# another state: Λ grows with both the temperature and the density. `observe` for your own average; anything that
# `at` makes of the parameters may move, masses and external fields too. For densities with matched fields see
# `jaxmd_iz.reweighting.rematched`.
