"""The house rules, checked on syntax trees: layers, classes, docstrings, sizes, top level."""

import ast
import graphlib
import shutil
import subprocess
from pathlib import Path

import pytest
from rooms import ARROWS, LAYERS, NEVER, SHARED

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "jaxmd_iz"
TOP_LEVEL = {PACKAGE, "pyproject.toml", "tests", "notebooks", "bench", "README.md", "LICENSE"}
LINES = 330


def read(folder: Path) -> dict[str, str]:
    """Sources below `folder` by dotted name: `space`, `potentials.pair`, `potentials.__init__`."""
    return {
        ".".join(file.relative_to(folder).with_suffix("").parts): file.read_text()
        for file in sorted(folder.rglob("*.py"))
    }


def imports(name: str, sources: dict[str, str]) -> dict[str, int]:
    """Modules of ours that module `name` imports anywhere in it, with the line."""
    here = [PACKAGE, *name.split(".")[:-1]]
    found: dict[str, int] = {}

    def add(path: list[str], line: int) -> None:
        if path[:1] == [PACKAGE]:
            inner, package = ".".join(path[1:]), ".".join([*path[1:], "__init__"])
            found.setdefault(package if package in sources or not inner else inner, line)

    def is_module(path: list[str]) -> bool:
        inner = ".".join(path[1:])
        return inner in sources or inner + ".__init__" in sources or layer(inner) is not None

    for node in ast.walk(ast.parse(sources[name])):
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name.split("."), node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) + 1 - node.level] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                path = [*base, alias.name]
                add(path if is_module(path) else base, node.lineno)
    return found


def layer(room: str) -> int | None:
    return next((i for i, rooms in enumerate(LAYERS) if room in rooms), None)


def layer_faults(sources: dict[str, str]) -> list[str]:
    """Imports that go up, sideways without an arrow, to a forbidden room, or round in a circle."""
    faults, graph = [], {}
    for name in sources:
        room, _, inside = name.partition(".")
        level = layer(room)
        graph[name] = imports(name, sources)
        if level is None:
            faults.append(f"{name}: `{room}` has no place in LAYERS of tests/test_layout.py")
            continue
        for target, line in graph[name].items():
            to, _, sibling = target.partition(".")
            where = f"{name}:{line} imports {target}"
            if layer(to) is None:
                faults.append(f"{where}, which has no place in LAYERS")
            elif to == room:
                if inside != "__init__" and not SHARED.get(room, set()) & {"*", sibling}:
                    faults.append(f"{where}: not shared within `{room}`")
            elif to in NEVER.get(room, set()):
                faults.append(f"{where}: `{room}` must not know `{to}`")
            elif layer(to) >= level and to not in ARROWS.get(room, set()):
                faults.append(f"{where}: not in a lower layer, and no arrow")
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        faults.append("import cycle: " + " → ".join(error.args[1]))
    return faults


def called(node: ast.expr) -> str:
    """Last name of an expression: `Module` for `eqx.Module`, `AbstractX` for `AbstractX[T]`."""
    while isinstance(node, ast.Subscript | ast.Call):
        node = node.value if isinstance(node, ast.Subscript) else node.func
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def class_faults(sources: dict[str, str]) -> list[str]:
    """Modules that inherit from a concrete one, call super(), or are abstract without the name."""
    classes = [
        (name, node)
        for name, source in sources.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef)
    ]
    ours: set[str] = set()
    while True:
        more = {c.name for _, c in classes if {called(b) for b in c.bases} & {"Module", *ours}}
        if more == ours:
            break
        ours = more
    faults = []
    for name, node in classes:
        if node.name not in ours:
            continue
        where = f"{name}:{node.lineno} class {node.name}"
        for base in map(called, node.bases):
            if base in ours and not base.lstrip("_").startswith("Abstract"):
                faults.append(f"{where} inherits from {base}, which is concrete")
        names = {called(n) for n in ast.walk(node) if isinstance(n, ast.Name | ast.Attribute)}
        marks = names & {"abstractmethod", "AbstractVar", "AbstractClassVar"}
        if marks and not node.name.lstrip("_").startswith("Abstract"):
            faults.append(f"{where} is abstract: let its name begin with Abstract")
        for method in node.body:
            calls = (called(c) for c in ast.walk(method) if isinstance(c, ast.Call))
            if getattr(method, "name", "") != "__init__" and "super" in calls:
                faults.append(f"{where} calls super() outside __init__")
    return faults


