"""Draws the second picture of the README: the classical limit measured, in three panels.

Run from the project's root: `python notebooks/limit_picture.py`; writes `.github/limit.png` in about a minute.
The model is `quartic_crossing` of gap 1: error of ⟨x⟩ against M, error of ⟨x(τ)x(0)⟩ against T, and fields.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from jaxmd_iz import Polynomial, QuarticCrossing
from jaxmd_iz.limit.orders import fit_order
from jaxmd_iz.limit.problem import Problem
from jaxmd_iz.limit.study import study
from jaxmd_iz.report.limits import LOOKS
from jaxmd_iz.simulation import Grid

ROOT = Path(__file__).resolve().parent.parent
FIELDS = {"rho": "ρ", "momentum": "ρu", "E": "E", "sigma": "σ", "q": "q"}


def against_mass(ax) -> None:
    """Error of ⟨x⟩ at T = 1 for the four corrections, with fitted lines and their orders."""
    kinds, masses = ("dboc", "paper", "none", "second_order"), (10.0, 100.0, 1000.0, 10000.0)
    rows = study(Problem(QuarticCrossing(), [[0.5]]), masses=masses, corrections=kinds, observables=("x",)).rows
    for kind in kinds:
        colour, marker, label = LOOKS[kind]
        m, e = np.array([(r["M"], r["error"]) for r in rows if r["correction"] == kind]).T
        order = fit_order(m, e).order
        ax.loglog(m, e, marker, color=colour)
        line = np.exp(np.log(e).mean()) * (m / np.exp(np.log(m).mean())) ** -order
        ax.loglog(m, line, color=colour)
        ax.plot([], [], marker + "-", color=colour, label=f"{label}: M$^{{−{order:.2f}}}$")
    ax.set(title="Error of ⟨x⟩, gap 1, T = 1", xlabel="M", ylabel="error [bohr]")
    ax.legend(loc="lower left")


def against_temperature(ax) -> None:
    """Error of ⟨x(τ)x(0)⟩ at τ = 1, M = 300."""
    kinds, temperatures = ("ground", "mean_field", "none"), np.geomspace(0.1, 2.0, 9).tolist()
    rows = study(
        Problem(QuarticCrossing(), [[0.5]]),
        masses=(300.0,),
        temperatures=temperatures,
        times=(1.0,),
        corrections=kinds,
        observables=("x_x",),
        points=(121, 61),
        tolerance=1e-9,
    ).rows
    for kind in kinds:
        colour, marker, label = LOOKS[kind]
        e = [r["error"] for r in rows if r["correction"] == kind]
        label = "all surfaces, weights q$_j$*" if kind == "none" else label
        ax.loglog(temperatures, e, marker + "-", color=colour, label=label)
    ax.set(title="Error of ⟨x(τ)x(0)⟩, τ = 1, M = 300", xlabel="T / gap", ylabel="error [bohr²]")
    ax.set_xticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
    ax.minorticks_off()
    ax.legend(loc="lower left")


def side_by_side(axes) -> None:
    """The five fields at τ = 1 after a push and a squeeze, M = 10."""
    line = np.linspace(-2.5, 3.5, 61)
    result = study(
        Problem(QuarticCrossing(), [[0.5]], push=[0.5], squeeze=0.5),
        masses=(10.0,),
        times=(1.0,),
        corrections=("none", "ground"),
        observables=tuple(FIELDS),
        field=Grid(jnp.asarray(line)[:, None], Polynomial(1.3, dimensions=1, exponent=6)),
        points=(121, 61),
    )
    for ax, (name, symbol) in zip(axes, FIELDS.items(), strict=True):
        field = {kind: value.ravel() for kind, value in result.profiles[0][name].items()}
        ax.axhline(0, color="#c3cad2", linewidth=0.8)
        ax.plot(line, field["exact"], color="black", linewidth=2.2, label="exact")
        ax.plot(line, field["none"], "--", color=LOOKS["none"][0], linewidth=2.2, label="all surfaces, q$_j$*")
        ax.plot(line, field["ground"], ":", color=LOOKS["ground"][0], linewidth=2.2, label="ground state only")
        ax.set_ylabel(symbol, rotation=0, ha="right", va="center", fontsize=12)
        ax.set_yticks([])
        ax.tick_params(bottom=name == "q", labelbottom=name == "q")
    axes[0].set_title("Fields at τ = 1, M = 10")
    axes[-1].set_xlabel("y [bohr]")
    axes[0].figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, columnspacing=1.2, handlelength=1.6
    )


def main() -> None:
    """All panels."""
    jax.config.update("jax_enable_x64", True)
    plt.rcParams.update({"font.size": 11, "axes.titlesize": 11, "legend.frameon": False, "legend.fontsize": 9.5})
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.8})
    fig = plt.figure(figsize=(12.5, 4.6), layout="constrained")
    left, middle, right = np.asarray(fig.subfigures(1, 3, width_ratios=(1, 1, 0.95)))
    against_mass(left.subplots())
    against_temperature(middle.subplots())
    side_by_side(right.subplots(5, 1, sharex=True))
    fig.savefig(ROOT / ".github/limit.png", dpi=100)


if __name__ == "__main__":
    main()
