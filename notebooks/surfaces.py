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
# # Electron surfaces, couplings and phases
#
# An electron problem enters as Hermitian matrices Vⁿ(x), one for each nucleus, with V = Σₙ Vⁿ (2.8). This notebook
# looks at what follows from V alone, before any dynamics: surfaces λ_k and couplings D, the nonlinear eigenproblem
# (5.2), the geometric phase around a conical intersection, and the energy per nucleus of electrons treated by full CI.
#
# Atomic units throughout. About a minute on two cores. This notebook is the file `surfaces.py` beside it, run by
# `jupytext --to ipynb surfaces.py` and
# `jupyter nbconvert --execute --inplace --to notebook --ExecutePreprocessor.record_timing=False surfaces.ipynb`.

# %%
import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxmd_iz import catalogue, models, nonlinear, surfaces
from jaxmd_iz.geometric_phase import berry_phase
from jaxmd_iz.potentials.adiabatic import Lowest
from jaxmd_iz.potentials.conical import LepsH3
from jaxmd_iz.potentials.electrons import Electrons
from jaxmd_iz.potentials.vibronic import JahnTeller
from jaxmd_iz.space import Free

STATE = ("#0072B2", "#D55E00", "#009E73")  # states 0, 1, 2 in every picture (Okabe and Ito)
GREY, PURPLE = "#8a94a0", "#CC79A7"
plt.rcParams.update({
    **{"font.size": 10, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False},
    **{"legend.frameon": False, "legend.fontsize": 9, "figure.dpi": 80, "lines.linewidth": 1.6},
})  # fmt: skip


def edges(x):
    """The bonds of one configuration (n, D) in free space."""
    return Free(x.shape[1]).edges(x, jnp.zeros(x.shape[0], int))


# %% [markdown]
# ## 1. Surfaces and couplings
#
# Levels λ_k of V(x), its diagonal in the diabatic basis, and D_{k,k+1} = ⟨ψ_k, ∇ψ_{k+1}⟩. The electron basis of
# Shin–Metiu is a grid: there is no diabatic diagonal to draw. The more sudden the exchange of characters, the higher
# and narrower is |D|; its integral through an isolated two-state crossing is π/2, since α of (5.26) turns by π.

# %%
TITLES = {
    "tully_1": "Tully 1",
    "tully_2": "Tully 2",
    "tully_3": "Tully 3",
    "sodium_iodide": "NaI",
    "shin_metiu": "Shin–Metiu",
}
cuts = {name: catalogue.cut(name, 401) for name in TITLES}

fig, axes = plt.subplots(2, 5, figsize=(15, 5.2), sharex="col", layout="constrained", height_ratios=(3, 2))
for (top, bottom), (name, cut) in zip(axes.T, cuts.items(), strict=True):
    if cut["diabatic"] is not None:
        top.plot(cut["s"], cut["diabatic"], "--", color=GREY, linewidth=1)
    for k, level in enumerate(cut["levels"].T):
        top.plot(cut["s"], level, color=STATE[k])
    for k, coupling in enumerate(cut["coupling"].T):
        bottom.plot(cut["s"], coupling, color=("black", PURPLE)[k])
    top.set_title(TITLES[name])
    bottom.set_xlabel(cut["along"])
    bottom.set_ylim(bottom=0)
axes[0, 0].set_ylabel("energy [hartree]")
axes[1, 0].set_ylabel("coupling [1/bohr]")
shown = [plt.Line2D([], [], color=c) for c in STATE] + [plt.Line2D([], [], color=GREY, linestyle="--", linewidth=1)]
shown += [plt.Line2D([], [], color=c) for c in ("black", PURPLE)]
names = ["$λ_0$", "$λ_1$", "$λ_2$", "$V_{ii}$", "$|D_{01}|$", "$|D_{12}|$"]
fig.legend(shown, names, loc="outside lower center", ncols=6)
plt.show()

for name, cut in cuts.items():
    d = cut["coupling"][:, 0]
    where, turned = cut["s"][np.argmax(d)], np.trapezoid(d, cut["s"])
    print(f"{TITLES[name]:11s} max |D01| = {d.max():.3f}/bohr at {where:6.2f} bohr, ∫|D01| = {turned:.3f}")

# %% [markdown]
# ## 2. The nonlinear eigenproblem
#
# (5.2) asks for Ψ that diagonalises V + Σₙ (κ/Mₙ) Ψ(∇Ψ\*·∇Ψ)Ψ\*: κ = 0 (`none`), ¼ (`paper`, as printed) or ½
# (`dboc`, the diagonal Born–Oppenheimer term). For two real states (5.28) makes the correction κ|∇α|²/4M, the same for
# both levels. With three or more states Ψ itself depends on M, and each iterate Ψᵢ of (5.3) gains one power of 1/M.
# The order is measured on the three states of the super-exchange model, whose mass, 2000 mₑ, is the dotted line.

