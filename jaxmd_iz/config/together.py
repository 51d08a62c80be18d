"""All tables together: the configuration, whose tables are checked against each other."""

# ruff: noqa: RUF009 (`sub` gives a dataclass field)
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from jaxmd_iz.checks import must, one_of
from jaxmd_iz.config.fitting import FitTable
from jaxmd_iz.config.macroscopic import MacroscopicTable
from jaxmd_iz.config.potential import PotentialTable
from jaxmd_iz.config.rules import AXES, by_name, it_is, number, sub, toml
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
from jaxmd_iz.models import MODELS

_MASSES = by_name(number(above=0.0))


@dataclass(frozen=True, kw_only=True)
class Config:
    """All tables; each is checked by itself, and here against the others.

    Raises:
        InputError: tables that do not fit together.
    """

    NAME: ClassVar[str] = ""
    units: UnitsTable = sub(UnitsTable, "units")
    space: SpaceTable = sub(SpaceTable, "space")
    species: Mapping[str, float] = field(default_factory=dict, metadata={"rule": _MASSES})
    potential: PotentialTable = sub(PotentialTable, "potential")
    surfaces: SurfacesTable = sub(SurfacesTable, "surfaces")
    split: SplitTable = sub(SplitTable, "split")
    mollifier: MollifierTable = field(metadata={"table": MollifierTable})
    grid: GridTable = field(metadata={"table": GridTable})
    density: DensityTable = sub(DensityTable, "density")
    macroscopic: MacroscopicTable = sub(MacroscopicTable, "macroscopic")
    dynamics: DynamicsTable = sub(DynamicsTable, "dynamics")
    watch: WatchTable = sub(WatchTable, "watch")
    output: OutputTable = sub(OutputTable, "output")
    limit: LimitTable = sub(LimitTable, "limit")
    fit: FitTable = sub(FitTable, "fit")

    def __post_init__(self):
        object.__setattr__(self, "species", _MASSES(self.species, "species"))
        if self.units.files is not None and "lj" in (self.units.files, self.units.system):
            same, but = self.units.files == self.units.system, f"it is `{self.units.files}`"
            must(same, "units.files", f"be convertible to `{self.units.system}`", but, "`lj` has no size.")
        for check in (_check_lengths, _check_potential, _check_space, _check_density):
            check(self)


def _check_lengths(config: Config) -> None:
    """What is given for each dimension has D entries."""
    dim, tables = config.space.dimensions, (config.space, config.grid, config.potential.external)
    keys = (("cell",), ("shape", "lower", "upper"), ("stiffness", "centre", "force"))
    for table, names in zip(tables, keys, strict=True):
        for name in names:
            value = getattr(table, name)
            if not isinstance(value, tuple) or value == ():
                continue
            fits = len(value) == dim and all(not isinstance(row, tuple) or len(row) == dim for row in value)
            what = (
                f"{dim} edge lengths or {dim} vectors" if name == "cell" else f"{dim} entries, one for each dimension"
            )
            must(fits, f"{table.NAME}.{name}", f"have {what}", it_is(value), "`space.dimensions` sets their number.")
    push = config.limit.push
    must(len(push) in (0, dim), "limit.push", f"have {dim} entries, one for each dimension", it_is(push))
    fits = all(isinstance(row, tuple) and len(row) == dim for row in config.density.positions)
    must(fits, "density.positions", f"have {dim} number{'s' * (dim > 1)} in each row", "a row has another length")
    for table in (config.grid, config.macroscopic, config.potential.external):
        names = ", ".join(f"`{a}`" for a in AXES[:dim])
        fits = table.axis is None or table.axis in AXES[:dim]
        must(fits, f"{table.NAME}.axis", f"be one of {names} in {dim} dimensions", f"it is `{table.axis}`")


