"""The table [macroscopic] of the configuration: the fields that the local Gibbs density has to have at t = 0."""

# ruff: noqa: RUF009 (`key` and `sub` give dataclass fields)
from dataclasses import dataclass
from typing import ClassVar

from jaxmd_iz.checks import must
from jaxmd_iz.config.rules import ANY, AXES, POSITIVE, Table, choice, key, sub, text, whole

SHAPES = ("constant", "step", "sine", "gaussian")


@dataclass(frozen=True, kw_only=True)
class ProfileTable(Table):
    """What the profiles share: value + amplitude · shape(s), s along the axis."""

    NAME: ClassVar[str] = "macroscopic"
    kind: str = key(
        "shape of height 1: `step` is 1 between ¼ and ¾ of the cell, `sine` sin(2π `mode` s/L), `gaussian` a hump",
        choice(*SHAPES),
        "constant",
    )
    amplitude: float = key("height of the shape", ANY, 0.0, "as `value`")
    mode: int = key("waves in the cell, of `sine`", whole(1), 1)
    centre: float | None = key("where the `gaussian` is", ANY, None, "length", "the middle of the cell")
    width: float | None = key(
        "of the `gaussian`, and of the two flanks of the `step`", POSITIVE, None, "length", "L/8; of `step` L/32"
    )

    def unused(self):
        """Keys of other shapes."""
        used = {"step": {"width"}, "sine": {"mode"}, "gaussian": {"width", "centre"}}
        none = {"amplitude"} if self.kind == "constant" else set()
        return ({"mode", "centre", "width"} | none) - used.get(self.kind, set())


@dataclass(frozen=True, kw_only=True)
class RhoTable(ProfileTable):
    """[macroscopic.rho]"""

    NAME: ClassVar[str] = "macroscopic.rho"
    value: float | None = key(
        "ρ, scaled so that its integral is the mass of the particles",
        POSITIVE,
        None,
        "mass/lengthᴰ",
        "their mean density",
    )


@dataclass(frozen=True, kw_only=True)
class VelocityTable(ProfileTable):
    """[macroscopic.u]"""

    NAME: ClassVar[str] = "macroscopic.u"
    value: float = key("component of u", ANY, 0.0, "velocity")
    component: str = key("direction of u", choice(*AXES), "x")


@dataclass(frozen=True, kw_only=True)
class TemperatureTable(ProfileTable):
    """[macroscopic.T]"""

    NAME: ClassVar[str] = "macroscopic.T"
    value: float | None = key("T", POSITIVE, None, "temperature", "`density.temperature`")


@dataclass(frozen=True, kw_only=True)
class EnergyTable(ProfileTable):
    """[macroscopic.E]"""

    NAME: ClassVar[str] = "macroscopic.E"
    value: float | None = key("E, matched in place of T if it is given", ANY, None, "energy/lengthᴰ", "T is given")


@dataclass(frozen=True, kw_only=True)
class MacroscopicTable(Table):
    """[macroscopic], read for `density.kind = "local"`"""

    NAME: ClassVar[str] = "macroscopic"
    points: int = key("equidistant points y_k; the spacing is the ε of the cubic η that looks at them", whole(3), 12)
    axis: str | None = key("axis (cell vector) along which the fields vary", choice(*AXES), None, auto="the last axis")
    data: str | None = key(
        "CSV file with columns s, rho, u_x, u_y, u_z (as far as they are not 0) and T or E, or a `fields.nc`, whose "
        "last frame is taken; in place of the profiles",
        text, None, auto="none", words=(),
    )  # fmt: skip
    rho: RhoTable = sub(RhoTable, "rho")
    u: VelocityTable = sub(VelocityTable, "u")
    T: TemperatureTable = sub(TemperatureTable, "T")
    E: EnergyTable = sub(EnergyTable, "E")
    chains: int = key("chains that the matching averages over", whole(8), 128)
    burn_in: int = key(
        "proposals before the first average of the matching; a third of them before each further one", whole(8), 60
    )
    iterations: int = key("most Newton iterations", whole(1), 8)

    def __post_init__(self):
        Table.__post_init__(self)
        hot = self.T.value is not None or self.T.amplitude != 0
        told = self.E.value is None or not hot
        must(told, "macroscopic.E", "be left out where `macroscopic.T` is given", "both are there")
        for name in ("rho", "u", "T", "E"):
            table = getattr(self, name)
            plain = self.data is None or table == type(table)()
            must(plain, f"macroscopic.{name}", "be left out with `macroscopic.data`", "both are there")
