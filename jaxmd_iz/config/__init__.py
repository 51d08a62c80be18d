"""The configuration: TOML text with overrides → checked tables, and back.

`tables` holds every key with its unit, default and documentation, `rules` how values are read, `together` what tables
ask of each other. Numbers stay in the configuration's own units; `build` converts them and makes Modules of them.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from jaxmd_iz.checks import fail, must, nearest, refuse_unsupported
from jaxmd_iz.config.fitting import FLOWS, FitTable
from jaxmd_iz.config.macroscopic import MacroscopicTable, ProfileTable
from jaxmd_iz.config.potential import SEVERAL, SW_FILES, CouplingTable, ExternalTable, PotentialTable, ShiftTable
from jaxmd_iz.config.rules import AXES, Table, default_of, it_is, toml
from jaxmd_iz.config.tables import (
    DensityTable,
    DynamicsTable,
    GridTable,
    LimitTable,
    MollifierTable,
    OutputTable,
    SpaceTable,
    SplitTable,
    SurfacesTable,
    UnitsTable,
    WatchTable,
)
from jaxmd_iz.config.together import Config

__all__ = [
    "AXES",
    "FLOWS",
    "SEVERAL",
    "SW_FILES",
    "Config",
    "CouplingTable",
    "DensityTable",
    "DynamicsTable",
    "ExternalTable",
    "FitTable",
    "GridTable",
    "LimitTable",
    "MacroscopicTable",
    "MollifierTable",
    "OutputTable",
    "PotentialTable",
    "ProfileTable",
    "ShiftTable",
    "SpaceTable",
    "SplitTable",
    "SurfacesTable",
    "UnitsTable",
    "WatchTable",
    "describe",
    "dumps",
    "examples",
    "load",
    "loads",
]


def examples() -> list[str]:
    """Names of the examples that come with the package."""
    found = (files("jaxmd_iz") / "examples").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in found if f.name.endswith(".toml"))


def load(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a file, or of an example by its name.

    Args:
        source: path of a TOML file, or the name of an example. Paths in the file are relative to it.
        overrides: `table.key=value` with a TOML value; a bare word is a text, nothing takes the key out. Paths are
            relative to the working directory.

    Returns:
        Config.

    Raises:
        InputError: no such file, no TOML, or keys and values that are not allowed.
    """
    path = Path(source).expanduser()
    if path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            fail("config", "name a readable text file", f"`{path}` cannot be read: {error}")
        return _config(text, overrides, f"`{path}`", path.parent)
    known, name = examples(), str(source)
    if name not in known:
        listed = ", ".join(f"`{k}`" for k in known)
        requirement = f"be a TOML file or the name of an example ({listed})"
        fail("config", requirement, f"there is no file `{source}`", nearest(name, known))
    text = (files("jaxmd_iz") / "examples" / f"{name}.toml").read_text(encoding="utf-8")
    return _config(text, overrides, f"example `{name}`", Path.cwd())


def loads(text: str, overrides: Sequence[str] = ()) -> Config:
    """The configuration of TOML text.

    Args:
        text: the TOML text; paths in it are relative to the working directory.
        overrides: as in `load`.

    Raises:
        InputError: as in `load`.
    """
    return _config(text, overrides, "the text", Path.cwd())


def _config(text: str, overrides: Sequence[str], name: str, folder: Path) -> Config:
    try:
        raw = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        fail("config", "be valid TOML", f"{name} is not: {error}")
    except RecursionError:
        fail("config", "be valid TOML", f"{name} is nested too deeply")
    _anchor(raw, Config, folder)
    for override in overrides:
        change = _parse(override)
        _anchor(change, Config, Path.cwd())
        _merge(raw, change, override)
    return _read(Config, raw, "")


def _parse(override: str) -> dict[str, Any]:
    """`a.b=value` as nested tables; no value as None."""
    path, equals, right = override.partition("=")
    names = [name.strip() for name in path.split(".")]
    good = equals and len(names) > 1 and all(names)
    must(bool(good), "--set", "be `table.key=value`", f"it is `{override}`", "For example `--set dynamics.steps=500`.")
    value: Any = right.strip() or None
    try:
        parsed = tomllib.loads(f"value = {right}")
        value = parsed["value"] if list(parsed) == ["value"] else value
    except (ValueError, RecursionError):
        pass  # a bare word
    for name in reversed(names):
        value = {name: value}
    return value


