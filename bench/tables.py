"""Rows as Markdown: the tables of the README."""

from bench.measurements import PARTS

HEADER = "| {title} | ours | peer | ratio | target |\n|---|---|---|---|---|"


def number(value: float | None) -> str:
    """Three digits, without the zeros of an exponent; a dash where there is none."""
    if value is None:
        return "–"
    text = f"{value:.3g}"
    if "e" not in text:
        return text
    digits, power = text.split("e")
    return f"{digits}e{int(power)}"


def markdown(rows: list[dict]) -> str:
    """A table for each part, in the order of the parts.

    Args:
        rows: as `python -m bench --json FILE` writes them.
    """
    tables = []
    for part, (_, title) in PARTS.items():
        lines = [_line(row) for row in rows if row["part"] == part]
        if lines:
            tables.append("\n".join([HEADER.format(title=title), *lines]))
    return "\n\n".join(tables)


def _line(row: dict) -> str:
    target = "" if row["target"] is None else f"{row['target']}, {'reached' if row['reached'] else 'missed'}"
    name, unit = row["name"], row["unit"]
    return f"| {name}, {unit} | {number(row['ours'])} | {number(row['peer'])} | {number(row['ratio'])} | {target} |"
