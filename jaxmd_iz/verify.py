"""Residuals of the conservation laws over a covering set of options: what `jaxmd-iz verify` runs.

Options are potential × correction × split × mollifier × space × D; the default set holds every admissible pair once,
`full` is the product. Cases have unequal masses, V_b in free space, and a sum over all surfaces with weights.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxmd_iz.balance import balance_terms, relative_residual
from jaxmd_iz.checks import InputError
from jaxmd_iz.mollifiers import AbstractMollifier, Bump, Cubic, Polynomial, Trapezoid
from jaxmd_iz.nonlinear import KAPPA
from jaxmd_iz.pair_split import SPLITS
from jaxmd_iz.potentials.adiabatic import DiagonalPartition, Lowest
from jaxmd_iz.potentials.avoided import Tully1
from jaxmd_iz.potentials.base import AbstractPotential, FromFunction
from jaxmd_iz.potentials.conical import LepsH3
from jaxmd_iz.potentials.diabatic import Gaussian, TwoStateFluid
from jaxmd_iz.potentials.electrons import Electrons
from jaxmd_iz.potentials.exciton import ExcitonFluid
from jaxmd_iz.potentials.external import HarmonicTrap
from jaxmd_iz.potentials.many_body import StillingerWeber
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.potentials.shin_metiu import ShinMetiu
from jaxmd_iz.potentials.vibronic import JahnTeller
from jaxmd_iz.space import AbstractSpace, Free, Periodic
from jaxmd_iz.system import System
from jaxmd_iz.windows import Fourier, Separable, slab

LAWS = ("mass", "momentum", "energy")
BOUND = 1e-12  # exact bond integrals in float64: rounding of sums of some hundred terms
BUMP_BOUND = 1e-6  # 48 Gauss nodes on a C^∞ bump: 3e-8 of the peak for each bond
PARTICLES = 5
EDGE = 4.2


class Case(NamedTuple):
    """One choice of every option, by name."""

    potential: str
    correction: str
    split: str
    mollifier: str
    space: str
    dimensions: int

    @property
    def name(self) -> str:
        """The options joined by slashes."""
        return "/".join(map(str, self))


def _harmonic_trio(x):
    """Three states with x-dependent, translation-invariant couplings, complex Hermitian; a user's function."""
    n = x.shape[0]
    d = x[:, None, :] - x[None, :, :]
    r2 = jnp.sum(d**2, axis=-1)
    far = jnp.exp(-r2 / 4) * (1.0 - jnp.eye(n, dtype=x.dtype))
    rest = jnp.ones_like(r2) - jnp.eye(n, dtype=x.dtype)
    base = jnp.sum(rest * jnp.sqrt(r2 + 1.0), axis=1) / n
    mix = jnp.sum(far, axis=1) / n
    twist = jnp.sum(far * jnp.exp(-r2 / 9), axis=1) / n
    real = jnp.stack(
        [
            jnp.stack([base, mix, 0.3 * twist], -1),
            jnp.stack([mix, base + 0.7 / n + 0.2 * twist, 0.5 * mix], -1),
            jnp.stack([0.3 * twist, 0.5 * mix, base + 1.9 / n], -1),
        ],
        -2,
    )
    imaginary = jnp.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]], x.dtype)
    return jax.lax.complex(real, 0.4 * twist[:, None, None] * imaginary[None])


def _anchored(x):
    """Two states that know where the origin is: gⁿ ≠ 0, so only the split `energy` applies."""
    n = x.shape[0]
    square = jnp.sum(x**2, axis=1)
    slope = jnp.sum(jnp.sin(x), axis=1)
    r2 = jnp.sum((x[:, None, :] - x[None, :, :]) ** 2, axis=-1)
    pairs = jnp.sum(jnp.exp(-r2 / 3), axis=1) / 2
    first = jnp.stack([0.1 * square + pairs, 0.2 * slope / n + 0.1 / n], -1)
    second = jnp.stack([0.2 * slope / n + 0.1 / n, 0.1 * square + 0.5 * pairs + 0.8 / n], -1)
    return jnp.stack([first, second], -2)


def _silicon_like(share: str) -> StillingerWeber:
    return StillingerWeber(1.0, 1.0, 1.8, 21.0, 1.2, -1 / 3, 7.05, 0.602, 4.0, 0.0, share)


def _lennard_jones() -> LennardJones:
    return LennardJones(1.0, 0.9, cutoff=2.05, truncation="force_shift")


def _excitons() -> ExcitonFluid:
    return ExcitonFluid(_lennard_jones(), Gaussian(-0.5, 0.6, 1.0), 0.8, PARTICLES, Gaussian(0.4, 0.7, 0.9))


