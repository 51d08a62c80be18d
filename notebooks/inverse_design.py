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
# # Inverse design: from fields back to the potential
#
# Gradients that end in the parameters of a potential. Four parts: what profiles of stress and energy tell about ε and
# σ of Lennard-Jones; both recovered from such profiles; the coupling of a two-state fluid from the same kind of data;
# and force and stress matching, where positions are given and only the numbers of the potential are not.
#
# Reduced units: lengths in σ, energies in ε. About two minutes on two cores; `GPU = True` takes larger systems and more
# samples. This notebook is the file `inverse_design.py` beside it, run by `jupytext --to ipynb inverse_design.py` and
# `jupyter nbconvert --execute --inplace --to notebook --ExecutePreprocessor.record_timing=False inverse_design.ipynb`.

# %%
import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxmd_iz as iz
from jaxmd_iz.build.lattice import scatter
from jaxmd_iz.chunks import ListKeeper, progress_bar
from jaxmd_iz.fit import Snapshots, interactions, match_forces, measured, profiles, recover
from jaxmd_iz.sampled import run_chains

GPU = False
CHAINS, ROWS = (1024, 12) if GPU else (64, 3)  # chains; particles are four in a row
BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8a94a0"  # Okabe and Ito
plt.rcParams.update({
    **{"font.size": 10, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False},
    **{"legend.frameon": False, "legend.fontsize": 9, "figure.dpi": 80, "lines.linewidth": 1.6},
})  # fmt: skip

n, WIDTH, T = 4 * ROWS, 5.0, jnp.asarray(1.5)
LENGTH, SPREAD = 10.0 + 1.5 * ROWS, 1.2 * ROWS + 1.0
BOX, MIDDLE = iz.Periodic([LENGTH, WIDTH]), (10.0 + 1.5 * ROWS) / 2
TRAP = iz.HarmonicTrap(jnp.asarray([0.8, 0.0]), jnp.asarray([MIDDLE, WIDTH / 2]))
SAMPLING = iz.Sampling(CHAINS, 30, leapfrog=25, step=0.03)
rng = np.random.default_rng(0)
START = np.stack([scatter(np.diag([SPREAD, WIDTH]), n, rng) for _ in range(CHAINS)])
START = jnp.asarray(START + np.array([MIDDLE - SPREAD / 2, 0.0]))
s = jnp.linspace(-2.4, 2.4, 7)
Y = jnp.stack([MIDDLE + s, jnp.full(7, WIDTH / 2)], axis=1)
observe, estimate = profiles(Y, iz.slab(iz.Polynomial(1.2, 1), BOX, 0), T)


def drawn(system, density, x, draws, seed):
    """Samples of a system, those of a chain next to each other; the first four draws are left out."""
    kept, lists = [], ListKeeper(system, False, 0.0)
    for k in range(draws + 4):
        key = jax.random.fold_in(jax.random.key(seed), k)
        x = run_chains(system, density, SAMPLING, x, key, lists, progress_bar(False, 0))[0].x
        kept.append(x)
    return jnp.stack(kept[4:], axis=1).reshape(-1, *x.shape[1:])


# %% [markdown]
# ## 1. What profiles tell
#
# A fluid in two dimensions, periodic in y and held by a harmonic trap in x, so that one run holds a whole range of
# densities. The data are σ_xx, σ_yy and E at seven points. Thermal parts are exact, so that the noise is that of the
# interactions alone. The guess has too shallow and too narrow a well.


# %%
def fluid(a):
    """By the logarithms of ε and σ, which stay positive so."""
    lj = iz.LennardJones(jnp.exp(a["epsilon"]), jnp.exp(a["sigma"]), 2.5, "force_shift")
    return iz.System(lj, BOX, np.ones(n), external=TRAP), iz.Canonical(T)


def seen(at, a, draws, seed):
    system, density = at(jax.tree.map(jnp.asarray, a))
    x = drawn(system, density, START, draws, seed)
    return measured(observe, system, density, x, key=jax.random.key(seed), estimate=estimate)


def columns(target):
    """E, σ_xx and σ_yy with their errors."""
    error = np.sqrt(np.diag(target.covariance))
    energy, stress = np.asarray(target.value["energy"]), np.asarray(target.value["stress"])
    return [(energy, error[:7])] + [(stress[:, i], error[7:].reshape(7, 3)[:, i]) for i in (0, 2)]


