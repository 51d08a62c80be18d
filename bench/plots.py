"""Rows as figures: ratios to peers with their targets, cost against n, speed against devices."""

from pathlib import Path


def draw(rows: list[dict], folder: Path) -> list[Path]:
    """PNG files of what the rows hold: ratios.png, sizes.png, scaling.png.

    Args:
        rows: as `python -m bench --json FILE` writes them.
        folder: made if it is not there.

    Returns:
        the files written.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    files = []

    def keep(figure, name: str) -> None:
        figure.tight_layout()
        figure.savefig(folder / name, dpi=150)
        plt.close(figure)
        files.append(folder / name)

    if asked := [row for row in rows if row["target"] and row["ratio"]]:
        figure, axes = plt.subplots(figsize=(9, 1.2 + 0.3 * len(asked)))
        colours = ["tab:green" if row["reached"] else "tab:orange" for row in asked]
        axes.barh([f"{row['name']}  {row['target']}" for row in asked], [row["ratio"] for row in asked], color=colours)
        bounds = [float(row["target"].split()[1]) for row in asked]
        axes.plot(bounds, range(len(asked)), "k|", markersize=12, label="target")
        axes.set(xscale="log", xlim=(0.1, None), xlabel="ratio, ours to peer (green: target reached)")
        axes.invert_yaxis()
        axes.legend()
        keep(figure, "ratios.png")
    if lines := _lines(rows, ("sizes", "fields")):
        figure, axes = plt.subplots()
        for line, points in lines.items():
            axes.loglog(*zip(*sorted(points), strict=True), "o-", label=line)
        axes.set(xlabel="particles", ylabel="ns an atom-step or a bond")
        axes.legend()
        keep(figure, "sizes.png")
    if lines := _lines(rows, ("scaling",)):
        figure, axes = plt.subplots()
        for line, points in lines.items():
            axes.plot(*zip(*sorted(points), strict=True), "o-", label=line)
        (least, speed), most = min(points), max(points)[0]
        axes.plot([least, most], [speed, speed * most / least], "k:", label="ideal")
        axes.set(xlabel="devices", ylabel="atom-steps/s", ylim=(0, None))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
        keep(figure, "scaling.png")
    return files


def _lines(rows: list[dict], parts: tuple[str, ...]) -> dict[str, list[tuple[float, float]]]:
    """The curves of some parts: (at, ours) of each; without times in other units."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["part"] in parts and "line" in row and row["unit"] != "µs":
            lines.setdefault(row["line"], []).append((row["at"], row["ours"]))
    return lines
