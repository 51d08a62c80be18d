"""Rules for the values of keys: each reads one value, gives it as it is kept, or says what it must be."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar

from jaxmd_iz.checks import must, one_of

Numbers = float | tuple[float, ...] | tuple[tuple[float, ...], ...]
Rule = Callable[[Any, str], Any]  # (value, table.key) → the value as it is kept


def toml(value: Any) -> str:
    """A value as TOML text; what TOML does not know as Python shows it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{toml(str(k))} = {toml(v)}' for k, v in value.items())} }}"
    return repr(value) if type(value) in (int, float) else str(value)


def it_is(value: Any) -> str:
    """The half sentence that shows a value, shortened."""
    try:
        text = toml(value)
    except (RecursionError, ValueError):  # nested a thousand times, or of thousands of digits
        return "it is too large to show"
    return f"it is {text if len(text) <= 80 else text[:77] + '…'}"


def number(least: float = -math.inf, above: float = -math.inf, infinite: bool = False) -> Rule:
    """A number ≥ `least` and > `above`, finite unless `infinite`; kept as a float."""
    limit = f" above {above:g}" if above > -math.inf else f" of {least:g} or more" if least > -math.inf else ""
    requirement = f"be a {'' if infinite else 'finite '}number{limit}"

    def read(value: Any, where: str) -> float:
        good = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(_size(value))
        good = good and (infinite or math.isfinite(_size(value)))
        good = good and value >= least and (value > above or above == -math.inf)
        must(good, where, requirement, it_is(value))
        return _size(value)

    return read


def _size(value: float | int) -> float:
    """As a float, which is infinite for whole numbers that are too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def whole(least: int, most: int | None = None) -> Rule:
    """A whole number from `least` to `most`."""
    limit = f"of {least} or more" if most is None else f"from {least} to {most}"

    def read(value: Any, where: str) -> int:
        good = isinstance(value, int) and not isinstance(value, bool)
        must(good and least <= value <= (most or value), where, f"be a whole number {limit}", it_is(value))
        must(value < 2**63, where, "be below 2⁶³", it_is(value))
        return int(value)

    return read


def text(value: Any, where: str) -> str:
    """A text that is not empty."""
    must(isinstance(value, str) and value.strip() != "", where, "be a text that is not empty", it_is(value))
    return value


def flag(value: Any, where: str) -> bool:
    """true or false."""
    must(isinstance(value, bool), where, "be true or false", it_is(value))
    return value


def choice(*names: str) -> Rule:
    """One of some names."""

    def read(value, where):
        return one_of(text(value, where), where, names)

    read.names = names  # type: ignore[attr-defined]
    return read


def several(item: Rule, what: str) -> Rule:
    """A list, which may be empty, with every item as `item` says; kept as a tuple."""

    def read(value, where):
        must(isinstance(value, list | tuple), where, f"be {what}", it_is(value))
        return tuple(item(v, where) for v in value)

    return read


def numbers(item: Rule, depths: Iterable[int], what: str) -> Rule:
    """Numbers as `item` says, nested as deep as one of `depths`, in rows of one length; kept as tuples."""

    def shape(value) -> tuple[int, ...] | None:
        if not isinstance(value, list | tuple):
            return ()
        shapes = {shape(v) for v in value}
        inner = shapes.pop() if len(shapes) == 1 else None
        return None if inner is None else (len(value), *inner)

    def keep(value, where):
        return tuple(keep(v, where) for v in value) if isinstance(value, list | tuple) else item(value, where)

    def read(value, where):
        found = shape(value)
        must(found is not None and len(found) in depths, where, f"be {what}", it_is(value))
        return keep(value, where)

    return read


def by_name(item: Rule) -> Rule:
    """A table with free names and values as `item` says; kept as a dictionary."""

    def read(value, where):
        must(isinstance(value, Mapping), where, "be a table of numbers by name", it_is(value))
        return {str(k): item(v, f"{where}.{k}") for k, v in value.items()}

    return read


AXES = ("x", "y", "z")
ANY, POSITIVE, NOT_NEGATIVE = number(), number(above=0.0), number(least=0.0)
VECTOR = numbers(ANY, (1,), "a list with a number for each dimension")


def key(
    doc: str, rule: Rule, default: Any = MISSING, unit: str = "", auto: str = "", words: tuple[str, ...] | None = None
) -> Any:
    """A key of a table.

    Args:
        doc: what it is, in one line.
        rule: what it must be.
        default: its default; left out, the key has to be given. None stands for what `auto` says.
        unit: its unit, as a quantity.
        auto: what happens if it is not given.
        words: marks the path of a file, in whose place one of these may stand.
    """
    return field(default=default, metadata={"doc": doc, "rule": rule, "unit": unit, "auto": auto, "words": words})


def sub(table: type, doc: str) -> Any:
    """A table within a table; without it, the inner one has its defaults."""
    return field(default_factory=table, metadata={"doc": doc, "table": table})


def default_of(f: Field) -> Any:
    """The default of a key or table within a table; MISSING if it has to be given."""
    return f.default if f.default_factory is MISSING else f.default_factory()


@dataclass(frozen=True, kw_only=True)
class Table:
    """What the tables share: a rule reads every key, and a key that the `kind` does not use is refused."""

    NAME: ClassVar[str] = ""

    def __post_init__(self):
        for f in fields(self):
            value, where = getattr(self, f.name), f"{self.NAME}.{f.name}"
            if "rule" in f.metadata and not (value is None and f.default is None):
                object.__setattr__(self, f.name, f.metadata["rule"](value, where))
        for f in fields(self):
            value, where = getattr(self, f.name), f"{self.NAME}.{f.name}"
            fits = f.name not in self.unused() or value == default_of(f)
            remedy = f"`--set {where}=` takes it out of a file's table."
            must(fits, where, f"be left out for kind `{getattr(self, 'kind', '')}`", it_is(value), remedy)
        for name in sorted(self.needed()):
            missing, where = getattr(self, name) in (None, ()), f"{self.NAME}.{name}"
            must(not missing, where, f"be given for kind `{getattr(self, 'kind', '')}`", "it is missing")

    def unused(self) -> set[str]:
        """Keys that mean nothing for the `kind` of the table."""
        return set()

    def needed(self) -> set[str]:
        """Keys without a default that the `kind` of the table cannot do without."""
        return set()
