"""Pictures of the classical limit: errors against M, against T, fields side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxmd_iz.report.figures import COLOURS, Image, as_image, new_figure, plain_text

#: Fixed looks, so that one kind of classical side has one colour on every picture.
LOOKS = {
    "none": (COLOURS[0], "o", "none"),
    "paper": (COLOURS[1], "s", "paper, κ = ¼"),
    "dboc": (COLOURS[2], "^", "dboc, κ = ½"),
    "second_order": (COLOURS[3], "D", "second order"),
    "ground": (COLOURS[4], "v", "ground state only"),
    "mean_field": (COLOURS[5], "x", "mean field"),
}
_SYMBOLS = {"rho": "ρ", "momentum": "ρu", "E": "E", "sigma": "σ", "q": "q"}


def error_image(rows: Sequence[Mapping[str, Any]], orders: Sequence[Mapping[str, Any]], title: str) -> Image:
    """Error against M, one line for each classical side, with the fitted order beside its name.

    Args:
        rows: of one observable, T and τ.
        orders: of the same.
        title: for the caption.
    """
    figure, axes = new_figure()
    for name, (colour, marker, label) in LOOKS.items():
        points = sorted((r["M"], r["error"]) for r in rows if r["correction"] == name and r["error"] > 0)
        if not points:
            continue
        m, e = np.array(points).T
        fit = next((o for o in orders if o["correction"] == name), None)
        text = label if fit is None else f"{label}: M^−{fit['order']:.2f}".replace("−-", "")
        axes.loglog(m, e, marker + "-", color=colour, ms=4, lw=1.2, label=plain_text(text))
    axes.set(xlabel="M", ylabel="error")
    axes.legend(fontsize=7)
    return as_image(figure, title)


def temperature_image(rows: Sequence[Mapping[str, Any]], title: str) -> Image:
    """Error against T at one M: where excited states matter.

    Args:
        rows: of one observable, M and τ.
        title: for the caption.
    """
    figure, axes = new_figure()
    for name, (colour, marker, label) in LOOKS.items():
        points = sorted((r["T"], r["error"]) for r in rows if r["correction"] == name and r["error"] > 0)
        if points:
            t, e = np.array(points).T
            axes.semilogy(t, e, marker + "-", color=colour, ms=4, lw=1.2, label=plain_text(label))
    axes.set(xlabel="T", ylabel="error")
    axes.legend(fontsize=7)
    return as_image(figure, title)


def field_image(profile: Mapping[str, Any], name: str) -> Image:
    """One field of exact quantum mechanics with every classical side on it, along the first axis.

    Args:
        profile: as `limit.study` gives it.
        name: of the field.
    """
    figure, axes = new_figure()
    s = np.asarray(profile["y"])[:, 0]
    order = np.argsort(s, kind="stable")

    def line(value):
        value = np.asarray(value)
        return value.reshape(value.shape[0], -1)[order, 0]

    axes.plot(s[order], line(profile[name]["exact"]), color="#1d242b", lw=2.2, label="exact quantum mechanics")
    for kind, value in profile[name].items():
        if kind in LOOKS:
            colour, _, label = LOOKS[kind]
            axes.plot(s[order], line(value), "--", color=colour, lw=1.2, label=plain_text(label))
    axes.set(xlabel="y", ylabel=_SYMBOLS.get(name, name))
    axes.legend(fontsize=7)
    caption = f"{_SYMBOLS.get(name, name)}(y, τ) at τ = {profile['tau']:g}, T = {profile['T']:g}, M = {profile['M']:g}."
    return as_image(figure, caption)


def limit_images(rows, orders, profiles) -> list[tuple[str, list[list[Image]]]]:
    """Every picture of a study, as sections of rows of pictures.

    Args:
        rows, orders, profiles: as `limit.study` gives them.
    """
    sections = []
    keys = sorted({(r["observable"], r["T"], r["tau"], r.get("surfaces")) for r in rows}, key=str)
    several = len({r["M"] for r in rows}) > 1

    def same(r, key):
        return (r["observable"], r["T"], r["tau"], r.get("surfaces")) == key

    if several:
        pictures = []
        for key in keys:
            name, temperature, tau, surfaces = key
            title = f"Error of {name} at T = {temperature:g}, τ = {tau:g}" + (
                f", {surfaces} surfaces" if surfaces else ""
            )
            mine = [r for r in rows if same(r, key)], [o for o in orders if same(o, key)]
            pictures.append(error_image(*mine, title + "."))
        sections.append(("Error against M", _in_threes(pictures)))
    if len({r["T"] for r in rows}) > 1:
        largest = max(r["M"] for r in rows)
        at = [(n, s, c) for n, s, c in sorted({(r["observable"], r["tau"], r.get("surfaces")) for r in rows}, key=str)]
        pictures = []
        for name, tau, surfaces in at:
            chosen = [
                r
                for r in rows
                if r["M"] == largest and (r["observable"], r["tau"], r.get("surfaces")) == (name, tau, surfaces)
            ]
            pictures.append(temperature_image(chosen, f"Error of {name} at M = {largest:g}, τ = {tau:g}."))
        sections.append(("Error against T", _in_threes(pictures)))
    if profiles:
        last = profiles[-1]
        shown = [p for p in profiles if (p["M"], p["T"]) == (last["M"], last["T"])]
        pictures = [[field_image(p, n) for n in _SYMBOLS if n in p] for p in (shown[0], shown[-1])[: len(shown)]]
        sections.append(("Fields side by side", pictures))
    return sections


def _in_threes(images: list[Image]) -> list[list[Image]]:
    return [images[i : i + 3] for i in range(0, len(images), 3)]
