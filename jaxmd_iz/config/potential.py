"""The table [potential] of the configuration, with those inside it."""

# ruff: noqa: RUF009 (`key` and `sub` give dataclass fields)
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxmd_iz.config.rules import (
    ANY,
    AXES,
    NOT_NEGATIVE,
    POSITIVE,
    VECTOR,
    Numbers,
    Table,
    by_name,
    choice,
    flag,
    key,
    number,
    numbers,
    several,
    sub,
    text,
    whole,
)
from jaxmd_iz.models import MODELS

SW_FILES = ("Si.sw",)  # Stillinger–Weber files that come with the package
NUMBER_OR_VECTOR = numbers(ANY, (0, 1), "a number, or a list with one for each dimension")
SPECIES = numbers(POSITIVE, (0, 1, 2), "a number, a list by species (mixed) or a matrix by species")
MATRIX = numbers(POSITIVE, (0, 2), "a number or a matrix by species")


@dataclass(frozen=True, kw_only=True)
class ExternalTable(Table):
    """[potential.external]"""

    NAME: ClassVar[str] = "potential.external"
    kind: str = key(
        "external potential V_b: ½ k (x − c)², ¼ k (x − c)⁴, −f·x, or harmonic walls",
        choice("none", "harmonic", "quartic", "uniform", "walls"),
        "none",
    )
    stiffness: float | tuple[float, ...] | None = key(
        "k; of `harmonic` also one for each dimension",
        numbers(NOT_NEGATIVE, (0, 1), "a number of 0 or more, or one for each dimension"),
        None,
        "energy/length² (`quartic`: /length⁴)",
        "needed by `harmonic`, `quartic`, `walls`",
    )
    centre: float | tuple[float, ...] = key("c of `harmonic` and `quartic`", NUMBER_OR_VECTOR, 0.0, "length")
    force: tuple[float, ...] | None = key("f of `uniform`", VECTOR, None, "energy/length", "needed by `uniform`")
    axis: str | None = key("normal of the `walls`", choice(*AXES), None, auto="the last axis")
    lower: float = key("where the lower wall begins", number(infinite=True), float("-inf"), "length")
    upper: float = key("where the upper wall begins", number(infinite=True), float("inf"), "length")

    def unused(self):
        """Keys of other kinds."""
        used = {
            "none": set(),
            "harmonic": {"stiffness", "centre"},
            "quartic": {"stiffness", "centre"},
            "uniform": {"force"},
            "walls": {"stiffness", "axis", "lower", "upper"},
        }
        return {"stiffness", "centre", "force", "axis", "lower", "upper"} - used[self.kind]

    def needed(self):
        """The strength of each kind."""
        return {"none": set(), "uniform": {"force"}}.get(self.kind, {"stiffness"})


@dataclass(frozen=True, kw_only=True)
class CouplingTable(Table):
    """[potential.coupling]"""

    NAME: ClassVar[str] = "potential.coupling"
    amplitude: float = key("h of the Gaussian h exp(−(r − r₀)²/2w²)", ANY, 0.0, "energy")
    width: float = key("w of the Gaussian", POSITIVE, 1.0, "length")
    centre: float = key("r₀ of the Gaussian", ANY, 0.0, "length")


@dataclass(frozen=True, kw_only=True)
class ShiftTable(CouplingTable):
    """[potential.shift]"""

    NAME: ClassVar[str] = "potential.shift"


PAIR_KEYS = {
    "lennard_jones": {"epsilon", "sigma", "cutoff", "truncation"},
    "wca": {"epsilon", "sigma", "cutoff"},
    "morse": {"depth", "steepness", "distance", "cutoff", "truncation"},
    "soft_sphere": {"epsilon", "sigma", "exponent", "cutoff", "truncation"},
}
STATE_KEYS = {"base", "gap", "coupling", "shift", "gaussian_cutoff"}
ELECTRON_KEYS = {"basis", "charge", "spin", "softening", "confinement", "states"}
OTHER_KEYS = {
    "stillinger_weber": {"share", "file"},
    "eam": {"file", "elements"},
    "two_state_fluid": STATE_KEYS,
    "exciton_fluid": STATE_KEYS | {"states"},
    "electrons": ELECTRON_KEYS,
    "model": {"model", "parameters", "template", "states"},
    "bonds": set[str](),
}
PAIR = "lennard_jones"
FLUIDS = ("two_state_fluid", "exciton_fluid")  # fluids of several states on a pair potential φ
SEVERAL = (*FLUIDS, "electrons", "model")  # kinds of several states, without bonds beside them
OWN_KEYS = {"tail", "bonds", "bond_cutoff"}.union(*OTHER_KEYS.values(), *PAIR_KEYS.values())