# %%
MASS, HERE = 2000.0, jnp.array([[0.5]])
tully, exchange = models.potential_of("tully_1"), models.potential_of("super_exchange")


def lifted(potential, s):
    """λ̄_k − λ_k along x, (points, states), for each κ."""

    def level(x, correction):
        return surfaces.levels(potential, edges(x[None, None]), jnp.array([MASS]), correction)

    found = {c: jax.jit(jax.vmap(lambda x, c=c: level(x, c)))(jnp.asarray(s)) for c in nonlinear.KAPPA}
    return {c: np.asarray(v - found["none"]) for c, v in found.items()}


s = np.linspace(-2.5, 2.5, 301)
two, three = lifted(tully, s), lifted(exchange, s)
mass = np.logspace(2, 5, 7)
left_over = []
for i in (0, 1, 2):
    residual = jax.jit(lambda m, i=i: nonlinear.residual(exchange, edges(HERE), m[None], "paper", i))
    left_over.append(np.array([float(residual(m)) for m in mass]))

fig, (a, b, c) = plt.subplots(1, 3, figsize=(15, 4), layout="constrained")
widths = (3.2, 1.4, 1.6)  # states 0 and 1 are lifted alike near their crossings
styles = {"none": ":", "paper": "-", "dboc": "--"}
for name, style in styles.items():
    a.plot(s, 1e3 * two[name][:, 0], style, color="black", label=f"{name}, κ = {nonlinear.KAPPA[name]:g}")
    for k in range(3 if name != "none" else 0):
        label = f"$k = {k}$" if name == "paper" else None
        b.semilogy(s, 1e3 * three[name][:, k], style, color=STATE[k], linewidth=widths[k], label=label)
a.set(title="Tully 1, both states", xlabel="x [bohr]", ylabel="$\\barλ_k - λ_k$ [10⁻³ hartree]")
b.set(title="Super-exchange; lines as on the left", xlabel="x [bohr]", ylabel="$\\barλ_k - λ_k$ [10⁻³ hartree]")
b.set_ylim(1e-3, 10)
a.legend(loc="upper left")
b.legend(loc="upper center", ncols=3)
for i, (found, mark) in enumerate(zip(left_over, "osD", strict=True)):
    c.loglog(mass, found[-1] * (mass / mass[-1]) ** -(i + 1.0), color=GREY, linewidth=1)
    c.loglog(mass, found, mark, color=("black", PURPLE, "#E69F00")[i], label=f"i = {i}")
    c.annotate(f"$M^{{-{i + 1}}}$", (mass[3], found[3]), (6, 6), textcoords="offset points", color=GREY)
c.axvline(MASS, color=GREY, linestyle=":", linewidth=1)
c.set(title="What Ψᵢ leaves of (5.2) at x = 0.5 bohr", xlabel="M [mₑ]", ylabel="residual [hartree]")
c.legend(loc="lower left")
plt.show()

for i, found in enumerate(left_over):
    orders = -np.diff(np.log(found)) / np.diff(np.log(mass))
    print(f"i = {i}: order in 1/M from {orders[0]:.3f} to {orders[-1]:.3f}, expected {i + 1}")
gradient = 2 * np.abs(catalogue.cut("tully_1", 2001)["coupling"]).max()  # |∇α| = 2|D01|
print(f"Tully 1, (5.28): κ max|∇α|²/4M = {0.25 * gradient**2 / (4 * MASS):.4e}, found {two['paper'].max():.4e} hartree")

# %% [markdown]
# ## 3. The phase around a conical intersection
#
# Two real states touch where ṽ = v₁₂ = 0. Ψ of (5.25) turns by half the angle α, so a state carried once around the
# intersection comes back as −Ψ: its Berry phase is π, whatever the shape of the loop, and 0 for a loop that leaves the
# intersection outside. E×e: V = ½ρ² + k(xσ_z + yσ_x). LEPS H₃: equilateral triangles, here strained by
# x ↦ (1 + [[q₁, q₂], [q₂, −q₁]]) x. The loops are circles, whose centre moves away from the intersection.

# %%
SIDE, COUNT = 1.9, 120  # bohr; configurations on a loop
corner = np.pi / 2 + 2 * np.pi * np.arange(3) / 3
TRIANGLE = jnp.asarray(SIDE / np.sqrt(3) * np.stack([np.cos(corner), np.sin(corner)], axis=1))


