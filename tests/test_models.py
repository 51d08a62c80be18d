"""The registry of model systems, the cuts that show their surfaces, and the page of all of them."""

import base64
import re
from html import escape
from html.parser import HTMLParser
from itertools import pairwise
from types import FunctionType

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import catalogue, models, surfaces
from jaxmd_iz.checks import InputError
from jaxmd_iz.models import FAMILIES, HYDROGEN, MODELS, masses_of, potential_of
from jaxmd_iz.potentials import Electrons, Lowest
from jaxmd_iz.potentials.base import AbstractMovingFrame
from jaxmd_iz.space import Free

ALL = MODELS | FAMILIES
PLACED = [name for name in ALL if name != "linear_vibronic"]
STATES = dict.fromkeys(ALL, 2) | {"super_exchange": 3, "shin_metiu": 3, "exciton_fluid": 4, "electrons": 3}
MOVING = {"shin_metiu", "electrons"}  # kept to the lowest of many states
POINTS = 5


@pytest.fixture(scope="module")
def cuts():
    """One compilation for each model."""
    return {name: catalogue.cut(name, POINTS) for name in PLACED}


def inner(potential):
    return potential.potential if isinstance(potential, Lowest) else potential


def edges(x):
    return Free(x.shape[1]).edges(jnp.asarray(x), jnp.zeros(len(x), int))


@pytest.mark.parametrize("name", PLACED)
def test_every_model_builds_and_starts_where_its_partition_is_finite(name):
    model, potential = ALL[name], models.family_member(name)
    n, dim = model.x.shape
    assert potential.states == STATES[name] and isinstance(potential, AbstractMovingFrame) == (name in MOVING)
    vn = np.asarray(eqx.filter_jit(lambda p, e: p.partition(e))(potential, edges(model.x)))
    assert vn.shape == (n, STATES[name], STATES[name]) and np.isfinite(vn).all() and dim in (1, 2, 3)
    # V of both moving frames is a diagonal of levels: rounding of a 64 × 64 or 20 × 20 eigenproblem; else exact
    np.testing.assert_allclose(vn.sum(axis=0), vn.sum(axis=0).T, atol=1e-10)
    gap = np.diff(np.linalg.eigvalsh(vn.sum(axis=0)))
    assert (gap > 1e-7).all(), "a start at a crossing has no couplings"


@pytest.mark.parametrize("name", ALL)
def test_every_model_says_where_it_comes_from(name):
    model = ALL[name]
    assert re.search(r"\((19|20)\d\d\)|section \d+", model.source) and len(model.title) > 5
    assert (model.cut is None) == (model.x is None) == (name == "linear_vibronic")
    if isinstance(model.make, type) and "Source: " in (model.make.__doc__ or ""):  # the class cites the same article
        journals = re.findall(r"\d+, \d+ \(\d{4}\)", model.source)
        assert journals and all(j in " ".join(model.make.__doc__.split()) for j in journals)


def test_confinement_is_what_the_classes_say():
    told = {name: m.make.confined for name, m in MODELS.items() if hasattr(m.make, "confined")}
    assert len(told) == 10 and told == {name: MODELS[name].confined for name in told}
    assert not any(m.confined for m in FAMILIES.values()) and not MODELS["leps_h3"].confined


def test_masses_are_those_of_the_registry_or_of_the_class():
    def masses(name, **parameters):
        return masses_of(name, potential_of(name, parameters))

    np.testing.assert_array_equal(masses("leps_h3"), [HYDROGEN] * 3)
    np.testing.assert_array_equal(masses("tully_2"), [2000.0])
    np.testing.assert_array_equal(masses("shin_metiu"), [1836.0])  # of what `Lowest` keeps the states of
    np.testing.assert_array_equal(masses("spin_boson", modes=7), np.ones(7))
    sodium, iodine, unit = 22.98976928, 126.90447, 1822.888486  # m_e in a mass unit
    assert masses("sodium_iodide")[0] == pytest.approx(unit * sodium * iodine / (sodium + iodine), rel=1e-8)
    for name in MODELS.keys() - {"linear_vibronic"}:
        m = masses_of(name, potential_of(name))
        assert m.shape == MODELS[name].x.shape[:1] and (m > 0).all()


