"""The tables of the configuration, as frozen dataclasses: every key with its unit, default and documentation.

That of the potential is in `potential`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxmd_iz.checks import must
from jaxmd_iz.config.rules import (
    ANY,
    AXES,
    NOT_NEGATIVE,
    POSITIVE,
    VECTOR,
    Table,
    by_name,
    choice,
    flag,
    key,
    number,
    numbers,
    several,
    text,
    whole,
)


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
class SurfacesTable(Table):
    """[surfaces]"""

    NAME: ClassVar[str] = "surfaces"
    correction: str = key("surface λ_k (`none`) or λ̄_k with κ = ¼ or ½", choice("paper", "none", "dboc"), "paper")
    iterations: int = key("iterations of the nonlinear eigenproblem (5.3)", whole(1, 4), 1)
    partition: str = key(
        "Vⁿ as in (2.8), or its diagonal (2.11) in the adiabatic basis", choice("full", "diagonal"), "full"
    )


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
        "`canonical`: the global canonical density of all surfaces; `local`: the local one that has the fields of "
        "[macroscopic]; `given`: the phase points of the start file",
        choice("canonical", "local", "given"),
        "canonical",
    )
    temperature: float | None = key(
        "temperature T; of `local` that of V_b", POSITIVE, None, "temperature", "needed by `canonical` and `local`"
    )
    samples: int = key("independent chains, one sample each", whole(1), 32)
    burn_in: int = key("sampling steps of each chain before its sample", whole(0), 200)
    sampler: str = key(
        "exact proposals, or Langevin steps with a small bias", choice("hmc", "nuts", "mala", "langevin"), "hmc"
    )
    states: str = key(
        "every surface from samples of all states together, or each from samples of its own",
        choice("together", "apart"), "together",
    )  # fmt: skip
    mass: str = key(
        "of proposals: that of the particles, or adapted to the width of each coordinate", choice("given", "adapted"),
        "given",
    )  # fmt: skip
    rungs: int = key("temperatures of a replica exchange; 1 for none", whole(1), 1)
    hottest: float = key("highest temperature of the exchange over the lowest", number(least=1.0), 4.0)
    poor: str = key("what to do when the sampling is poor: say so, or stop", choice("flag", "stop"), "flag")
    step: float | None = key("time step; all but `langevin` adapt it", POSITIVE, None, "time", "`dynamics.step`")
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
    positions: tuple[tuple[float, ...], ...] = key(
        "where each particle starts, in place of `start`: rows of D numbers",
        several(VECTOR, "a list of rows of numbers"), (), "length",
    )  # fmt: skip
    names: tuple[str, ...] = key(
        "species of each particle of `positions`", several(text, "a list of names"), (), auto="all of one species"
    )
    composition: Mapping[str, float] | None = key(
        "fraction of each species, summing to 1", by_name(NOT_NEGATIVE), None, auto="equal fractions"
    )
    seed: int = key("of all random numbers", whole(0), 0)
    pieces: int | None = key(
        "parts into which samples are cut for devices; the same bits for the same number, on any number of devices",
        whole(1), None, auto="the number of devices at the start",
    )  # fmt: skip


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
    vtk: bool = key("fields for ParaView too: `.vti`, `.vts`, `.vtp`, or `.pvd` of several times", flag, False)


@dataclass(frozen=True, kw_only=True)
class WatchTable(Table):
    """[watch]"""

    NAME: ClassVar[str] = "watch"
    action: str = key(
        "what to do when numbers are none, energy drifts or atoms are lost: say so, or stop", choice("flag", "stop"),
        "flag",
    )  # fmt: skip
    energy_drift: float = key(
        "change of a trajectory's energy that is too much, in units of its largest kinetic energy", POSITIVE, 0.1
    )
    distance: float | None = key(
        "from the centre of mass beyond which an atom is lost, in free space", POSITIVE, None, "length",
        "ten times the largest one at t = 0",
    )  # fmt: skip


_NUMBERS = several(POSITIVE, "a list of numbers above 0")
_OBSERVABLES = ("x", "x2", "population", "x_x", "rho", "momentum", "E", "sigma", "q")
_OBSERVABLES = (*_OBSERVABLES, "x4", "energy", "gaussian", "density")  # the last four of `jahn_teller` alone


@dataclass(frozen=True, kw_only=True)
class LimitTable(Table):
    """[limit], read by the command `limit` alone"""

    NAME: ClassVar[str] = "limit"
    masses: tuple[float, ...] = key("M of the first particle; ħ = M^{−1/2}", _NUMBERS, (10.0, 30.0, 100.0, 300.0))
    temperatures: tuple[float, ...] = key("temperatures T", _NUMBERS, (1.0,), "temperature")
    times: tuple[float, ...] = key("times τ = M^{−1/2}t", several(NOT_NEGATIVE, "a list of numbers"), (0.0,))
    corrections: tuple[str, ...] = key(
        "classical sides", several(choice("none", "paper", "dboc", "second_order", "ground", "mean_field"), "a list"),
        ("none", "paper", "dboc", "second_order"),
    )  # fmt: skip
    observables: tuple[str, ...] = key(
        "what is compared: averages, the correlation `x_x`, fields; the last four of `jahn_teller` alone",
        several(choice(*_OBSERVABLES), "a list"), ("x", "x2"),
    )  # fmt: skip
    push: tuple[float, ...] = key(
        "force on every particle before τ = 0, from whose Gibbs density fields start",
        several(ANY, "a list of D numbers"), (), "energy/length",
    )  # fmt: skip
    squeeze: float = key("stiffness of a trap around 0 before τ = 0, likewise", NOT_NEGATIVE, 0.0, "energy/length²")
    surfaces: tuple[int, ...] = key(
        "numbers of lowest surfaces on the classical side; [] for all", several(whole(1), "a list of whole numbers"), ()
    )
    tolerance: float = key("relative weight of what is left out", POSITIVE, 1e-11)
    step: float = key("step of the trajectories in τ", POSITIVE, 0.025)
    points: tuple[int, ...] = key(
        "quadrature points a coordinate in x and in p", several(whole(3), "a list of two whole numbers"), (),
        auto="`[161, 81]`, or `[41, 21]` for two coordinates",
    )  # fmt: skip

    def __post_init__(self):
        Table.__post_init__(self)
        for name in ("masses", "temperatures", "times", "corrections", "observables"):
            must(len(getattr(self, name)) > 0, f"limit.{name}", "hold at least one entry", "it is empty")
        must(self.tolerance < 0.1, "limit.tolerance", "be below 0.1", f"it is {self.tolerance:g}")
        must(len(self.points) in (0, 2), "limit.points", "be a list of two whole numbers", f"it is {self.points}")