def strained(q):
    """The equilateral triangle under the two e strains q (2,)."""
    return TRIANGLE @ (jnp.eye(2) + jnp.array([[q[0], q[1]], [q[1], -q[0]]]))


cones = {
    "E×e": (JahnTeller(), lambda q: q[None, :], 1.0, "x", "y", "λ [ħω]"),
    "LEPS H₃": (LepsH3(), strained, 0.15, "q₁", "q₂", "λ [hartree]"),
}
angle = 2 * np.pi * np.arange(COUNT) / COUNT
offsets = np.arange(0.05, 2.5, 0.1)  # of the centre, in radii of the loop
phases = {}
for name, (potential, place, radius, *_) in cones.items():

    def around(centre, potential=potential, place=place, radius=radius):
        q = radius * jnp.stack([jnp.cos(angle) + centre, jnp.sin(angle)], axis=1)
        return berry_phase(potential, jax.vmap(place)(q), Free(2))

    phases[name] = np.stack(list(map(jax.jit(around), offsets)))

fig = plt.figure(figsize=(15, 4.6), layout="constrained")
cells = fig.add_gridspec(1, 3, width_ratios=(5, 5, 4))
turn, reach = np.meshgrid(np.linspace(0, 2 * np.pi, 73), np.linspace(0, 1, 25) ** 1.5, indexing="ij")
for i, (name, (potential, place, radius, one, other, unit)) in enumerate(cones.items()):
    q = 1.35 * radius * np.stack([reach * np.cos(turn), reach * np.sin(turn)], axis=-1)
    n = place(jnp.zeros(2)).shape[0]
    look = jax.jit(jax.vmap(lambda q, v=potential, x=place, n=n: surfaces.levels(v, edges(x(q)), jnp.ones(n), "none")))
    level = np.asarray(look(jnp.asarray(q.reshape(-1, 2)))).reshape(*turn.shape, 2)
    ax = fig.add_subplot(cells[i], projection="3d")
    for k in (0, 1):
        ax.plot_surface(*np.moveaxis(q, -1, 0), level[..., k], color=STATE[k], alpha=0.55, rstride=3, cstride=2)
    inside = radius * np.stack([np.cos(turn[:, 0]), np.sin(turn[:, 0])], axis=1)
    ring = np.asarray(look(jnp.asarray(inside)))
    ax.plot(*inside.T, ring[:, 0], color="black", linewidth=1.5)
    ax.set(xlabel=one, ylabel=other, title=f"{name}: $λ_-$, $λ_+$, and the loop of centre 0")
    ax.set_zlabel(unit, labelpad=8)
    ax.set_box_aspect(None, zoom=0.95)
    ax.view_init(elev=14, azim=-60)
    ax.locator_params(nbins=4)
ax = fig.add_subplot(cells[2])
for (name, found), mark, size, colour in zip(phases.items(), "os", (8, 4), (PURPLE, "black"), strict=True):
    ax.plot(offsets, found[:, 0], mark, markersize=size, color=colour, label=name)
ax.axvline(1, color=GREY, linestyle=":", linewidth=1)
ax.annotate("loop meets the intersection", (1, np.pi / 2), (6, 0), textcoords="offset points", color=GREY)
ax.set(xlabel="distance of the loop's centre [radii]", ylabel="Berry phase γ₋", title="Berry phase of displaced loops")
ax.set_yticks([0, np.pi], ["0", "π"])
ax.legend(loc="upper right")
plt.show()

for name, found in phases.items():
    inside, outside = found[offsets < 1], found[offsets > 1]
    off = np.abs(inside - np.pi).max(), np.abs(outside).max()
    print(
        f"{name}: |γ − π| ≤ {off[0]:.0e} for {len(inside)} loops inside, |γ| ≤ {off[1]:.0e} for {len(outside)} outside"
    )

# %% [markdown]
# ## 4. Ab initio electrons, one energy for each nucleus
#
# Full CI of four electrons in STO-3G, singlets (20 states). Two parallel H₂ stand 4 bohr apart; A–B stays at 1.4 bohr,
# C–D is stretched. λ_kⁿ = ⟨Ψ_k, VⁿΨ_k⟩ (2.9), with Σₙ λ_kⁿ = λ_k to rounding.
#
# The sum tends to H₂ + 2 H. The parts do not tend to those of H₂ and H: (2.8) gives every nucleus the share Zₙ/ΣZ of
# the *whole* of T_e + V_ee, wherever the electrons are. With K = ⟨T_e + V_ee⟩ of each fragment, the limit is
# λⁿ → ¼(K[H₂] + 2K[H]) + (E − K) of the nucleus's own fragment, per nucleus; V_ee between the fragments leaves
# a tail ±1/4R, in which R is the distance C–D. Couplings jump where excited singlets of different symmetry cross and
# exchange their numbers.