TRUTH, GUESS = {"epsilon": 0.0, "sigma": 0.0}, {"epsilon": np.log(0.7), "sigma": np.log(0.9)}
target, first = seen(fluid, TRUTH, 24, 1), seen(fluid, GUESS, 8, 2)

fig, axes = plt.subplots(1, 3, figsize=(15, 3.6), layout="constrained")
names = ("E [ε/σ²]", "$σ_{xx}$ [ε/σ²]", "$σ_{yy}$ [ε/σ²]")
for ax, name, data, guess in zip(axes, names, columns(target), columns(first), strict=True):
    ax.errorbar(s, data[0], 2 * data[1], fmt="o", color="black", markersize=4, capsize=2, label="data, ε = σ = 1")
    ax.errorbar(s, guess[0], 2 * guess[1], fmt="s--", color=RED, markersize=3, label="guess, ε = 0.7, σ = 0.9")
    ax.set(xlabel="x − middle [σ]", ylabel=name)
axes[0].legend(loc="lower center")
plt.show()

# %% [markdown]
# ## 2. ε and σ from the profiles
#
# Each round draws fresh samples, takes values and slopes from them by weights and score terms, and goes by
# Gauss–Newton steps as far as the weights allow. The last step pools several rounds; its covariance holds the noise
# of the data and that of the samples.

# %%
options = {"observe": observe, "estimate": estimate, "sampling": SAMPLING}
found = recover(fluid, GUESS, target, START, key=jax.random.key(3), draws=8, **options)
way = np.exp(np.concatenate([found.history.parameters, np.stack(list(found.parameters.values()))[None]]))
error = np.sqrt(np.diag(found.covariance)) * way[-1]
size, axis = np.linalg.eigh(found.covariance)
turn = np.linspace(0, 2 * np.pi, 100)
circle = axis @ (np.sqrt(5.99 * size)[:, None] * np.stack([np.cos(turn), np.sin(turn)]))  # 95 % of two numbers

fig, (a, b, c) = plt.subplots(1, 3, figsize=(15, 3.8), layout="constrained")
a.plot(*way.T, "o-", color=BLUE, markersize=4, label="rounds")
b.plot(*(way[-1][:, None] * np.exp(circle)), color=BLUE, label="95 %")
b.plot(*way[-1], "o", color=BLUE)
for ax in (a, b):
    ax.plot(1, 1, "+", color="black", markersize=12, label="truth")
    ax.set(xlabel="ε", ylabel="σ")
    ax.legend()
a.set_title("Way to the parameters")
b.set_title("Where it ends")
c.semilogy(1 + np.arange(len(found.history.chi2)), found.history.chi2, "o-", color=BLUE, markersize=4)
c.axhline(float(found.expected[0]), color=GREY, linestyle=":", label="expected after the fit")
c.set(title="χ² of fresh samples", xlabel="round", ylabel="χ²")
c.legend()
plt.show()

print(
    f"converged: {found.converged}, χ² = {found.chi2:.1f}, expected {found.expected[0]:.1f} ± {found.expected[1]:.1f}"
)
for name, value, e in zip(("ε", "σ"), way[-1], error, strict=True):
    print(f"{name} = {value:.4f} ± {e:.4f}, true 1")

# %% [markdown]
# ## 3. The coupling of a two-state fluid
#
# V = Σ [φ I + (1/n) [[0, c], [c, δ]]] + diag(0, Δ) with a Gaussian c(r). Its height is what is asked for. The electrons
# are one degree of freedom beside 2n: the fewer particles and the colder, the more do the fields tell of them. Here it
# is a cluster of six in a trap.


# %%
COLD, HEIGHT, CLUSTER = jnp.asarray(0.8), 2.0, jnp.stack([s[1:6] * 1.25, jnp.zeros(5)], axis=1)
observe_c, estimate_c = profiles(CLUSTER, iz.slab(iz.Polynomial(1.2, 1), iz.Free(2), 0, 1.0), COLD)
SIX = jnp.asarray(np.stack([scatter(np.diag([3.5, 3.5]), 6, rng) for _ in range(CHAINS)]) - 1.75)