def test_parameters_and_states_reach_the_model():
    assert float(potential_of("tully_1", {"C": 0.007}).C) == 0.007
    small = potential_of("shin_metiu", {"points": 16.0, "mobile": 7.0}, states=5)
    assert isinstance(small, Lowest) and (small.states, small.potential.points) == (5, 16)
    assert float(small.potential.mobile) == 7.0
    assert potential_of("shin_metiu", {"points": 2.0}).states == 2  # no more than there are
    assert isinstance(potential_of("tully_3", states=1), Lowest)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("tully_4",), r"`model` must be one of .* but it is `tully_4`. Did you mean `tully_\d`\?"),
        (("shin_metu",), r"Did you mean `shin_metiu`\?"),
        (("spin_boson", {"mods": 3.0}), r"`parameters` must be one of .* but it is `mods`. Did you mean `modes`\?"),
        (("shin_metiu", {"points": 5.5}), "`parameters` must hold a whole number `points`, but it is 5.5"),
        (("spin_boson", {"modes": float("inf")}), "whole number `modes`, but it is inf"),
        (("spin_boson", {"modes": 0.0}), "`modes` must be positive, but it is 0"),
        (("leps_h3", {"sato": 2.0}), "`sato` must"),
        (("tully_1", None, None, 3), "`states` must be from 1 to 2, .* but it is 3"),
        (("shin_metiu", {"points": 4.0}, None, 5), "`states` must be from 1 to 4, .* but it is 5"),
        (("linear_vibronic",), "`template` must be given for the model `linear_vibronic`"),
        (("linear_vibronic", {"epsilon": 1.0}, "LVC.template"), "`parameters` must be left out with a `template`"),
        (("tully_1", None, "LVC.template"), "`template` must be left out for the model `tully_1`"),
        (("linear_vibronic", None, "nothing.template"), "must be a file, but `nothing.template` is none"),
    ],
)  # fmt: skip
def test_what_a_model_does_not_know_is_refused(arguments, says):
    with pytest.raises(InputError, match=says) as caught:
        potential_of(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PLACED)
def test_cuts_show_sorted_finite_levels_and_couplings(cuts, name):
    cut, line, d = cuts[name], ALL[name].cut, STATES[name]
    assert cut["s"].shape == (POINTS,) and cut["along"] == line.label
    assert abs(cut["s"] - np.linspace(line.low, line.high, POINTS)).max() < 0.01 * (line.high - line.low)
    assert cut["levels"].shape == (POINTS, d) and cut["coupling"].shape == (POINTS, d - 1)
    assert np.isfinite(cut["levels"]).all() and np.isfinite(cut["coupling"]).all()
    assert (np.diff(cut["levels"], axis=1) >= 0).all() and (cut["coupling"] >= 0).all()
    assert cut["coupling"].max() > 1e-3, "a picture of couplings that vanish by symmetry shows rounding"
    assert (cut["diabatic"] is None) == (name in MOVING)
    if cut["diabatic"] is not None:  # the trace of V, and the interlacing of its diagonal with its eigenvalues
        assert cut["diabatic"].shape == (POINTS, d)
        scale = 1e-12 * (1 + np.abs(cut["levels"]).max())  # rounding of a d × d eigenproblem
        np.testing.assert_allclose(cut["diabatic"].sum(axis=1), cut["levels"].sum(axis=1), atol=d * scale, rtol=0)
        assert (cut["diabatic"].min(axis=1) >= cut["levels"][:, 0] - scale).all()