def _merge(raw: dict[str, Any], change: Mapping[str, Any], override: str) -> None:
    for name, value in change.items():
        if value is None:
            raw.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(raw.setdefault(name, {}), dict):
            _merge(raw[name], value, override)
        else:
            raw[name] = value


def _anchor(raw: Mapping[str, Any], table: type, folder: Path) -> None:
    """Makes the paths of files absolute, from `folder`; words that stand in their place stay."""
    known = {f.name: f.metadata for f in fields(table)}
    for name, value in raw.items():
        meta = known.get(name, {})
        if "table" in meta and isinstance(value, Mapping):
            _anchor(value, meta["table"], folder)
        elif meta.get("words") is not None:

            def placed(value, words=meta["words"]):
                if not (isinstance(value, str) and value.strip()):
                    return value
                path = folder / Path(value).expanduser()
                return value if value in words and not path.is_file() else str(path.resolve())

            raw[name] = [placed(v) for v in value] if isinstance(value, list) else placed(value)  # type: ignore[index]


def _read(table: type, raw: Any, prefix: str) -> Any:
    """A table from what TOML says."""
    if not isinstance(raw, Mapping):
        fail(prefix.rstrip("."), "be a table", it_is(raw))
    known = {f.name: f for f in fields(table)}
    for name in raw:
        if name not in known:
            refuse_unsupported(name, prefix + name)
            what = "a key" if prefix else "a table"
            listed = ", ".join(f"`{k}`" for k in known)
            owner = f"[{prefix.rstrip('.')}]" if prefix else "the configuration"
            fail(prefix + name, f"be {what} of {owner} ({listed})", "it is not", nearest(name, known))
    values = {}
    for name, f in known.items():
        if "table" in f.metadata and (name in raw or default_of(f) is MISSING):
            values[name] = _read(f.metadata["table"], raw.get(name, {}), f"{prefix}{name}.")
        elif name in raw:
            values[name] = f.metadata["rule"](raw[name], prefix + name)
        elif default_of(f) is MISSING:
            fail(prefix + name, "be given", "it is missing", f"It is {f.metadata['doc']}.")
    return table(**values)


def dumps(config: Config) -> str:
    """The configuration as TOML text that loads back to an equal one: every value that is set or has a default."""
    lines: list[str] = []

    def write(table: Table, name: str) -> None:
        lines.append(f"[{name}]")
        for f in fields(table):
            value = getattr(table, f.name)
            if f.name not in table.unused() and "table" not in f.metadata and value is not None:
                lines.append(f"{f.name} = {toml(value)}")
        lines.append("")
        for f in fields(table):
            if "table" in f.metadata and f.name not in table.unused():
                write(getattr(table, f.name), f"{name}.{f.name}")

    for f in fields(config):
        if f.name == "species":
            lines.extend(["[species]", *(f"{toml(k)} = {toml(v)}" for k, v in config.species.items()), ""])
        else:
            write(getattr(config, f.name), f.name)
    return "\n".join(lines)


def describe() -> str:
    """A Markdown table of every key: default, unit and meaning."""
    rows = ["| key | default | unit | meaning |", "|---|---|---|---|"]

    def row(name, default, unit, doc):
        rows.append(f"| `{name}` | {default} | {unit or '–'} | {doc} |")

    def visit(table, prefix):
        for f in fields(table):
            meta = f.metadata
            if f.name == "species":
                default = "`X = 1` in `lj` units; what a file says"
                row("species.NAME", default, "mass", "mass of each species, in their order")
            elif "table" in meta:
                visit(meta["table"], f"{prefix}{f.name}.")
            else:
                default = "needed" if f.default is MISSING else meta["auto"] or f"`{toml(f.default)}`"
                names = getattr(meta["rule"], "names", ())
                listed = f" ({', '.join(f'`{n}`' for n in names)})" if names else ""
                row(prefix + f.name, default, meta["unit"], meta["doc"] + listed)

    visit(Config, "")
    return "\n".join(rows) + "\n"
