"""One self-contained HTML page about a run: no scripts, nothing loaded, everything from outside escaped."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from jaxmd_iz.report.data import downloads
from jaxmd_iz.report.figures import dataset_images, drawing
from jaxmd_iz.report.fits import flow_images, loss_image, miss_image
from jaxmd_iz.report.html import bullets, number, page, rows_of, section, table
from jaxmd_iz.report.limits import limit_images
from jaxmd_iz.report.matching import matching_images
from jaxmd_iz.report.states import population_image, surface_images, weight_image
from jaxmd_iz.store import write_text

_SHOWN = 8  # diabatic states
_LAWS = (("mass", "Mass"), ("momentum", "Momentum"), ("energy", "Energy"))
_METHOD = (
    "Density and velocity: ρ = Σ M η(y − x), ρu = Σ η(y − x) p: (2.17), (3.4).",
    "Stress σ = ρ u⊗u − Σ η p⊗p/M + Σ<sub>n&lt;k</sub> B d⊗f, tension positive; ∇ contracts its first index: (3.8).",
    "Energy density E = Σ η (|p|²/2M + λ̄ⁿ): (3.10). Heat flux q: (3.12) with the sign of its last term mended, in the "
    "centre-of-mass frame, which makes it exactly conservative and Galilean invariant.",
    "External force F and power P: (3.9), (3.13). B is the bond function of (3.6).",
    "Temperature T = (tr K − ρ|u|²)/(D k<sub>B</sub> N), K = Σ η p⊗p/M and N the number density.",
    "Several surfaces: every surface j runs from the same initial points with the weights of (5.16)–(5.21); u, σ and q "
    "follow from averaged moments. q<sub>j</sub>* is the weight of surface j: (5.17).",
    "Populations: of surface j its weight; of diabatic state a the mean of |⟨χ<sub>a</sub>, Ψ<sub>j</sub>⟩|² along the "
    "trajectories. Weights do not change in time: nothing hops.",
    "Standard errors: jackknife over groups of whole chains, with the correlation of neighbouring groups where one "
    "chain spans several. Bands show one standard error and, lighter, 95 % by Student's t.",
    "Residual of a balance law: largest |sum of its terms| over the points y, divided by the largest sum of |terms|. "
    "Mass (3.3), momentum (3.7), energy (3.11).",
)

_FIT = (
    "The equation of state is a series of the Helmholtz free energy, fitted to T, p = −tr σ/D and e of all cells and "
    "frames.",
    "The closure is what makes a finite-volume solution of the balance laws, started from the first frame of each "
    "flow, meet the later frames: least squares of ρ, ρu and E in their standard errors.",
    "Standard errors of the coefficients: jackknife over groups of samples, equation of state included.",
    "Relative error: root of Σ (predicted − seen)² over Σ (seen − its mean)², both in standard errors.",
)


def write_report(path: str | Path, datasets: Mapping[str, Any], summary: Mapping[str, Any], title: str) -> None:
    """Writes the report, whole or not at all.

    Args:
        path: the HTML file.
        datasets: what `store.to_dataset` made, by name: profiles (with `s`), grids (with the attribute `grid_shape`) or
            scattered points.
        summary: headline numbers: any of `q_star`, `q_star_err`, `temperature`, `pressure` (with `_err`),
            `residuals` (dicts of `time`, `mass`, `momentum`, `energy`), `mass_residual`, `momentum_residual`,
            `energy_residual`, `residual_bound`, `config` (text; else the datasets' attribute), and any other number.
        title: heading of the page.

    Raises:
        InputError: if the file cannot be written.
    """
    with drawing():
        parts = [
            _warnings(summary),
            _headline(datasets, summary),
            _sampling(summary),
            _weights(summary),
            _populations(datasets, summary),
            _residuals(datasets, summary),
        ]
        parts += [section(f"Fields: {name}", rows_of(dataset_images(d))) for name, d in datasets.items()]
    parts += [downloads(Path(path).parent, datasets), _settings(datasets, summary)]
    parts += [section("How it was computed", bullets(_METHOD))]
    write_text(page(title, "".join(parts)), path)


def write_catalogue(path: str | Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Writes a page of model systems with their sources and surfaces, whole or not at all.

    Args:
        path: the HTML file.
        entries: dicts of `name`, `title`, `source`, `note`, and where there is a picture `s`, `levels`, `diabatic`,
            `coupling`, `along`, `unit` as in `surface_images`.

    Raises:
        InputError: if the file cannot be written.
    """
    parts = []
    with drawing():
        for entry in entries:
            body = f"<p><code>{escape(entry['name'])}</code>: {escape(entry['note'])}<br>{escape(entry['source'])}</p>"
            if "s" in entry:
                keys = ("s", "levels", "diabatic", "coupling", "along", "title", "unit")
                body += rows_of([surface_images(*(entry[k] for k in keys))])
            parts.append(section(entry["title"], body))
    write_text(page("Model systems of jaxmd-iz", "".join(parts)), path)


def write_limit(path: str | Path, rows, orders, profiles, settings: str) -> None:
    """Writes the page of a study of the classical limit: orders, pictures, every error.

    Args:
        path: the HTML file.
        rows, orders, profiles: as `limit.study` gives them.
        settings: the configuration as text.

    Raises:
        InputError: a file that cannot be written.
    """
    about = ("observable", "T", "tau", "correction", "surfaces")
    head = ["Observable", "T", "τ", "Classical side", "Surfaces"]

    def names(row: Mapping[str, Any]) -> list[str]:
        return ["all" if row.get(n) is None else str(row[n]) for n in about]

    fits = [
        [*names(o), f"{o['order']:.3f}", "–" if o["low"] is None else f"{o['low']:.3f} … {o['high']:.3f}"]
        for o in orders
    ]
    errors = [
        [*names(r), f"{r['M']:g}", f"{r['error']:.3g}", f"{r['exact']:.6g}", f"{r['classical']:.6g}"] for r in rows
    ]
    model = str(rows[0]["model"]) if rows else ""
    parts = ["<p>Exact quantum mechanics with ħ = M^−½ against molecular dynamics (Theorems 5.1, 5.2).</p>"]
    if fits:
        parts.append(section("Orders in 1/M", table([*head, "Order", "95 %"], fits)))
    with drawing():
        for heading, pictures in limit_images(rows, orders, profiles):
            parts.append(section(heading, rows_of(pictures)))
    parts.append(section("Errors", table([*head, "M", "Error", "Exact", "Classical"], errors)))
    parts.append(section("Configuration", f"<pre>{escape(settings)}</pre>"))
    write_text(page(f"The classical limit: {model}", "".join(parts)), path)


def write_fit(path: str | Path, summary: Mapping[str, Any], flows, losses: Sequence[float], settings: str, title: str):
    """Writes the page of a fit: coefficients, data against fit, misses, flows that were held out.

    Args:
        path: the HTML file.
        summary: numbers of the fit, as in its `summary.json`.
        flows: (what was seen, what is predicted, whether it was fitted) of each flow, as `report.fits` draws them.
        losses: of the training of a learned closure; may be empty.
        settings: the configuration as text.
        title: heading of the page.

    Raises:
        InputError: a file that cannot be written.
    """
    rows = [
        [name.replace("_", " "), number(summary[name], summary[f"{name}_err"]), summary[f"{name}_unit"]]
        for name in ("viscosity", "bulk_viscosity", "conductivity")
    ]
    states = [
        [label, number(summary[key])]
        for key, label in (
            ("density", "Density"), ("temperature", "Temperature"), ("pressure", "Pressure"),
            ("sound_speed", "Speed of sound"), ("heat_capacity_volume_per_particle", "c_v of a particle, k_B"),
        )
    ]  # fmt: skip
    errors = [
        [
            f["name"],
            "held out" if f["held_out"] else "fitted",
            *(f"{f[k]:.3g}" for k in ("error", "noise", "chi2_per_number")),
        ]
        for f in summary["flows"]
    ]
    parts = [
        section("Closure", table(["Coefficient", "Value", "Unit"], rows)),
        section("The fluid at the mean state of the flows", table(["Quantity", "Value"], states)),
        section("Flows", table(["Flow", "", "Relative error", "of which noise", "Mean square in errors"], errors)),
    ]
    with drawing():
        for seen, predicted, fitted in flows:
            note = "fitted" if fitted else "held out: the fit never saw it"
            images = [*flow_images(seen, predicted, note), miss_image(seen, predicted)]
            parts.append(section(f"{seen['name']} ({note})", rows_of([images])))
        if losses:
            parts.append(section("Training", rows_of([[loss_image(losses)]])))
    parts += [section("Configuration", f"<pre>{escape(settings)}</pre>"), section("How it was computed", bullets(_FIT))]
    write_text(page(title, "".join(parts)), path)


def _unit(datasets: Mapping[str, Any], variable: str) -> str:
    """Unit of a variable in the first dataset that has it."""
    return next((str(d[variable].attrs.get("units", "")) for d in datasets.values() if variable in d.variables), "")


def _fails(value: Any, bound: Any) -> bool:
    """Whether a residual that was measured is not known to be within the bound."""
    return not (isinstance(value, int | float | np.number) and (bound is None or value <= bound) and np.isfinite(value))


def _verdict(summary: Mapping[str, Any]) -> tuple[str, str] | None:
    """Class and sentence about all balance laws together; None if none was measured."""
    bound = summary.get("residual_bound")
    values = {name: summary[f"{law}_residual"] for law, name in _LAWS if f"{law}_residual" in summary}
    rows = [(r, law, name) for r in summary.get("residuals") or () for law, name in _LAWS if law in r]
    if not values and not rows:
        return None
    failed = {name for name, v in values.items() if _fails(v, bound)}
    failed |= {name for r, law, name in rows if _fails(r[law], bound)}
    limit = "no bound was given" if bound is None else f"relative residual at most {bound:.1e}"
    if failed:
        laws = " and ".join(name.lower() for _, name in _LAWS if name in failed)
        return "bad", f"FAILED: the balance of {laws} does not hold ({limit})"
    return "ok", f"Balance laws measured ({limit})" if bound is None else f"PASSED: all balance laws hold ({limit})"


def _headline(datasets: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Cards with the numbers of the summary."""
    known = {"temperature": ("Temperature", _unit(datasets, "T")), "pressure": ("Pressure", _unit(datasets, "sigma"))}
    known |= {"atom_steps_per_s": ("Speed", "atom-steps/s"), "wall_s": ("Wall time", "s")}
    hidden = {"residual_bound", *(f"{law}_residual" for law, _ in _LAWS)}
    cards = []
    for key in [k for k in known if k in summary] + [k for k in summary if k not in known]:
        value, error = summary[key], summary.get(f"{key}_err")
        counts = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if key in hidden or not (counts or key in known) or (key.endswith("_err") and key[:-4] in summary):
            continue
        label, unit = known.get(key, (key.replace("_", " ").capitalize(), ""))
        text = escape(f"{number(value, error)} {unit}".strip())
        cards.append(f'<div class="card"><span>{escape(label)}</span><b>{text}</b></div>')
    verdict = _verdict(summary)
    if verdict:
        word = verdict[1].split(":")[0] if ":" in verdict[1] else "measured"
        cards.append(
            f'<div class="card {verdict[0]}"><span>Balance laws</span><b class="{verdict[0]}">{word}</b></div>'
        )
    return section("Summary", f'<div class="row cards">{"".join(cards)}</div>' if cards else "")


def _residuals(datasets: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """The table of residuals, failing ones in red."""
    verdict, bound = _verdict(summary), summary.get("residual_bound")
    if verdict is None:
        return ""

    def cell(source: Mapping[str, Any], key: str) -> str:
        if key not in source:
            return "<td>–</td>"
        value = source[key]
        text = f"{value:.2e}" if not _fails(value, np.inf) else "not finite"
        bad = _fails(value, bound)
        return f'<td class="{"bad" if bad else "ok"}">{escape(text)}{" FAILED" if bad else ""}</td>'

    rows = [[number(r.get("time")), *(cell(r, law) for law, _ in _LAWS)] for r in summary.get("residuals") or ()]
    rows.append(["Largest", *(cell(summary, f"{law}_residual") for law, _ in _LAWS)])
    unit = _unit(datasets, "time")
    body = table([f"Time [{unit}]" if unit else "Time", *(name for _, name in _LAWS)], rows)
    return section("Balance laws", f'<p class="{verdict[0]}">{escape(verdict[1])}.</p>{body}')


def _warnings(summary: Mapping[str, Any]) -> str:
    """What went wrong, in red, before anything else."""
    return section("Warnings", "".join(f'<p class="bad">{escape(str(w))}</p>' for w in summary.get("warnings") or ()))


def _sampling(summary: Mapping[str, Any]) -> str:
    """How good the sampling was, and how the macroscopic data were matched."""
    text = ""
    names = {
        "acceptance": "Acceptance of proposals",
        "r_hat": "R̂ of Φ over the second half of the burn-in",
        "effective_draws": "Effective draws of Φ there, all chains",
        "weights_effective": "Effective samples of the weight of each state",
    }
    found = summary.get("sampling") or {}
    rows = [[label, ", ".join(map(number, np.atleast_1d(found[k])))] for k, label in names.items() if k in found]
    text += table(["Sampling", ""], rows) if rows else ""
    matched = summary.get("matching")
    if matched:
        verdict = "matched" if matched["converged"] else "NOT matched"
        note = (
            f"Macroscopic data {verdict} in {matched['rounds']} rounds and {matched['iterations']} Newton steps: χ² = "
            f"{matched['chi2']:.3g} on fresh samples for {matched['dof']:.3g} directions."
        )
        text += f'<p class="{"ok" if matched["converged"] else "bad"}">{escape(note)}</p>'
        text += rows_of([matching_images(matched)])
    return section("Sampling", text)


def _weights(summary: Mapping[str, Any]) -> str:
    """Bars and a table of q_j*."""
    if summary.get("q_star") is None:
        return ""
    q = np.atleast_1d(np.asarray(summary["q_star"], float))
    given = summary.get("q_star_err")
    errors = np.full(q.shape, np.nan) if given is None else np.atleast_1d(np.asarray(given, float))
    rows = [[str(k), number(float(v), float(e))] for k, (v, e) in enumerate(zip(q, errors, strict=True))]
    return section("Weights of the surfaces", rows_of([[weight_image(q, errors)]]) + table(["Surface j", "q_j*"], rows))


def _populations(datasets: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Populations of the diabatic states at each frame, as a picture and a table."""
    found = (summary.get("populations") or {}).get("diabatic")
    if found is None or len(found["names"]) < 2:
        return ""
    value = np.asarray(found["value"], float)
    error = np.array([[np.nan if e is None else e for e in row] for row in found["err"]], float)
    times = [r.get("time", k) for k, r in enumerate(summary.get("residuals") or [{}] * len(value))]
    times = np.asarray(times if len(times) == len(value) else np.arange(len(value)), float)
    unit = _unit(datasets, "time")
    largest = np.argsort(-value.mean(axis=0), kind="stable")[:_SHOWN]
    names = [str(found["names"][a]) for a in largest]
    image = population_image(times, value[:, largest], error[:, largest], names, unit)
    rows = [
        [
            number(float(t)),
            *(number(float(v), float(e)) for v, e in zip(value[k, largest], error[k, largest], strict=True)),
        ]
        for k, t in enumerate(times)
    ]
    note = f"<p>The {_SHOWN} largest of {value.shape[1]} states.</p>" if value.shape[1] > _SHOWN else ""
    head = [f"Time [{unit}]" if unit else "Time", *names]
    return section("Populations of the diabatic states", note + rows_of([[image]]) + table(head, rows))


def _settings(datasets: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """What the run was made with, and its configuration."""
    attributes: dict[str, Any] = {}
    for dataset in reversed(list(datasets.values())):
        attributes |= dataset.attrs
    names = ("created_by", "jax_version", "dtype", "unit_system", "seed")
    rows = [[n.replace("_", " "), str(attributes[n])] for n in names if n in attributes]
    config = summary.get("config", attributes.get("config"))
    text = f"<h3>Configuration</h3><pre>{escape(str(config))}</pre>" if config is not None else ""
    return section("Settings", (table(["Setting", "Value"], rows) if rows else "") + text)
