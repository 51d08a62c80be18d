"""One self-contained HTML page about a run: no scripts, nothing loaded, everything from outside escaped."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from jaxmd_iz.report.figures import Image, dataset_images, drawing
from jaxmd_iz.report.limits import limit_images
from jaxmd_iz.report.states import population_image, surface_images, weight_image
from jaxmd_iz.store import write_text

_SHOWN = 8  # diabatic states
_LAWS = (("mass", "Mass"), ("momentum", "Momentum"), ("energy", "Energy"))
_CSS = """
:root{color-scheme:light}*{box-sizing:border-box}
body{margin:0 auto;max-width:1120px;padding:1rem;color:#1d242b;background:#f5f7f9;line-height:1.5;
font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:1.6rem;margin:.4rem 0}h2{font-size:1.2rem;margin:0 0 .6rem}h3{font-size:1rem;margin:.9rem 0 .4rem}
section{background:#fff;border:1px solid #dfe4e9;border-radius:10px;padding:1rem;margin:1rem 0}
.row{display:flex;flex-wrap:wrap;gap:.8rem;margin-bottom:.8rem}
.card{flex:1 1 160px;border-left:4px solid #0072b2;background:#f5f7f9;border-radius:6px;padding:.5rem .8rem}
.card b{display:block;font-size:1.15rem;overflow-wrap:anywhere}
.card span,figcaption{color:#56616c;font-size:.88rem}
figure{margin:0;flex:1 1 290px;max-width:348px}img{width:100%;height:auto;display:block}.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.3rem .8rem;text-align:right}
th{border-bottom:2px solid #cfd6dd}td{border-bottom:1px solid #e6eaee}th:first-child,td:first-child{text-align:left}
.ok{color:#146c37}.bad{color:#b00020;font-weight:700}.card.ok{border-color:#146c37}.card.bad{border-color:#b00020}
td.bad,.card.bad,p.bad{background:#fdecee}p.ok,p.bad{padding:.5rem .8rem;border-radius:6px}p.ok{background:#e8f5ec}
pre{overflow-x:auto;background:#f5f7f9;border-radius:6px;padding:.8rem;font-size:.85rem}
li{margin:.2rem 0}
@media(max-width:520px){body{padding:.6rem}section{padding:.8rem}figure{max-width:none}th,td{padding:.3rem .35rem;
font-size:.88rem}}
"""
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
    "Standard errors: jackknife over groups of whole chains. Bands show ±1 and ±2 standard errors.",
    "Residual of a balance law: largest |sum of its terms| over the points y, divided by the largest sum of |terms|. "
    "Mass (3.3), momentum (3.7), energy (3.11).",
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
            _headline(datasets, summary),
            _weights(summary),
            _populations(datasets, summary),
            _residuals(datasets, summary),
        ]
        parts += [_section(f"Fields: {name}", _rows(dataset_images(d))) for name, d in datasets.items()]
    parts += [_settings(datasets, summary), _section("How it was computed", _list(_METHOD))]
    write_text(_page(title, "".join(parts)), path)


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
                body += _rows([surface_images(*(entry[k] for k in keys))])
            parts.append(_section(entry["title"], body))
    write_text(_page("Model systems of jaxmd-iz", "".join(parts)), path)


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
        parts.append(_section("Orders in 1/M", _table([*head, "Order", "95 %"], fits)))
    with drawing():
        for heading, pictures in limit_images(rows, orders, profiles):
            parts.append(_section(heading, _rows(pictures)))
    parts.append(_section("Errors", _table([*head, "M", "Error", "Exact", "Classical"], errors)))
    parts.append(_section("Configuration", f"<pre>{escape(settings)}</pre>"))
    write_text(_page(f"The classical limit: {model}", "".join(parts)), path)


def _page(title: str, body: str) -> str:
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    page = f"<title>{escape(title)}</title><style>{_CSS}</style></head><body><h1>{escape(title)}</h1>{body}"
    return f'<!DOCTYPE html><html lang="en"><head>{head}{page}</body></html>\n'


def _section(heading: str, body: str) -> str:
    """A section with an escaped heading, or nothing without a body."""
    return f"<section><h2>{escape(heading)}</h2>{body}</section>" if body else ""


def _list(items: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are escaped texts, or whole `<td>`s."""
    body = "".join(
        f"<tr>{''.join(c if c.startswith('<td') else f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{"".join(f"<th>{escape(h)}</th>" for h in head)}</tr>{body}</table></div>'


def _number(value: Any, error: Any = None) -> str:
    """A number as text, to the digits that its standard error leaves."""
    if not isinstance(value, int | float | np.number) or isinstance(value, bool):
        return "not available" if value is None else str(value)
    if isinstance(error, int | float | np.number) and math.isfinite(error) and error > 0:
        digits = 1 - math.floor(math.log10(error))
        if 0 <= digits <= 8:
            return f"{value:.{digits}f} ± {error:.{digits}f}"
        return f"{value:.6g} ± {error:.2g}"
    if isinstance(value, int | np.integer):
        return f"{value:,}".replace(",", "\u2009")
    return f"{value:.5g}" if not 1e4 <= abs(value) < 1e15 else f"{value:,.0f}".replace(",", "\u2009")


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
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if key in hidden or not (number or key in known) or (key.endswith("_err") and key[:-4] in summary):
            continue
        label, unit = known.get(key, (key.replace("_", " ").capitalize(), ""))
        text = escape(f"{_number(value, error)} {unit}".strip())
        cards.append(f'<div class="card"><span>{escape(label)}</span><b>{text}</b></div>')
    verdict = _verdict(summary)
    if verdict:
        word = verdict[1].split(":")[0] if ":" in verdict[1] else "measured"
        cards.append(
            f'<div class="card {verdict[0]}"><span>Balance laws</span><b class="{verdict[0]}">{word}</b></div>'
        )
    return _section("Summary", f'<div class="row cards">{"".join(cards)}</div>' if cards else "")


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

    rows = [[_number(r.get("time")), *(cell(r, law) for law, _ in _LAWS)] for r in summary.get("residuals") or ()]
    rows.append(["Largest", *(cell(summary, f"{law}_residual") for law, _ in _LAWS)])
    unit = _unit(datasets, "time")
    table = _table([f"Time [{unit}]" if unit else "Time", *(name for _, name in _LAWS)], rows)
    return _section("Balance laws", f'<p class="{verdict[0]}">{escape(verdict[1])}.</p>{table}')


def _weights(summary: Mapping[str, Any]) -> str:
    """Bars and a table of q_j*."""
    if summary.get("q_star") is None:
        return ""
    q = np.atleast_1d(np.asarray(summary["q_star"], float))
    given = summary.get("q_star_err")
    errors = np.full(q.shape, np.nan) if given is None else np.atleast_1d(np.asarray(given, float))
    rows = [[str(k), _number(float(v), float(e))] for k, (v, e) in enumerate(zip(q, errors, strict=True))]
    return _section("Weights of the surfaces", _rows([[weight_image(q, errors)]]) + _table(["Surface j", "q_j*"], rows))


def _populations(datasets: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Populations of the diabatic states at each frame, as a picture and a table."""
    table = (summary.get("populations") or {}).get("diabatic")
    if table is None or len(table["names"]) < 2:
        return ""
    value = np.asarray(table["value"], float)
    error = np.array([[np.nan if e is None else e for e in row] for row in table["err"]], float)
    times = [r.get("time", k) for k, r in enumerate(summary.get("residuals") or [{}] * len(value))]
    times = np.asarray(times if len(times) == len(value) else np.arange(len(value)), float)
    unit = _unit(datasets, "time")
    largest = np.argsort(-value.mean(axis=0), kind="stable")[:_SHOWN]
    names = [str(table["names"][a]) for a in largest]
    image = population_image(times, value[:, largest], error[:, largest], names, unit)
    rows = [
        [
            _number(float(t)),
            *(_number(float(v), float(e)) for v, e in zip(value[k, largest], error[k, largest], strict=True)),
        ]
        for k, t in enumerate(times)
    ]
    note = f"<p>The {_SHOWN} largest of {value.shape[1]} states.</p>" if value.shape[1] > _SHOWN else ""
    head = [f"Time [{unit}]" if unit else "Time", *names]
    return _section("Populations of the diabatic states", note + _rows([[image]]) + _table(head, rows))


def _rows(rows: Sequence[Sequence[Image]]) -> str:
    """Images side by side where there is room, one below the other on a phone."""
    text = []
    for row in rows:
        images = (
            f'<figure><img alt="{escape(image.caption)}" src="data:image/png;base64,{image.base64}">'
            f"<figcaption>{escape(image.caption)}</figcaption></figure>"
            for image in row
        )
        text.append(f'<div class="row">{"".join(images)}</div>')
    return "".join(text)


def _settings(datasets: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """What the run was made with, and its configuration."""
    attributes: dict[str, Any] = {}
    for dataset in reversed(list(datasets.values())):
        attributes |= dataset.attrs
    names = ("created_by", "jax_version", "dtype", "unit_system", "seed")
    rows = [[n.replace("_", " "), str(attributes[n])] for n in names if n in attributes]
    config = summary.get("config", attributes.get("config"))
    text = f"<h3>Configuration</h3><pre>{escape(str(config))}</pre>" if config is not None else ""
    return _section("Settings", (_table(["Setting", "Value"], rows) if rows else "") + text)
