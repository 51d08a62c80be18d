"""Each notebook is the run of its source: same cells, no error, a picture in each section, nothing of the machine."""

import ast
import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
HEADER = "# ---\n# jupyter:\n#   jupytext:\n"  # of a script that is a notebook; others draw pictures for the README
MOST = 1_000_000  # bytes
MACHINE = re.compile(r"/(work|root|home|tmp|opt|usr|var|Users)/|[A-Z]:\\\\|\d{4}-\d{2}-\d{2}T\d{2}:\d{2}")
#: Those that are run here each time: how many of their sections, and smaller numbers. The others take minutes.
SMALL: dict[str, tuple[int, dict[str, str]]] = {
    "quickstart": (9, {}),
    "stress_and_heat_flux": (9, {}),
    "trajectory_to_fields": (9, {}),
    "scaling_out": (9, {}),
    "fluid": (3, {}),
    "classical_limit": (
        2,
        {
            "SIX = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)": "SIX = (10.0, 20.0, 30.0, 50.0, 70.0, 100.0)",
            "np.geomspace(0.1, 2.0, 7), np.arange(0.0, 3.1, 0.5)": "np.geomspace(0.1, 2.0, 3), np.arange(2.0)",
            '"points": (121, 61)': '"points": (41, 21)',
        },
    ),
}
#: nbmake in a process of its own, without this session's rule that a warning of any package is an error.
RUN = (
    "-m",
    "pytest",
    "-c",
    os.devnull,
    "--rootdir",
    ".",
    "-p",
    "no:cacheprovider",
    "--nbmake",
    "--nbmake-timeout=600",
    "-q",
)


def cells_of(percent: str) -> list[tuple[str, str]]:
    """(kind, text) of every cell of a percent script, without its header."""
    found = []
    for block in re.split(r"^(?=# %%)", percent, flags=re.M)[1:]:
        mark, _, text = block.partition("\n")
        if "[markdown]" in mark:
            found.append(("markdown", re.sub(r"^# ?", "", text.strip(), flags=re.M)))
        else:
            found.append(("code", text.strip()))
    return found


def text_of(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)


def words(node):
    """Every string of a notebook but its pictures, keys too."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            if key != "image/png":
                yield from words(value)
    elif isinstance(node, list):
        for value in node:
            yield from words(value)
    elif isinstance(node, str):
        yield node


def faults(notebook: dict, percent: str) -> list[str]:
    """What keeps the notebook from being a clean run of the script."""
    found, pictures, code = [], {}, 0
    section = None
    held = [(cell["cell_type"], text_of(cell["source"]).strip()) for cell in notebook["cells"]]
    if held != cells_of(percent):
        found.append("its cells are not those of the script")
    for cell in notebook["cells"]:
        text = text_of(cell["source"])
        if cell["cell_type"] == "markdown" and (heading := re.search(r"^## .*", text, re.M)):
            section = heading.group()
            pictures[section] = 0
        if cell["cell_type"] != "code":
            continue
        code += 1
        if cell["execution_count"] != code:
            found.append(f"code cell {code} was not run in its order")
        for output in cell["outputs"]:
            if output["output_type"] == "error" or output.get("name") == "stderr":
                found.append(f"code cell {code} complained")
            if section and "image/png" in output.get("data", {}):
                pictures[section] += 1
        if cell["metadata"]:
            found.append(f"code cell {code} has metadata")
    found += [f"{section} has no picture" for section, count in pictures.items() if not count]
    found += [f"it names a place or a time: {m.group()}" for word in words(notebook) if (m := MACHINE.search(word))]
    return found


def unpaired(folder: Path) -> set[str]:
    """Notebooks without a script beside them, and notebook scripts without a notebook."""
    scripts = {path.stem for path in folder.glob("*.py") if path.read_text(encoding="utf-8").startswith(HEADER)}
    return scripts ^ {path.stem for path in folder.glob("*.ipynb")}


def loaded(path: Path) -> tuple[dict, str]:
    """A notebook and its script."""
    return json.loads(path.read_text(encoding="utf-8")), path.with_suffix(".py").read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


def test_every_notebook_has_its_script():
    assert {"surfaces", "classical_limit"} <= {path.stem for path in NOTEBOOKS}
    assert unpaired(FOLDER) == set()


def test_pairs_are_told_from_single_files(tmp_path):
    for name, text in (("a.py", HEADER), ("b.ipynb", "{}"), ("c.py", HEADER), ("c.ipynb", "{}"), ("d.py", "import os")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert unpaired(tmp_path) == {"a", "b"}


def test_notebook_is_a_clean_run_of_its_source(path):
    notebook, percent = loaded(path)
    assert len([kind for kind, _ in cells_of(percent) if kind == "code"]) >= 5  # a setup and four sections
    assert faults(notebook, percent) == []
    assert path.stat().st_size < MOST


def test_first_cell_sets_64_bits_before_anything_else_is_imported(path):
    _, percent = loaded(path)
    first = next(text for kind, text in cells_of(percent) if kind == "code")
    head = [ast.unparse(statement) for statement in ast.parse(first).body[:2]]
    assert head == ["import jax", "jax.config.update('jax_enable_x64', True)"]


def changed(notebook, how):
    other = copy.deepcopy(notebook)
    how([cell for cell in other["cells"] if cell["cell_type"] == "code"])
    return other


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (lambda code: code[0].update(source="import numpy"), "not those of the script"),
        (lambda code: code[1].update(execution_count=None), "not run in its order"),
        (lambda code: code[1]["outputs"].append({"output_type": "error"}), "complained"),
        (lambda code: code[1].update(outputs=[]), "has no picture"),
        (lambda code: code[2]["metadata"].update(execution={"start": "2020-01-01T00:00:00"}), "place or a time"),
        (lambda code: code[2]["metadata"].update(tags=["a"]), "has metadata"),
        (
            lambda code: code[0]["outputs"].append({"output_type": "stream", "text": ["/home/me/a.py"]}),
            "place or a time",
        ),
    ],
)
def test_check_can_fail(how, says):
    notebook, percent = loaded(FOLDER / "surfaces.ipynb")
    assert any(says in fault for fault in faults(changed(notebook, how), percent))


def shortened(notebook: dict, sections: int, smaller: dict[str, str]) -> dict:
    """The first sections of a notebook, with other numbers, each of which must be there."""
    headings = [k for k, cell in enumerate(notebook["cells"]) if text_of(cell["source"]).startswith("## ")]
    kept = notebook["cells"][: (*headings, len(notebook["cells"]))[min(sections, len(headings))]]
    left = set(smaller)
    for cell in kept:
        text = text_of(cell["source"])
        for old in [old for old in smaller if old in text]:
            text = text.replace(old, smaller[old])
            left.discard(old)
        cell["source"] = text
    assert not left
    return notebook | {"cells": kept}


def test_notebook_runs(path, tmp_path):
    whole = bool(os.environ.get("JAXMD_IZ_NOTEBOOKS"))
    if path.stem not in SMALL and not whole:
        pytest.skip("takes minutes: set JAXMD_IZ_NOTEBOOKS=1 to run it")
    notebook, _ = loaded(path)
    (tmp_path / "tests").symlink_to(FOLDER.parent / "tests")  # whose data one of them reads
    (tmp_path / "notebooks").mkdir()
    short = tmp_path / "notebooks" / path.name
    short.write_text(json.dumps(notebook if whole else shortened(notebook, *SMALL[path.stem])))
    here = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV", "MPLBACKEND"))}
    done = subprocess.run([sys.executable, *RUN, path.name], cwd=short.parent, capture_output=True, text=True, env=here)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout[-3000:]
