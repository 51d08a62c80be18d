"""The HTML of the reports: page, sections, tables, numbers and rows of pictures, everything from outside escaped."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from jaxmd_iz.report.figures import Image

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


def page(title: str, body: str) -> str:
    """The whole page, with an escaped title."""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    text = f"<title>{escape(title)}</title><style>{_CSS}</style></head><body><h1>{escape(title)}</h1>{body}"
    return f'<!DOCTYPE html><html lang="en"><head>{head}{text}</body></html>\n'


def section(heading: str, body: str) -> str:
    """A section with an escaped heading, or nothing without a body."""
    return f"<section><h2>{escape(heading)}</h2>{body}</section>" if body else ""


def bullets(items: Sequence[str]) -> str:
    """A list of HTML texts."""
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are escaped texts, or whole `<td>`s."""
    body = "".join(
        f"<tr>{''.join(c if c.startswith('<td') else f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{"".join(f"<th>{escape(h)}</th>" for h in head)}</tr>{body}</table></div>'


def number(value: Any, error: Any = None) -> str:
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


def rows_of(rows: Sequence[Sequence[Image]]) -> str:
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
