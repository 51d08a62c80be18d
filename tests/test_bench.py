"""The bench: rows that say what was measured and whether it is enough, and the tables of the README made of them."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bench import c_loop, ensembles, measurements, plots, systems, tables
from bench.timing import row

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
KEYS = {"part", "name", "ours", "peer", "ratio", "unit", "target", "reached"}


def test_a_part_measures_both_sides(monkeypatch):
    monkeypatch.setattr(ensembles, "CPU", {8: (256, "≥ 1", "≥ 1e-9")})
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # peers promote as they come
        rows = list(measurements.run(["ensembles"], quick=True))
    assert "ensemble n=8" in rows[0]["name"] and rows[0]["name"].endswith("against vmap(grad)")
    for found in rows:
        assert set(found) >= KEYS
        assert found["ours"] > 0 and found["peer"] > 0 and found["ratio"] == found["ours"] / found["peer"]
    assert rows[0]["reached"]


@pytest.mark.skipif(not c_loop.available(), reason="no gcc here, with which the loop in C is built")
@pytest.mark.parametrize("states", [1, 2])
def test_the_loop_in_c_makes_the_same_steps(states):
    x, edge = systems.lattices(8, c_loop.LANES)
    cutoff = min(systems.CUTOFF, edge / 2)
    mine = systems.ours(systems.fluid(8, edge, jnp.float32, states), x, None, 0.002)(50)
    theirs = c_loop.ensemble(x, edge, cutoff, 0.002, states)(50)
    # float32 of both: some roundings of positions of 2; the second state moves particles by 8e-4
    np.testing.assert_allclose(theirs, mine, atol=2e-6)
    assert np.max(np.abs(theirs - x)) > 1e-3
    # Loading it changes nothing for the rest of the process: subnormal numbers are not taken for zero.
    assert np.all(np.full(4, 5e-324) * 1.0 > 0)


@pytest.mark.parametrize(
    ("ours", "peer", "target", "reached"),
    [
        (8.0, 4.0, "≥ 2", True),
        (8.0, 4.0, "≥ 2.1", False),
        (8.0, 4.0, "≤ 2", True),
        (8.0, None, "≤ 7", False),
        (8.0, None, "≥ 7", True),
        (8.0, 4.0, None, None),
    ],
)
def test_targets_are_of_the_ratio_or_without_a_peer_of_the_figure(ours, peer, target, reached):
    found = row("x", ours, "s", peer, target)
    assert found["ratio"] == (None if peer is None else 2.0) and found["reached"] is reached


def read(text: str) -> list[dict]:
    """The rows of Markdown tables."""
    parts = {title: part for part, (_, title) in measurements.PARTS.items()}
    rows, part = [], ""
    for line in text.splitlines():
        if not line.strip() or line.startswith("|---"):
            continue
        label, ours, peer, ratio, target = (cell.strip() for cell in line.strip("|").split("|"))
        if ours == "ours":
            part = parts[label]
            continue
        name, unit = label.rsplit(", ", 1)
        numbers = (None if cell == "–" else float(cell) for cell in (ours, peer, ratio))
        bound, _, verdict = target.partition(", ")
        assert verdict in ("reached", "missed", "")
        values = [part, name, *numbers, unit, bound or None, verdict == "reached"]
        rows.append(
            dict(zip(("part", "name", "ours", "peer", "ratio", "unit", "target", "reached"), values, strict=True))
        )
    return rows


def test_tables_of_the_readme_are_printed_ones():
    found = re.search(r"<!-- speed: begin .*?-->(.*?)<!-- speed: end -->", README, re.S)
    assert found is not None
    section = found.group(1).strip()
    rows = read(section)
    assert {"ensembles", "one_system", "states", "fields"} <= {found["part"] for found in rows}
    assert section == tables.markdown(rows)
    for found in rows:
        if found["ratio"] is not None:  # three digits each
            assert found["ratio"] == pytest.approx(found["ours"] / found["peer"], rel=0.02)


@pytest.mark.parametrize(("value", "text"), [(2.2e7, "2.2e7"), (1.5e-6, "1.5e-6"), (8.0, "8"), (123.4, "123")])
def test_numbers_are_short(value, text):
    assert tables.number(value) == text and float(text) == pytest.approx(value, rel=5e-3)


def test_figures_are_drawn(tmp_path):
    rows = [
        {"part": "ensembles"} | row("a", 8.0, "atom-steps/s", 4.0, "≥ 2"),
        {"part": "sizes"} | row("b", 8.0, "ns", 8.0, line="one system", at=500),
        {"part": "sizes"} | row("c", 9.0, "ns", 8.0, line="one system", at=4000),
        {"part": "scaling"} | row("d", 9.0, "atom-steps/s", 9.0, line="weak scaling", at=1),
    ]
    files = plots.draw(rows, tmp_path / "figures")
    assert [file.name for file in files] == ["ratios.png", "sizes.png", "scaling.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    assert plots.draw([], tmp_path) == []