@dataclass(frozen=True, kw_only=True)
class PotentialTable(Table):
    """[potential]"""

    NAME: ClassVar[str] = "potential"
    kind: str = key("potential", choice(*PAIR_KEYS, *OTHER_KEYS), "lennard_jones")
    epsilon: Numbers | None = key(
        "ε of `lennard_jones`, `wca`, `soft_sphere`: a number, one a species (mixed by Lorentz–Berthelot) or a matrix",
        SPECIES, None, "energy", "1 in `lj` units, else needed",
    )  # fmt: skip
    sigma: Numbers | None = key("σ, likewise", SPECIES, None, "length", "1 in `lj` units, else needed")
    exponent: float = key("n of `soft_sphere`, ε (σ/r)ⁿ", POSITIVE, 12.0)
    depth: Numbers | None = key("D of `morse`: a number or a matrix", MATRIX, None, "energy", "needed by `morse`")
    steepness: Numbers | None = key("a of `morse`, likewise", MATRIX, None, "1/length", "needed by `morse`")
    distance: Numbers | None = key("r₀ of `morse`, likewise", MATRIX, None, "length", "needed by `morse`")
    cutoff: float | None = key(
        "range r_c of the pair potential",
        POSITIVE,
        None,
        "length",
        "2.5 max σ; of `wca` 2^{1/6} max σ; needed by `morse`",
    )
    truncation: str = key(
        "at r_c: nothing, φ shifted to 0, or φ and φ′", choice("cut", "shift", "force_shift"), default="cut"
    )
    tail: bool = key("`lennard_jones` with `cut`: correct energy and pressure for what lies beyond r_c", flag, False)
    share: str = key("whom `stillinger_weber` gives a triplet's energy", choice("central", "thirds"), "central")
    file: str | None = key(
        "parameter file of `stillinger_weber` in the format of LAMMPS; `Si.sw` (metal) comes with the package; of "
        "`eam` in the format setfl (eam/alloy, eam/fs; eV, Å)",
        text, None, auto="`Si.sw`; needed by `eam`", words=SW_FILES,
    )  # fmt: skip
    elements: Mapping[str, str] | None = key(
        "element of each species in the file of `eam`", by_name(text), None, auto="the name of the species"
    )
    base: str = key("φ of `two_state_fluid` and `exciton_fluid`, with its parameters", choice(*PAIR_KEYS), PAIR)
    gap: float | None = key(
        "Δ of `two_state_fluid`, E₀ of `exciton_fluid`", ANY, None, "energy", "needed by `two_state_fluid`; else 0"
    )
    gaussian_cutoff: float | None = key("range of c and δ", POSITIVE, None, "length", "that of φ")
    model: str | None = key("which `model`; all are in `atomic` units", choice(*MODELS), None, auto="needed by `model`")
    parameters: Mapping[str, float] | None = key(
        "parameters of the `model` by name", by_name(ANY), None, auto="the published ones"
    )
    template: str | None = key(
        "file of the model `linear_vibronic` in the format of SHARC's LVC.template", text, None,
        auto="needed by `linear_vibronic`", words=(),
    )  # fmt: skip
    states: int | None = key(
        "keep this many of the lowest states", whole(1), None, auto="all; 3 of `electrons` and of `shin_metiu`"
    )
    basis: str = key("s-type Gaussians of `electrons` on each nucleus", choice("sto-3g", "even-tempered"), "sto-3g")
    charge: int = key("charge of all nuclei and `electrons` together", whole(-99), 0)
    spin: int | None = key("2S of `electrons`", whole(0), None, auto="0, or 1 for an odd number")
    softening: float = key("δ_a of the Coulomb forces 1/√(r² + δ_a) of `electrons`", NOT_NEGATIVE, 0.0, "length²")
    confinement: float = key(
        "k of ½ k (x̄ − Σxⁿ/n)², which confines each of the `electrons`", NOT_NEGATIVE, 0.0, "energy/length²"
    )
    bonds: tuple[tuple[float, ...], ...] = key(
        "harmonic bonds ½ k (r − r₀)² as [i, j, k, r₀] with particles from 0; `kind = \"bonds\"` has nothing else",
        several(numbers(ANY, (1,), "a list of bonds [i, j, k, r₀]"), "a list of bonds [i, j, k, r₀]"), (),
    )  # fmt: skip
    bond_cutoff: float | None = key(
        "a length that no bond reaches", POSITIVE, None, "length", "`cutoff`, else infinite"
    )
    coupling: CouplingTable = sub(CouplingTable, "c(r) of `two_state_fluid`, J(r) of `exciton_fluid`")
    shift: ShiftTable = sub(ShiftTable, "δ(r) of both")
    external: ExternalTable = sub(ExternalTable, "external potential")

    def unused(self):
        """Keys of other kinds."""
        used = OTHER_KEYS.get(self.kind) or PAIR_KEYS.get(self.kind, set())
        if self.kind == "lennard_jones":
            used = used | {"tail"}
        if self.kind in FLUIDS:
            used = used | PAIR_KEYS[self.base]
        bonds = {"bonds", "bond_cutoff"} if self.kind not in SEVERAL else set()
        return OWN_KEYS - used - bonds

    def needed(self):
        """Keys that the kind, or the base, cannot do without."""
        own = {"two_state_fluid": {"gap"}, "bonds": {"bonds"}, "model": {"model"}, "eam": {"file"}}.get(
            self.kind, set()
        )
        own = own | ({"template"} if self.model == "linear_vibronic" else set())
        pair = self.base if self.kind in FLUIDS else self.kind
        return own | (PAIR_KEYS["morse"] - {"truncation"} if pair == "morse" else set())