MOLLIFIERS = ("polynomial", "trapezoid", "cubic", "separable", "bump", "fourier", "slab_cubic")
FEW = ("polynomial", "trapezoid", "slab_cubic")


class Kind(NamedTuple):
    """A potential, where it lives, and what looks at it: `FEW` where surfaces take long to compile or have no bonds."""

    make: Callable[[], AbstractPotential]
    states: int = 1
    particles: int = PARTICLES
    spaces: tuple[str, ...] = ("free", "box", "triclinic")
    dimensions: tuple[int, ...] = (1, 2, 3)
    mollifiers: tuple[str, ...] = MOLLIFIERS


POTENTIALS: dict[str, Kind] = {
    "lennard_jones": Kind(_lennard_jones),
    "stillinger_weber": Kind(lambda: _silicon_like("central")),
    "stillinger_weber_thirds": Kind(lambda: _silicon_like("thirds")),
    "two_state_fluid": Kind(
        lambda: TwoStateFluid(_lennard_jones(), Gaussian(0.8, 0.6, 1.0), Gaussian(0.5, 0.8, 0.9), 0.9, PARTICLES), 2
    ),
    "exciton_fluid": Kind(_excitons, PARTICLES),
    "two_lowest_excitons": Kind(lambda: Lowest(_excitons(), 2), 2, mollifiers=FEW),
    # functions that are not periodic
    "three_states_function": Kind(
        lambda: FromFunction(_harmonic_trio, states=3, invariant=True, complex=True), 3, spaces=("free",)
    ),
    "three_states_diagonal": Kind(
        lambda: DiagonalPartition(FromFunction(_harmonic_trio, states=3, invariant=True, complex=True)),
        3,
        spaces=("free",),
        mollifiers=FEW,
    ),
    "two_states_anchored": Kind(lambda: FromFunction(_anchored, states=2), 2, spaces=("free",)),
    "leps_h3": Kind(lambda: LepsH3(1.0, 1.2, 1.0, 0.1), 2, 3, ("free",)),
    "electrons_h3": Kind(lambda: Lowest(Electrons((1, 1, 1)), 2), 2, 3, ("free",), (3,), FEW),
    "jahn_teller": Kind(JahnTeller, 2, 1, ("free",), (2,), FEW),
    "tully_1": Kind(Tully1, 2, 1, ("free",), (1,), FEW),
    "two_lowest_of_shin_metiu": Kind(lambda: Lowest(ShinMetiu(points=24, extent=12.0), 2), 2, 1, ("free",), (1,), FEW),
}


def _mollifier(name: str, space: AbstractSpace) -> AbstractMollifier:
    dim = space.dimensions
    balls = {"polynomial": Polynomial, "bump": Bump, "trapezoid": Trapezoid, "cubic": Cubic, "separable": Separable}
    if name == "fourier":
        assert isinstance(space, Periodic)
        return Fourier(space.cell, 0.5, 2 if dim == 3 else 3)
    if name.startswith("slab_"):
        kind = balls[name.removeprefix("slab_")]
        return slab(kind(1.3, 1), space, dim - 1, None if isinstance(space, Periodic) else 5.0)
    return balls[name](1.7, dim)


SPACES = ("free", "box", "triclinic")


def _space(name: str, dim: int) -> AbstractSpace:
    if name == "free":
        return Free(dim)
    if name == "box":
        return Periodic([EDGE + 0.2 * i for i in range(dim)])
    tilt = np.diag([EDGE + 0.4] * dim)
    if dim > 1:
        tilt[1, 0] = 0.9
    if dim > 2:
        tilt[2, :2] = (-0.6, 0.5)
    return Periodic(tilt)


def _build(case: Case) -> System:
    """The system of a case; raises InputError for combinations that do not hold."""
    space = _space(case.space, case.dimensions)
    kind = POTENTIALS[case.potential]
    potential = kind.make()
    masses = jnp.linspace(1.0, 6.0, kind.particles)
    external = HarmonicTrap(0.3, jnp.full(case.dimensions, 1.0)) if case.space == "free" else None
    return System(potential, space, masses, None, external, case.correction, case.split)