def test_the_coupling_of_a_cut_is_that_of_its_states(cuts):
    # two real states at the angle θ: |D| = |θ′|, tan 2θ = 2V₁₂/(V₁₁ − V₂₂), here of Jahn–Teller: θ′ = y/2(x² + y²)
    cut = cuts["jahn_teller"]
    np.testing.assert_allclose(cut["coupling"][:, 0], 0.5 * 0.2 / (cut["s"] ** 2 + 0.04), rtol=1e-9)
    # along the motion of one atom alone: half of |∇| of the angle by central differences of the eigenvectors
    place, s, h = MODELS["leps_h3"].cut.place, cuts["leps_h3"]["s"][2], 1e-5
    potential = potential_of("leps_h3")

    def angle(at):
        v = np.asarray(jnp.sum(potential.partition(edges(place(at))), axis=0))
        return 0.5 * np.arctan2(2 * v[0, 1], v[0, 0] - v[1, 1])

    slope = abs(angle(s + h) - angle(s - h)) / (2 * h)  # error h²θ‴/6 ~ 1e-9
    assert cuts["leps_h3"]["coupling"][2, 0] == pytest.approx(slope, rel=1e-6)


def test_a_family_is_drawn_with_one_member():
    assert isinstance(inner(models.family_member("electrons")), Electrons)
    assert type(models.family_member("tully_1")) is MODELS["tully_1"].make
    assert all(isinstance(m.make, FunctionType) for m in FAMILIES.values())


def test_notes_say_how_to_ask_for_a_model():
    assert catalogue.names() == list(ALL)
    note = catalogue.note
    assert note("shin_metiu") == 'potential.model = "shin_metiu"; d = 3, n = 1, D = 1'
    assert note("exciton_fluid") == 'potential.kind = "exciton_fluid"; d = 4, n = 4, D = 3'
    assert note("linear_vibronic") == 'potential.model = "linear_vibronic"; states and modes as the file says'
    assert "100 normal modes: no fields in space" in note("spin_boson")


class Page(HTMLParser):
    """Tags that open and close, addresses that would be loaded, and the text."""

    void = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.text, self.tags = [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open += [] if tag in self.void else [tag]
        self.sources += [v for k, v in attrs if k in ("src", "href", "srcset")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_whole_self_contained_and_complete(cuts, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "cut", lambda name: cuts[name])
    path = tmp_path / "models.html"
    assert catalogue.write(path) == list(ALL)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>") and text.endswith("</html>\n") and page.open == []
    assert all(s.startswith("data:image/png;base64,") for s in page.sources) and "url(" not in text
    assert "script" not in page.tags and "link" not in page.tags and page.tags.count("h2") == len(ALL)
    pictures = [base64.b64decode(s.partition(",")[2], validate=True) for s in page.sources]
    assert len(pictures) == 2 * len(PLACED) and all(p.startswith(b"\x89PNG") for p in pictures)
    assert len(set(pictures)) == len(pictures)
    for name, model in ALL.items():
        for part in (model.title, model.source, catalogue.note(name)):
            assert part in page.text and escape(part) in text
    where = [text.index(escape(m.title)) for m in ALL.values()]
    assert all(a < b for a, b in pairwise(where))
    assert [f.name for f in tmp_path.iterdir()] == ["models.html"]


def test_what_a_model_says_is_escaped(tmp_path, monkeypatch):
    evil = MODELS["linear_vibronic"]._replace(title="<script>alert(1)</script> & more", source='"a" <b> 1 (1999)')
    monkeypatch.setitem(MODELS, "linear_vibronic", evil)
    catalogue.write(tmp_path / "x.html", ["linear_vibronic"])
    text = (tmp_path / "x.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags and evil.title in page.text and evil.source in page.text
    assert "img" not in page.tags


def test_names_that_are_not_known_write_nothing(tmp_path):
    path = tmp_path / "x.html"
    with pytest.raises(InputError, match=r"`name` must be one of .* but it is `tuly_1`. Did you mean `tully_1`\?"):
        catalogue.write(path, ["linear_vibronic", "tuly_1"])
    assert not path.exists()
    with pytest.raises(InputError, match="`path` must name a file that can be written"):
        catalogue.write(tmp_path / "none" / "x.html", ["linear_vibronic"])


def test_levels_of_a_cut_are_those_of_the_surfaces(cuts):
    place, s = MODELS["sodium_iodide"].cut.place, cuts["sodium_iodide"]["s"]
    potential = potential_of("sodium_iodide")
    levels = surfaces.levels(potential, edges(place(s[1])), jnp.ones(1), "none")
    np.testing.assert_allclose(cuts["sodium_iodide"]["levels"][1], levels, rtol=1e-12)
