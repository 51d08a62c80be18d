"""The tables of the configuration, as frozen dataclasses: every key with its unit, default and documentation."""

# ruff: noqa: RUF009 (`key` and `sub` give dataclass fields)
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxmd_iz.config.rules import Numbers, Table, by_name, choice, flag, key, number, numbers, several, sub, text, whole

AXES = ("x", "y", "z")
SW_FILES = ("Si.sw",)  # Stillinger–Weber files that come with the package
ANY, POSITIVE, NOT_NEGATIVE = number(), number(above=0.0), number(least=0.0)
VECTOR = numbers(ANY, (1,), "a list with a number for each dimension")
NUMBER_OR_VECTOR = numbers(ANY, (0, 1), "a number, or a list with one for each dimension")
SPECIES = numbers(POSITIVE, (0, 1, 2), "a number, a list by species (mixed) or a matrix by species")
MATRIX = numbers(POSITIVE, (0, 2), "a number or a matrix by species")


@dataclass(frozen=True, kw_only=True)
class UnitsTable(Table):
    """[units]"""

    NAME: ClassVar[str] = "units"
    system: str = key(
        "unit system of the configuration and of all output", choice("lj", "metal", "atomic"), default="lj"
    )
    files: str | None = key(
        "unit system of the files that are read", choice("lj", "metal", "atomic", "ase"), None, auto="as the file says"
    )


@dataclass(frozen=True, kw_only=True)
class SpaceTable(Table):
    """[space]"""

    NAME: ClassVar[str] = "space"
    kind: str = key("periodic cell or unbounded space", choice("periodic", "free"), "periodic")
    dimensions: int = key("dimension D of space", whole(1, 3), 3)
    cell: tuple[float, ...] | tuple[tuple[float, ...], ...] | None = key(
        "D edge lengths, or D cell vectors as rows",
        numbers(ANY, (1, 2), "D edge lengths or a D × D matrix"),
        None,
        "length",
        "that of the file, or a cube that fits `density.number` and `density.number_density`",
    )


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
OWN_KEYS = {"tail", "share", "file", "bonds", "bond_cutoff", *STATE_KEYS}.union(*PAIR_KEYS.values())


@dataclass(frozen=True, kw_only=True)
class PotentialTable(Table):
    """[potential]"""

    NAME: ClassVar[str] = "potential"
    kind: str = key("potential", choice(*PAIR_KEYS, "stillinger_weber", "two_state_fluid", "bonds"), "lennard_jones")
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
        "parameter file of `stillinger_weber` in the format of LAMMPS; `Si.sw` (metal) comes with the package",
        text, None, auto="`Si.sw`", words=SW_FILES,
    )  # fmt: skip
    base: str = key("φ of `two_state_fluid`, with its parameters", choice(*PAIR_KEYS), "lennard_jones")
    gap: float | None = key("Δ of `two_state_fluid`", ANY, None, "energy", "needed by `two_state_fluid`")
    gaussian_cutoff: float | None = key("range of c and δ", POSITIVE, None, "length", "that of φ")
    bonds: tuple[tuple[float, ...], ...] = key(
        "harmonic bonds ½ k (r − r₀)² as [i, j, k, r₀] with particles from 0; `kind = \"bonds\"` has nothing else",
        several(numbers(ANY, (1,), "a list of bonds [i, j, k, r₀]"), "a list of bonds [i, j, k, r₀]"), (),
    )  # fmt: skip
    bond_cutoff: float | None = key(
        "a length that no bond reaches", POSITIVE, None, "length", "`cutoff`, else infinite"
    )
    coupling: CouplingTable = sub(CouplingTable, "c(r) of `two_state_fluid`")
    shift: ShiftTable = sub(ShiftTable, "δ(r) of `two_state_fluid`")
    external: ExternalTable = sub(ExternalTable, "external potential")

    def unused(self):
        """Keys of other kinds."""
        used = {
            **PAIR_KEYS,
            "lennard_jones": PAIR_KEYS["lennard_jones"] | {"tail"},
            "stillinger_weber": {"share", "file"},
            "two_state_fluid": STATE_KEYS | PAIR_KEYS[self.base],
            "bonds": set(),
        }
        bonds = {"bonds", "bond_cutoff"} if self.kind != "two_state_fluid" else set()
        return OWN_KEYS - used[self.kind] - bonds

    def needed(self):
        """Keys that the kind, or the base, cannot do without."""
        own = {"two_state_fluid": {"gap"}, "bonds": {"bonds"}}.get(self.kind, set())
        pair = self.base if self.kind == "two_state_fluid" else self.kind
        return own | (PAIR_KEYS["morse"] - {"truncation"} if pair == "morse" else set())


@dataclass(frozen=True, kw_only=True)
class SurfacesTable(Table):
    """[surfaces]"""

    NAME: ClassVar[str] = "surfaces"
    correction: str = key("surface λ_k (`none`) or λ̄_k with κ = ¼ or ½", choice("paper", "none", "dboc"), "paper")


@dataclass(frozen=True, kw_only=True)
class SplitTable(Table):
    """[split]"""

    NAME: ClassVar[str] = "split"
    kind: str = key("pair split of the gradient", choice("energy", "distance", "min_norm"), "energy")