def docstring_faults(sources: dict[str, str]) -> list[str]:
    """Public modules, classes, functions and methods of public classes that say nothing."""
    faults = []

    def visit(nodes: list[ast.stmt], where: str) -> None:
        for node in nodes:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if node.name.startswith("_") and node.name != "__call__":
                continue
            if not ast.get_docstring(node):
                faults.append(f"{where}:{node.lineno} {node.name} has no docstring")
            if isinstance(node, ast.ClassDef):
                visit(node.body, where)

    for name, source in sources.items():
        tree = ast.parse(source)
        public = not name.rpartition(".")[2].startswith("_") or name.endswith("__init__")
        if public and not ast.get_docstring(tree):
            faults.append(f"{name} has no docstring")
        visit(tree.body, name)
    return faults


def length_faults(files: dict[str, str]) -> list[str]:
    """Files that are too long."""
    lengths = {name: len(text.splitlines()) for name, text in files.items()}
    return [f"{name} has {n} lines (at most {LINES})" for name, n in lengths.items() if n > LINES]


def top_level_faults(tracked: list[str]) -> list[str]:
    """Entries beside the agreed ones."""
    entries = sorted({path.split("/")[0] for path in tracked})
    return [e for e in entries if e not in TOP_LEVEL and not e.startswith(".")]


@pytest.fixture(scope="module")
def package() -> dict[str, str]:
    return read(ROOT / PACKAGE)


@pytest.mark.parametrize("faults", [layer_faults, class_faults, docstring_faults])
def test_package_keeps_the_rules(package, faults):
    assert package
    assert not faults(package), "\n".join(faults(package))


def test_files_are_short():
    files = {
        str(file.relative_to(ROOT)): file.read_text()
        for folder in (PACKAGE, "tests", "bench")
        for file in (ROOT / folder).rglob("*.py")
    }
    assert not length_faults(files), "\n".join(length_faults(files))


def test_top_level_holds_the_agreed_entries_only():
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("needs git and a clone: the rule is about tracked files")
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True)
    assert not top_level_faults(listed.stdout.splitlines())


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        ({"space": "from jaxmd_iz.potentials import base"}, "not in a lower layer"),
        ({"space": "def f():\n    import jaxmd_iz.cli"}, "space:2 imports cli"),
        ({"space": "from .neighbours import build"}, "no arrow"),
        ({"store": "from . import simulation"}, "no arrow"),
        ({"fields": "from jaxmd_iz import __version__"}, "not in a lower layer"),
        ({"potentials.pair": "from .many_body import f"}, "not shared within"),
        ({"potentials.pair": "from ..surfaces import f"}, "imports surfaces"),
        ({"integrators": "from jaxmd_iz.potentials.base import P"}, "must not know"),
        ({"helpers": ""}, "`helpers` has no place"),
        ({"space": "import jaxmd_iz.helpers"}, "no place"),
        ({"examples.__init__": "from ..simulation import f"}, "no arrow"),
        ({"potentials.__init__": "", "potentials.pair": "from . import base"}, "not shared"),
        (
            {"kernels.a": "from .b import f", "kernels.b": "from .a import g"},
            "import cycle",
        ),
    ],
)
def test_layer_check_can_fail(sources, says):
    assert any(says in fault for fault in layer_faults(sources)), layer_faults(sources)


def test_layer_check_can_pass():
    sources = {
        "__init__": "from jaxmd_iz.simulation import simulate",
        "neighbours": "import numpy\nfrom .space import Edges\nfrom jaxmd_iz.checks import must",
        "potentials.__init__": "from .base import P\nfrom . import pair",
        "potentials.base": "from ..space import Edges",
        "potentials.pair": "from jaxmd_iz.potentials.base import P\nfrom .base import Q",
    }
    assert layer_faults(sources) == []


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("class A(eqx.Module): ...\nclass B(A): ...", "B inherits from A, which is concrete"),
        ("class AbstractA(Module): ...\nclass B(AbstractA[T]): ...\nclass C(B): ...", "from B"),
        ("class A(eqx.Module):\n  def f(self): return super().f()", "calls super()"),
        ("class A(eqx.Module):\n  @abc.abstractmethod\n  def f(self): ...", "is abstract"),
        ("class A(eqx.Module):\n  c: eqx.AbstractVar[int]", "is abstract"),
    ],
)
def test_class_check_can_fail(source, says):
    assert any(says in fault for fault in class_faults({"space": source}))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1", "space has no docstring"),
        ("'m'\ndef f(): ...", "f has no docstring"),
        ("'m'\nclass A:\n  'a'\n  def g(self): ...", "g has no docstring"),
    ],
)
def test_docstring_check_can_fail(source, says):
    assert any(says in fault for fault in docstring_faults({"space": source}))
    assert docstring_faults({"space": "'m'\ndef _f(): ...\nclass A:\n  'a'\n  x = 1"}) == []


def test_length_and_top_level_checks_can_fail():
    assert length_faults({"long.py": "\n" * 331, "short.py": "\n" * LINES})[0].startswith("long")
    assert top_level_faults(["docs/a.md", ".ci/run", "tests/a.py"]) == ["docs"]
