"""What can be taken from a report: links to the files beside it, and its profiles as tables that travel in the page."""

import base64
import io
import itertools
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from jaxmd_iz.report.html import bullets, section

MOST = 400_000  # bytes of a table in the page
NAMES = ("rho", "number_density", "momentum", "u", "E", "T", "sigma", "q")


def downloads(folder: Path, datasets: Mapping[str, Any]) -> str:
    """The section with both kinds of links.

    Args:
        folder: of the report.
        datasets: by name; those with a coordinate `s` are profiles.
    """
    names = ["summary.json", *(f"fields{'' if name == 'fields' else f'_{name}'}.nc" for name in datasets)]
    items = [_link(name, name, "beside this page") for name in names if (folder / name).is_file()]
    series = sorted(folder.glob("fields*.pvd")) or sorted(folder.glob("fields*.vt?"))
    items += [_link(p.name, p.name, "for ParaView") for p in series]
    for name, dataset in datasets.items():
        text = table_of(dataset) if "s" in dataset.coords else ""
        if 0 < len(text.encode()) <= MOST:
            inside = "data:text/csv;charset=utf-8;base64," + base64.b64encode(text.encode()).decode()
            items.append(_link(inside, f"{name}.csv", "profiles with standard errors, in this page"))
    return section("Data", bullets(items) if items else "")


def table_of(dataset: Any) -> str:
    """The fields of a profile as CSV: a row for each time and point, a column for each component, its error behind it.

    Args:
        dataset: as `store.to_dataset` makes it.
    """
    times, places = np.asarray(dataset["time"]), np.asarray(dataset["s"])
    unit = {name: dataset[name].attrs.get("units", "") for name in ("time", "s", *NAMES) if name in dataset.variables}
    columns = {
        f"time [{unit.get('time', '')}]": np.repeat(times, len(places)),
        f"s [{unit.get('s', '')}]": np.tile(places, len(times)),
    }
    for name in [n for n in NAMES if n in dataset]:
        rest = dataset[name].dims[2:]
        labels = [
            [str(v) for v in np.asarray(dataset[d])] if d in dataset.coords else range(dataset.sizes[d]) for d in rest
        ]
        for which in itertools.product(*(range(len(one)) for one in labels)):
            key = "_".join([name, *(str(one[k]) for one, k in zip(labels, which, strict=True))])
            at = (slice(None), slice(None), *which)
            columns[f"{key} [{unit[name]}]"] = np.asarray(dataset[name])[at].reshape(-1)
            if f"{name}_err" in dataset:
                columns[f"{key}_err"] = np.asarray(dataset[f"{name}_err"])[at].reshape(-1)
    stream = io.StringIO()
    head = ",".join(key.replace(",", ";") for key in columns)
    np.savetxt(stream, np.stack(list(columns.values()), axis=1), fmt="%.8g", delimiter=",", header=head, comments="")
    return stream.getvalue()


def _link(target: str, name: str, note: str) -> str:
    return f'<a href="{escape(target)}" download="{escape(name)}">{escape(name)}</a>, {escape(note)}'