def admissible(case: Case) -> bool:
    """Whether the combination exists: refused ones are tested as refusals, not as laws."""
    kind = POTENTIALS[case.potential]
    if case.space not in kind.spaces or case.dimensions not in kind.dimensions or case.mollifier not in kind.mollifiers:
        return False
    if case.mollifier == "fourier" and case.space == "free":
        return False
    if case.dimensions == 1 and (case.space == "triclinic" or case.mollifier.startswith("slab")):
        return False
    if kind.states == 1 and case.correction != "none":
        return False  # the correction vanishes for one state
    if case.split == "min_norm" and case.space != "free" and (kind.states > 1 or "stillinger" in case.potential):
        return False  # few particles: the rank of A is below nD − D; tested as a refusal
    try:
        _build(case)
    except InputError:
        return False
    return True


def product() -> list[Case]:
    """Every admissible case."""
    options = (POTENTIALS, KAPPA, SPLITS, MOLLIFIERS, SPACES, (1, 2, 3))
    return [c for c in itertools.starmap(Case, itertools.product(*options)) if admissible(c)]


def _pairs(case: Sequence) -> set:
    return set(itertools.combinations(enumerate(case), 2))


def covering(cases: Sequence[Case], least: int = 20) -> list[Case]:
    """A small set that holds every pair of options that the cases hold; greedy, the same every time."""
    missing = set().union(*(_pairs(c) for c in cases))
    chosen: list[Case] = []
    while missing:
        best = max(cases, key=lambda c: len(_pairs(c) & missing))
        chosen.append(best)
        missing -= _pairs(best)
    extra = (c for c in cases if c not in set(chosen))
    return chosen + list(itertools.islice(extra, max(0, least - len(chosen))))


def phase_point(case: Case):
    """Positions without close pairs, momenta and field points, the same for the same case."""
    rng = np.random.default_rng(sum(map(ord, case.name)))
    dim = case.dimensions
    n = POTENTIALS[case.potential].particles
    x = np.zeros((n, dim))
    if n == 1:
        x[0] = rng.uniform(0.5, 1.0, dim)
    elif dim == 1:
        x[:, 0] = 0.85 * np.arange(n) + rng.uniform(-0.05, 0.05, n)
    else:
        done = 0
        while done < n:  # distances of 0.75 at least: no term dwarfs the others
            trial = rng.uniform(0.0, 2.3 if dim == 3 else 3.0, dim)
            if done == 0 or np.linalg.norm(x[:done] - trial, axis=1).min() > 0.75:
                x[done], done = trial, done + 1
    p = rng.normal(size=x.shape) * 1.5
    p = p + np.copysign(0.8, p)  # never at rest, and field points beside particles: every law has something to balance
    y = x[np.arange(6) % n] + rng.uniform(-1.2, 1.2, (6, dim))
    return jnp.asarray(x), jnp.asarray(p), jnp.asarray(y)


def _residual(system, y, x, p, mollifier):
    arrays, rest = eqx.partition((system, mollifier), eqx.is_array)

    def mixed(arrays, y, x, p):
        system, mollifier = eqx.combine(arrays, rest)
        w = jnp.sum(p, axis=0) / jnp.sum(system.masses)
        weights = jax.nn.softmax(-system.levels(x))

        def surface_terms(k):
            return balance_terms(system, y, x, p, k, w, mollifier)

        terms = jax.vmap(surface_terms)(jnp.arange(system.states))
        return relative_residual(jax.tree.map(lambda t: jnp.tensordot(weights, t, 1), terms))

    # every case is compiled once and run once: compile fast
    quick = {"xla_backend_optimization_level": 0}
    return jax.jit(mixed, compiler_options=quick)(arrays, y, x, p)


def check(case: Case) -> list[dict]:
    """The residuals of one case: a row {"case", "law", "residual", "scale", "bound"} for each law."""
    system = _build(case)
    x, p, y = phase_point(case)
    r = _residual(system, y, x, p, _mollifier(case.mollifier, system.space))
    bound = BUMP_BOUND if case.mollifier == "bump" else BOUND
    values = (r.mass, r.momentum, r.energy)
    return [
        {"case": case.name, "law": law, "residual": float(v), "scale": float(s), "bound": bound}
        for law, v, s in zip(LAWS, values, r.scale, strict=True)
    ]


def chosen_cases(full: bool = False) -> list[Case]:
    """The covering set, or the whole product."""
    cases = product()
    return cases if full else covering(cases)


def verify(full: bool = False) -> Iterator[list[dict]]:
    """Rows of every case in turn.

    Args:
        full: the whole product instead of the covering set.

    Raises:
        InputError: JAX is not in double precision.
    """
    if jnp.asarray(1.0).dtype != jnp.float64:
        raise InputError("Argument `jax_enable_x64` must be True to verify laws to rounding, but it is False.")
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # nearly all of the time is compilation
        yield from pool.map(check, chosen_cases(full))