@dataclass(frozen=True, kw_only=True)
class MollifierTable(Table):
    """[mollifier]"""

    NAME: ClassVar[str] = "mollifier"
    kind: str = key(
        "shape of η", choice("polynomial", "bump", "trapezoid", "cubic", "separable", "fourier"), default="polynomial"
    )
    epsilon: float = key("ε: η vanishes beyond it; of `fourier` the width of a Gaussian", NOT_NEGATIVE, unit="length")
    exponent: int = key("q of `polynomial` and `separable`, (1 − r²/ε²)^q", whole(1, 12), 2)
    nodes: int = key("Gauss nodes on a bond, of `bump`", whole(1, 200), 48)
    modes: int = key("largest mode number of `fourier`", whole(0), 4)

    def unused(self):
        """Keys of other kinds."""
        used = {"polynomial": "exponent", "separable": "exponent", "bump": "nodes", "fourier": "modes"}
        return {"exponent", "nodes", "modes"} - {used.get(self.kind)}


@dataclass(frozen=True, kw_only=True)
class GridTable(Table):
    """[grid]"""

    NAME: ClassVar[str] = "grid"
    profile: int = key("points of a profile: η along one axis, averaged over the others; 0 for none", whole(0), 0)
    axis: str | None = key("axis (cell vector) of the profile", choice(*AXES), None, auto="the last axis")
    area: float | None = key(
        "area that a profile in free space averages over", POSITIVE, None, "lengthᴰ⁻¹", "needed there for D > 1"
    )
    shape: tuple[int, ...] = key(
        "points of a regular grid along each cell vector, centres of equal boxes; [] for none",
        several(whole(1), "a list of whole numbers"), (),
    )  # fmt: skip
    lower: tuple[float, ...] | None = key(
        "lower corner of profile and grid in free space", VECTOR, None, "length", "needed there"
    )
    upper: tuple[float, ...] | None = key("upper corner, likewise", VECTOR, None, "length", "needed there")
    points: str | None = key("text file of points, D numbers a line", text, None, auto="none", words=())


@dataclass(frozen=True, kw_only=True)
class DensityTable(Table):
    """[density]"""

    NAME: ClassVar[str] = "density"
    kind: str = key(
        "`canonical`: the global canonical density of all surfaces; `given`: the phase points of the start file",
        choice("canonical", "given"),
        "canonical",
    )
    temperature: float | None = key("temperature T", POSITIVE, None, "temperature", "needed by `canonical`")
    samples: int = key("independent chains, one sample each", whole(1), 32)
    burn_in: int = key("sampling steps of each chain before its sample", whole(0), 200)
    sampler: str = key("exact proposals, or Langevin steps with a small bias", choice("hmc", "langevin"), "hmc")
    step: float | None = key("time step; `hmc` adapts it", POSITIVE, None, "time", "`dynamics.step`")
    leapfrog: int = key("steps of one proposal of `hmc`", whole(1), 10)
    friction: float = key("friction of `langevin`", NOT_NEGATIVE, 1.0, "1/time")
    start: str = key(
        "`lattice`, `random`, or a file: its last frame (all of them for `given`)", text, "lattice",
        words=("lattice", "random"),
    )  # fmt: skip
    number: int | None = key("particles", whole(1), None, auto="from `number_density` and `space.cell`, or the file")
    number_density: float | None = key(
        "particles per volume", POSITIVE, None, "1/lengthᴰ", "from `number` and `space.cell`"
    )
    composition: Mapping[str, float] | None = key(
        "fraction of each species, summing to 1", by_name(NOT_NEGATIVE), None, auto="equal fractions"
    )
    seed: int = key("of all random numbers", whole(0), 0)


@dataclass(frozen=True, kw_only=True)
class DynamicsTable(Table):
    """[dynamics]"""

    NAME: ClassVar[str] = "dynamics"
    integrator: str = key(
        "second order, fourth order, or Langevin", choice("velocity_verlet", "forest_ruth", "baoab"), "velocity_verlet"
    )
    step: float | None = key("time step", POSITIVE, None, "time", "0.005 (`lj`), 0.001 (`metal`), 10 (`atomic`)")
    steps: int = key("time steps after t = 0", whole(0), 0)
    every: int | None = key(
        "steps between two frames", whole(1), None, auto="`steps`/2, so 3 frames; for `time` averages 10"
    )
    friction: float = key("friction of `baoab`", NOT_NEGATIVE, 1.0, "1/time")
    average: str = key("fields of each frame, or averaged over the frames too", choice("ensemble", "time"), "ensemble")
    neighbours: str = key("neighbour list, or all pairs", choice("auto", "dense", "list"), "auto")
    skin: float | None = key("extra range of the list", POSITIVE, None, "length", "0.3 of the cutoff")

    def interval(self) -> int:
        """Steps between two frames: `every`, or its default."""
        default = 10 if self.average == "time" else max(1, self.steps // 2)
        return default if self.every is None else self.every


@dataclass(frozen=True, kw_only=True)
class OutputTable(Table):
    """[output]"""

    NAME: ClassVar[str] = "output"
    residual_points: int = key("points y of the balance check, per frame and grid", whole(1), 16)
    dtype: str = key("precision", choice("float64", "float32"), "float64")
    keep: tuple[str, ...] = key("what to keep beside the fields", several(choice("positions"), "a list of names"), ())
