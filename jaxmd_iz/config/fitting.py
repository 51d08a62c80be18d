"""The table [fit], read by the command `fit` alone."""

from dataclasses import dataclass
from typing import ClassVar

from jaxmd_iz.config.rules import NOT_NEGATIVE, POSITIVE, Table, choice, key, several, text, whole

#: Fields of flows that come with the package.
FLOWS = ("lj_shear_wave", "lj_heat_wave", "lj_mixed_waves")
_FILES = several(text, "a list of files")


@dataclass(frozen=True, kw_only=True)
class FitTable(Table):
    """[fit], read by the command `fit` alone"""

    NAME: ClassVar[str] = "fit"
    train: tuple[str, ...] = key(
        "`fields.nc` of the flows to fit, profiles along an axis; or " + ", ".join(f"`{n}`" for n in FLOWS),
        _FILES, (), words=FLOWS,
    )  # fmt: skip
    held_out: tuple[str, ...] = key("those of flows to compare with that the fit never sees", _FILES, (), words=FLOWS)
    closure: str = key("form of the closure", choice("newton_fourier", "learned"), "newton_fourier")
    begin: float = key("time of the frame at which the continuum starts", NOT_NEGATIVE, 0.0, "time")
    viscosity: float = key("first guess of η", POSITIVE, 1.0, "pressure·time")
    bulk_viscosity: float = key("first guess of ζ", POSITIVE, 1.0, "pressure·time")
    conductivity: float = key("first guess of κ", POSITIVE, 1.0, "heat flux·length/temperature")
    steps: int = key("steps of training for `learned`", whole(1), 60)