def two_states(a):
    coupling, shift = iz.Gaussian(jnp.exp(a["height"]), 0.25, 1.2), iz.Gaussian(0.05, 0.25, 1.1)
    pair = iz.TwoStateFluid(iz.LennardJones(1.0, 1.0, 2.5, "force_shift"), coupling, shift, 1.0, 6)
    return iz.System(pair, iz.Free(2), np.ones(6), external=iz.HarmonicTrap(0.5)), iz.Canonical(COLD)


hidden = two_states({"height": jnp.log(jnp.asarray(HEIGHT))})
x = drawn(*hidden, SIX, 32, 4)
target_c = measured(observe_c, *hidden, x, key=jax.random.key(4), estimate=estimate_c)
found_c = recover(
    two_states, {"height": np.log(HEIGHT / 2)}, target_c, SIX, key=jax.random.key(5), sampling=SAMPLING,
    observe=observe_c, estimate=estimate_c,
)  # fmt: skip
path = np.exp(np.append(found_c.history.parameters[:, 0], found_c.parameters["height"]))
e = path[-1] * float(jnp.sqrt(found_c.covariance[0, 0]))

fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
ax.plot(np.arange(len(path)), path, "o-", color=GREEN, markersize=4, label="rounds, and the last step")
ax.errorbar(len(path) - 1, path[-1], 2 * e, color=GREEN, capsize=3)
ax.axhline(HEIGHT, color=GREY, linestyle=":", label="truth")
ax.set(title="Height of c(r)", xlabel="round", ylabel="height [ε]")
ax.legend()
plt.show()

print(f"height = {path[-1]:.4f} ± {e:.4f}, true {HEIGHT:g}, converged: {found_c.converged}")

# %% [markdown]
# ## 4. Force and stress matching
#
# Where positions are known, nothing has to be sampled: the parameters follow by least squares. 20 snapshots of the
# fluid of section 1, with noise on the forces, on the energies of particles, or on the pressure tensor, each a tenth
# of its root mean square. The ellipses say which numbers each kind of data fixes, and in which direction it is blind.

# %%
SHOTS = drawn(*fluid(jax.tree.map(jnp.asarray, TRUTH)), START, 1, 8)[:20]
kinds = {"forces": (20, n, 2), "energies": (20, n), "pressure": (20, 2, 2)}


def system(epsilon, sigma):
    return iz.System(iz.LennardJones(epsilon, sigma, 2.5, "force_shift"), BOX, np.ones(n))


def numbers(system):
    return system.potential.epsilon, system.potential.sigma


def fitted(kind):
    """ε and σ from data of one kind with noise, and their covariance."""
    exact = interactions(system(1.0, 1.0), Snapshots(SHOTS, **{kind: np.zeros(kinds[kind])}))[kind]
    noise = 0.1 * float(jnp.sqrt(jnp.mean(exact**2)))
    data = Snapshots(SHOTS, **{kind: exact + noise * rng.normal(size=kinds[kind])})
    return match_forces(system(0.8, 0.95), data, numbers, errors={kind: noise}, batch=20)


fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for kind, colour in zip(kinds, (BLUE, RED, GREEN), strict=True):
    fit = fitted(kind)
    size, axis = np.linalg.eigh(fit.covariance)
    circle = axis @ (np.sqrt(5.99 * size)[:, None] * np.stack([np.cos(turn), np.sin(turn)]))
    here = np.stack(fit.parameters)
    ax.plot(*(here[:, None] + circle), color=colour, label=kind)
    ax.plot(*here, "o", color=colour, markersize=4)
    e = np.sqrt(np.diag(fit.covariance))
    print(f"{kind}: ε = {here[0]:.4f} ± {e[0]:.4f}, σ = {here[1]:.5f} ± {e[1]:.5f}, {fit.steps} steps")
ax.plot(1, 1, "+", color="black", markersize=12, label="truth")
ax.set(xlabel="ε", ylabel="σ", title="95 % of each kind of data")
ax.legend()
plt.show()

# %% [markdown]
# **What to change.** `GPU`, `CHAINS` and `ROWS` for size and errors; `TRAP` and `T` for the range of states. Section 1:
# another potential in `fluid`, with as many parameters as the profiles can tell apart. Section 2: `draws`, `rounds`,
# `final` and `share` of `recover`. Section 3: width or centre of c(r), or
# the gap. Section 4: the noise, several kinds
# at once, or snapshots and forces of your own, with a `grid` for a field of stress.