def _check_potential(config: Config) -> None:
    """ε and σ are told outside `lj` units, in which both are 1."""
    table = config.potential
    atomic = table.kind not in ("electrons", "model") or config.units.system == "atomic"
    must(atomic, "units.system", f"be `atomic` for kind `{table.kind}`", f"it is `{config.units.system}`")
    unbounded = table.kind not in ("electrons", "model") or config.space.kind == "free"
    must(unbounded, "space.kind", f"be `free` for kind `{table.kind}`", "it is `periodic`")
    flat = table.kind == "electrons" and config.space.dimensions != 3
    must(not flat, "space.dimensions", "be 3 for kind `electrons`", f"it is {config.space.dimensions}")
    again, none = config.surfaces.iterations, config.surfaces.correction == "none"
    must(again == 1 or not none, "surfaces.iterations", "be left out with correction `none`", f"it is {again}")
    for name in ("epsilon", "sigma"):
        told = getattr(table, name) is not None or name in table.unused() or config.units.system == "lj"
        must(told, f"potential.{name}", f"be given in `{config.units.system}` units", "it is missing")


def _check_space(config: Config) -> None:
    """Grid, cell and mollifier fit a periodic cell or free space."""
    grid, free = config.grid, config.space.kind == "free"
    any_points = grid.profile > 0 or grid.shape or grid.points
    requirement, remedy = "name points by `profile`, `shape` or `points`", "`profile = 64` is a good start."
    must(bool(any_points), "grid", requirement, "it names none", remedy)
    corners = {"grid.area": grid.area, "grid.lower": grid.lower, "grid.upper": grid.upper}
    foreign = {"space.cell": config.space.cell} if free else corners
    where = "in free space" if free else "in a periodic space, where the cell tells it"
    for name, value in foreign.items():
        must(value is None, name, f"be left out {where}", it_is(value))
    needs = {"lower", "upper"} if grid.profile or grid.shape else set()
    needs |= {"area"} if grid.profile and config.space.dimensions > 1 else set()
    for name in sorted(needs if free else ()):
        must(getattr(grid, name) is not None, f"grid.{name}", "be given in free space", "it is missing")
    if free and grid.lower and grid.upper:
        ordered = all(a < b for a, b in zip(grid.lower, grid.upper, strict=True))
        must(ordered, "grid.lower", "be below `grid.upper`", f"they are {toml(grid.lower)} and {toml(grid.upper)}")
    fourier, epsilon = config.mollifier.kind == "fourier", config.mollifier.epsilon
    must(not (fourier and free), "mollifier.kind", "be of compact support in free space", "it is `fourier`")
    must(fourier or epsilon > 0, "mollifier.epsilon", "be a number above 0", it_is(epsilon))


def _check_density(config: Config) -> None:
    """There is something to sample or to start from, and it can be normalised."""
    density, external, free = config.density, config.potential.external.kind, config.space.kind == "free"
    for name in density.composition or {}:
        one_of(name, "density.composition", config.species or ("X",))
    plain = config.macroscopic == MacroscopicTable()
    must(
        density.kind == "local" or plain,
        "macroscopic",
        'be left out but for `density.kind = "local"`',
        it_is(density.kind),
    )
    total = sum((density.composition or {"": 1.0}).values())
    must(abs(total - 1) < 1e-6, "density.composition", "sum to 1", f"it sums to {total:g}")
    if density.kind == "given":
        but = f"it is `{density.start}`"
        must(density.start not in ("lattice", "random"), "density.start", "be a file for kind `given`", but)
    cold = density.kind == "local" and density.temperature is None
    must(not cold, "density.temperature", "be given for kind `local`", "it is missing", "It is the T of V_b.")
    if density.kind == "given" or density.temperature is None:  # nothing will be sampled
        return
    confines = config.potential.kind == "model" and MODELS[config.potential.model or ""].confined
    confines = confines or external in ("harmonic", "quartic") or (external == "walls" and config.space.dimensions == 1)
    remedy = "Without a confining V_b the canonical density of free particles has no integral."
    name, but = "potential.external.kind", f"it is `{external}`"
    must(confines or not free, name, "be `harmonic` or `quartic` to sample free space", but, remedy)
    remedy = "A uniform force has no equilibrium in a periodic space."
    must(free or external != "uniform", name, "allow an equilibrium to sample", but, remedy)