# %%
GAP, BOND = 4.0, 1.4  # bohr
hydrogens = Lowest(Electrons(["H"] * 4), 3)


def pair_of_molecules(r):
    """A–B of length 1.4 bohr beside C–D of length r, (4, 3)."""
    zero = jnp.zeros(4)
    along = jnp.stack([zero[0] - BOND / 2, zero[0] + BOND / 2, -r / 2, r / 2])
    return jnp.stack([jnp.array([0.0, 0.0, GAP, GAP]), along, zero], axis=1)


@jax.jit
def electrons_at(r):
    """λ_kⁿ, λ_k and |D_kl| = √Σₙ|D_klⁿ|²."""
    e = edges(pair_of_molecules(r))
    parts = surfaces.partition(hydrogens, e, jnp.ones(4), "none")
    d = surfaces.couplings(hydrogens, e)
    return parts, surfaces.levels(hydrogens, e, jnp.ones(4), "none"), jnp.sqrt(jnp.sum(d**2, axis=(2, 3)))


def fragment(charges, x):
    """E and K = ⟨T_e + V_ee⟩ of a molecule by itself."""
    alone, x = Electrons(charges), jnp.asarray(x)
    energy, psi = jnp.linalg.eigh(alone.total(edges(x)))
    one, two = alone.configurations.densities(psi[:, 0], psi[:, 0])
    i = alone.integrals(x)
    return float(energy[0]), float(jnp.sum(i.kinetic * one) + 0.5 * jnp.sum(i.repulsion * two))


r = np.concatenate([np.linspace(1.0, 8.0, 113), np.linspace(8.25, 20.0, 48)])
parts, levels, coupling = (np.stack(v) for v in zip(*(electrons_at(v) for v in r), strict=True))
atom, atom_k = fragment(["H"], np.zeros((1, 3)))
molecule, molecule_k = fragment(["H"] * 2, [[0.0, 0.0, 0.0], [0.0, BOND, 0.0]])
share = (molecule_k + 2 * atom_k) / 4
limit = {"A, B": share + (molecule - molecule_k) / 2, "C, D": share + atom - atom_k}

fig, (a, b, c) = plt.subplots(1, 3, figsize=(15, 4), layout="constrained")
for k in range(3):
    a.plot(r, levels[:, k], color=STATE[k], label=f"$λ_{k}$")
a.axhline(molecule + 2 * atom, color=GREY, linestyle="--", linewidth=1, label="E[H₂] + 2E[H]")
a.set(title="Three lowest singlets of H₂ + H₂", ylabel="energy [hartree]")
a.legend(loc="center right")
for (name, value), n, sign, colour in zip(limit.items(), (0, 2), (1, -1), ("black", PURPLE), strict=True):
    b.plot(r, parts[:, 0, n], color=colour, label=f"$λ_0^n$, n = {name}")
    b.axhline(value, color=colour, linestyle="--", linewidth=1)
    far = r > 5
    b.plot(r[far], value + sign / (4 * r[far]), ":", color="#E69F00", linewidth=2.5)
b.set(title="Ground state by nucleus; limit (dashed) ± 1/4R (dotted)", ylabel="$λ_0^n$ [hartree]")
b.legend(loc="center right")
for (k, l), colour in zip(((0, 1), (0, 2)), ("black", PURPLE), strict=True):
    c.semilogy(r, coupling[:, k, l], color=colour, label=f"$|D_{{{k}{l}}}|$")
c.set(title="Couplings to the ground state", ylabel="coupling [1/bohr]", ylim=(1e-5, 3))
c.legend(loc="upper right")
for ax in (a, b, c):
    ax.set_xlabel("distance C–D [bohr]")
plt.show()

print(f"sum rule (5.6): max |Σₙ λ_kⁿ − λ_k| = {np.abs(parts.sum(axis=2) - levels).max():.0e} hartree")
print(f"E[H] = {atom:.5f}, E[H₂] = {molecule:.5f}, sum E[H₂] + 2E[H] = {molecule + 2 * atom:.5f} hartree")
print(f"λ_0 at {r[-1]:g} bohr = {levels[-1, 0]:.5f} hartree")
for (name, value), n, sign in zip(limit.items(), (0, 2), (1, -1), strict=True):
    tail = value + sign / (4 * r[-1])
    print(f"{name}: λ_0ⁿ = {parts[-1, 0, n]:.5f}, limit {value:.5f}, with its tail {tail:.5f} hartree")
