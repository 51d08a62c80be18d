"""Pictures of electron states: weights of surfaces, populations, levels along a cut."""

from collections.abc import Sequence

import numpy as np

from jaxmd_iz.report.figures import COLOURS, Image, as_image, axis_label, new_figure, plain_text


def weight_image(q: np.ndarray, errors: np.ndarray) -> Image:
    """Bars of q_j*.

    Args:
        q: (d,) weights.
        errors: (d,) standard errors, NaN where unknown.

    Returns:
        The picture.
    """
    figure, axes = new_figure(height=1.0 + 0.4 * len(q))
    axes.barh(range(len(q)), q, color=[COLOURS[k % 6] for k in range(len(q))], height=0.6)
    known = np.isfinite(errors)
    if known.any():
        axes.errorbar(q[known], np.flatnonzero(known), xerr=errors[known], fmt="none", ecolor="#1d242b", capsize=4)
    axes.set(xlim=(0, 1), xlabel="$q_j^*$", ylabel="surface $j$", yticks=range(len(q)))
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    return as_image(figure, "Weights q_j* of the surfaces" + (", ± one standard error." if known.any() else "."))


def population_image(times: np.ndarray, value: np.ndarray, error: np.ndarray, names: Sequence[str], unit: str) -> Image:
    """Populations of diabatic states against time, with bands of one and two standard errors.

    Args:
        times: (T,).
        value, error: (T, N); errors NaN where unknown.
        names: of the N states.
        unit: of the time.

    Returns:
        The picture.
    """
    figure, axes = new_figure()
    for a, name in enumerate(names):
        colour, style = COLOURS[a % 6], "-" if a < 6 else "--"
        axes.plot(times, value[:, a], style, color=colour, marker="o", ms=3.5, label=plain_text(name))
        for k in (1, 2):
            low, high = value[:, a] - k * error[:, a], value[:, a] + k * error[:, a]
            axes.fill_between(times, low, high, color=colour, alpha=0.15, lw=0)
    axes.set(xlabel=axis_label("time", unit), ylabel="population", ylim=(-0.02, 1.02))
    axes.legend(ncols=2, title="diabatic state", title_fontsize=9)
    known = np.isfinite(error).any()
    return as_image(figure, "Populations of the diabatic states" + (", ±1 and ±2 standard errors." if known else "."))


def surface_images(
    s: np.ndarray,
    levels: np.ndarray,
    diabatic: np.ndarray | None,
    coupling: np.ndarray,
    along: str,
    title: str,
    unit: str,
) -> list[Image]:
    """Levels λ_k along a cut, with the diagonal of V, and the size of the coupling of neighbouring levels.

    Args:
        s: (S,) where.
        levels: (S, d) λ_k.
        diabatic: (S, d) V_aa, or None.
        coupling: (S, d − 1) |D_{k,k+1}| along the cut.
        along: label of s.
        title: of the model.
        unit: of the levels.

    Returns:
        Two pictures.
    """
    figure, axes = new_figure()
    for k in range(levels.shape[1]):
        axes.plot(s, levels[:, k], color=COLOURS[k % 6], label=plain_text(f"λ{k}"))
    if diabatic is not None:
        for a in range(diabatic.shape[1]):
            axes.plot(s, diabatic[:, a], "--", color="#8a94a0", lw=1.0, label="diagonal of V" if a == 0 else None)
    low, high = np.min(levels), np.max(levels)
    pad = 0.06 * (high - low)
    axes.set(xlabel=along, ylabel=axis_label("energy", unit), ylim=(low - pad, high + pad))
    axes.legend(ncols=2)
    first = as_image(figure, f"{title}: levels, and the diagonal of V where its basis does not move.")
    figure, axes = new_figure()
    for k in range(coupling.shape[1]):
        axes.plot(s, coupling[:, k], color=COLOURS[k % 6], label=plain_text(f"|D{k}{k + 1}|"))
    axes.set(xlabel=along, ylabel="coupling |D|  [1/length]", ylim=(0, None))
    axes.legend()
    return [first, as_image(figure, f"{title}: couplings |⟨ψ_k, ∂ψ_{{k+1}}⟩| along the cut.")]
