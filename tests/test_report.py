"""The report is one escaped page without scripts, in which a failing balance law cannot be missed."""

import base64
import io
import re
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest
from test_store import line, make_series

from jaxmd_iz import store
from jaxmd_iz.checks import InputError
from jaxmd_iz.report import figures, write_report
from jaxmd_iz.report.data import downloads

CONFIG = '[species]\nnames = ["<script>alert(1)</script>"]\n'
SUMMARY = {
    "q_star": [0.7312, 0.2688],
    "q_star_err": [0.0123, 0.0123],
    "temperature": 1.0213,
    "temperature_err": 0.0032,
    "pressure": -0.25,
    "atom_steps_per_s": 1234567.0,
    "residuals": [{"time": 0.0, "mass": 1e-15, "momentum": 2e-15, "energy": 3e-15}],
    "mass_residual": 1e-15,
    "momentum_residual": 2e-15,
    "energy_residual": 3e-15,
    "residual_bound": 1e-12,
}
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags, attributes and text; complains of tags that are not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.cells = [], [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
        if tag == "td":
            self.cells.append((dict(attrs).get("class"), ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.cells[-1] = (self.cells[-1][0], self.cells[-1][1] + data)


def grid(count, dim):
    return np.stack(np.meshgrid(*[np.arange(count) * 0.7] * dim, indexing="ij"), -1).reshape(-1, dim)


def made(tmp_path, datasets, summary, title="Report"):
    write_report(tmp_path / "report.html", datasets, summary, title)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Text and tags of a page that is full of things from outside."""
    data = store.to_dataset(make_series(line(8), 1, axis=0), "metal", ("Si", "<i>$Ge$"), config=CONFIG, seed=11)
    name = "<script>alert(2)</script>"
    return made(tmp_path_factory.mktemp("report"), {name: data}, {**SUMMARY, name: 3.0}, "A & <b>title</b>")


def test_the_page_is_self_contained(page):
    text, tree = page
    assert not {"script", "link", "iframe", "object"} & set(tree.tags)
    assert not [value for key, value in tree.attributes if key in ("src", "href") and not value.startswith("data:")]
    assert not [key for key, _ in tree.attributes if key.startswith("on")]
    assert "http" not in text and "url(" not in text and "@import" not in text
    assert 'name="viewport"' in text


def test_everything_from_outside_is_escaped(page):
    text, _ = page
    assert "<i>" not in text and "<b>title" not in text and "A &amp; &lt;b&gt;title" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "&lt;script&gt;alert(2)" in text


def test_headline_numbers_have_units_and_errors(page):
    text, _ = page
    assert "1.0213 ± 0.0032 K" in text and "-0.25 eV/Å³" in text
    assert "0.731 ± 0.012" in text and "1\u2009234\u2009567 atom-steps/s" in text
    assert "<td>seed</td><td>11</td>" in text and "(3.12)" in text


def test_a_passing_law_is_green_and_says_so(tmp_path):
    text, page = made(tmp_path, {}, SUMMARY)
    assert "PASSED" in text and "FAILED" not in text
    assert [c for c, t in page.cells if "e-1" in t] == ["ok"] * 6
    assert re.search(r"\.ok\{color:#146c37", text)


@pytest.mark.parametrize("value", [2e-3, float("nan"), float("inf"), None])
def test_a_failing_law_is_red_and_says_so(tmp_path, value):
    rows = [*SUMMARY["residuals"], {"time": 1.0, "mass": 1e-15, "momentum": value, "energy": 1e-15}]
    text, page = made(tmp_path, {}, {**SUMMARY, "residuals": rows, "momentum_residual": value})
    bad = [t for c, t in page.cells if c == "bad"]
    assert len(bad) == 2 and all("FAILED" in t for t in bad)
    assert "the balance of momentum does not hold" in text and "PASSED" not in text
    assert re.search(r"\.bad\{color:#b00020", text) and '<b class="bad">FAILED' in text


def test_a_failing_frame_is_enough(tmp_path):
    rows = [{"time": 0.0, "mass": 1e-15, "momentum": 1e-15, "energy": 1e-3}]
    text, _ = made(tmp_path, {}, {**SUMMARY, "residuals": rows})
    assert "the balance of energy does not hold" in text and "PASSED" not in text


@pytest.mark.parametrize(
    ("kind", "images"),
    [("grid", 2), ("scatter", 2), ("plane", 2), ("row", 8), ("times", 13)],
)
def test_every_kind_of_points_has_its_pictures(kind, images):
    series, shape = {
        "grid": lambda: (make_series(grid(3, 3), 1), [3, 3, 3]),
        "scatter": lambda: (make_series(np.random.default_rng(0).uniform(size=(9, 3)), 1), None),
        "plane": lambda: (make_series(grid(4, 2), 1), [4, 4]),
        "row": lambda: (make_series(line(8), 1), [8, 1, 1]),
        "times": lambda: (make_series(line(8, 1), 5), None),
    }[kind]()
    data = store.to_dataset(series, "lj", grid_shape=shape)
    with figures.drawing():
        rows = figures.dataset_images(data)
    found = [image for row in rows for image in row]
    assert len(found) == images  # of many times, three are drawn
    for image in found:
        pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(image.base64)), format="png")
        assert pixels.shape[1] == 688 and 0.001 < np.mean(pixels[..., :3] < 0.9)


def test_rounding_errors_are_not_blown_up():
    low, high = figures._range(np.array([1.0, 1.0 + 1e-9]))
    assert low < 0.96 and high > 1.04
    assert figures._range(np.zeros(3)) == (-1.0, 1.0)
    assert figures._scale(np.array([3e-7, np.nan])) == (1e-7, "10⁻⁷ ")
    assert figures._scale(np.array([250.0])) == (1.0, "")


def test_a_report_that_cannot_be_written_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="must name a file that can be written"):
        write_report(tmp_path / "missing" / "report.html", {}, {}, "Report")


def test_profiles_travel_in_the_page_and_files_are_linked(tmp_path):
    """The table holds every number of the profile with its error; names that come from outside are escaped."""
    fields = store.to_dataset(make_series(line(6), axis=0), "lj", ("Ar", "Kr"))
    (tmp_path / "fields.nc").write_bytes(b"")
    text = downloads(tmp_path, {"fields": fields, '"><b>': fields})
    assert 'href="fields.nc" download="fields.nc"' in text and "summary.json" not in text
    assert "<b>" not in text and text.count("data:text/csv;charset=utf-8;base64,") == 2
    inside = re.findall(r"base64,([A-Za-z0-9+/=]+)", text)[0]
    rows = base64.b64decode(inside).decode().splitlines()
    head, numbers = rows[0].split(","), np.loadtxt(rows[1:], delimiter=",")
    shape = fields.sizes["time"], fields.sizes["y"]
    at = next(k for k, name in enumerate(head) if name.startswith("momentum_y ["))
    found = numbers[:, at].reshape(shape)
    np.testing.assert_allclose(found, fields.momentum.sel(i="y"), rtol=1e-7)  # eight digits are written
    np.testing.assert_allclose(numbers[:, at + 1].reshape(shape), fields.momentum_err.sel(i="y"), rtol=1e-7)
    assert [name.split(" ")[0] for name in head[:2]] == ["time", "s"] and len(head) == numbers.shape[1]
