"""The classical limit through a conical intersection: E×e Jahn–Teller, V = ½ρ² I + k[[x, y],[y, −x]] (section 11).

Both sides in the scaling of section 5: exact quantum mechanics by `quantum.angular`, canonical averages of the
classical side as integrals over ρ, correlations by `conical_paths`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxmd_iz.checks import must, one_of
from jaxmd_iz.limit.classical import CORRECTIONS
from jaxmd_iz.limit.conical_paths import advance, correlation, farthest, levels, start
from jaxmd_iz.nonlinear import KAPPA
from jaxmd_iz.quantum.angular import AngularBlocks
from jaxmd_iz.quantum.panels import panels

#: What can be asked for, with its meaning.
OBSERVABLES = {
    "x2": "⟨ρ²⟩",
    "x4": "⟨ρ⁴⟩",
    "energy": "⟨H⟩ = −∂_β log Z",
    "gaussian": "⟨e^{−ρ²/w²}⟩",
    "density": "density n(0) at the intersection, in particles per area",
    "x_x": "⟨x(τ)·x(0)⟩",
}
STATICS = ("x2", "x4", "energy", "gaussian", "density")
NODES = 24  # of a Gauss–Legendre panel


def second_order_weight(rho: Float[np.ndarray, " R"], mass: float, beta, coupling: float = 1.0):
    """w(ρ) of section 2: ΔV = 2I, A_jj = ρ ± k along the radius, A_jk = k across it; no gap is divided by.

    Args:
        rho: ρ ≥ 0.
        mass: M.
        beta: β = 1/T; may be complex, for derivatives.
        coupling: k.
    """
    k = coupling
    below, above = np.exp(-beta * levels(np.maximum(rho, 1e-300), k))
    y = beta * k * rho
    small = np.where(np.abs(y) < 0.5, y, 0.5)
    large = np.where(np.abs(y) < 0.5, 0.5, y)
    # (sinh y/y − cosh y)/(4y²) + sinh y/(6y) = Σ_m y^{2m} [1/(6 (2m + 1)!) − (m + 1)/(2 (2m + 3)!)]
    series = sum(
        small ** (2 * m) * (1 / (6 * math.factorial(2 * m + 1)) - (m + 1) / (2 * math.factorial(2 * m + 3)))
        for m in range(9)
    )
    middle = np.exp(-beta * rho**2 / 2)
    sinh, cosh = (above - below) / -2, (above + below) / 2  # times e^{−βρ²/2}
    whole = (sinh / large - cosh) / (4 * large**2) + sinh / (6 * large)
    mixed = np.where(np.abs(y) < 0.5, middle * series, whole)
    each = [
        e * (1 + (-(beta**2) / 6 + beta**3 * (rho + sign * k) ** 2 / 24) / mass)
        for e, sign in ((below, -1.0), (above, 1.0))
    ]
    return each[0] + each[1] + k**2 * beta**3 * mixed / mass


def _radial(mass: float, temperature: float, coupling: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights in ρ, fine where any of the weights varies."""
    t = temperature
    first = 0.02 * min(math.sqrt(t), t / max(coupling, 1e-3), 1 / math.sqrt(mass * t))
    return panels(first, farthest(t, coupling, 1e-16), 2 * math.sqrt(t), NODES)


def statics(
    mass: float, temperature: float, correction: str, coupling: float = 1.0, width: float = 1.0
) -> dict[str, float]:
    """Canonical averages by quadrature over ρ.

    Args:
        mass: M.
        temperature: T > 0, an energy.
        correction: one of `classical.CORRECTIONS`; `mean_field` is `none` here.
        coupling: k.
        width: w of `gaussian`.

    Returns:
        The values of `STATICS`. The density at 0 is 0 for `paper` and `dboc`, whose surfaces rise to infinity there.
    """
    one_of(correction, "correction", CORRECTIONS)
    t, k = temperature, coupling
    kappa = KAPPA.get(correction, 0.0)
    rho, share = _radial(mass, t, k)

    def weight(r, beta):
        shift = np.exp(-beta * k**2 / 2)  # of the lowest energy, −½k²
        if correction == "second_order":
            return shift * second_order_weight(r, mass, beta, k)
        each = np.exp(-beta * levels(r, k, kappa / mass))
        return shift * (each[0] if correction == "ground" else each[0] + each[1])

    beta = 1 / t
    area = 2 * math.pi * rho * share
    density = weight(rho, beta) * area
    z = np.sum(density)
    # ⟨H⟩ − T = −∂_β log ∫w: by a complex step, exact to rounding
    slope = np.sum(weight(rho, beta + 1e-20j) * area).imag / 1e-20
    tip = 0.0 if kappa else float(weight(np.array([1e-300]), beta)[0] / z)
    return {
        "x2": float(np.sum(density * rho**2) / z),
        "x4": float(np.sum(density * rho**4) / z),
        "energy": float(t - slope / z - k**2 / 2),
        "gaussian": float(np.sum(density * np.exp(-((rho / width) ** 2))) / z),
        "density": tip,
    }


def probabilities(mass: float, temperature: float, correction: str = "none", coupling: float = 1.0) -> np.ndarray:
    """q_j* of (5.18), the lower surface first.

    Args:
        mass, temperature, correction, coupling: as in `statics`; `none`, `paper` or `dboc`.
    """
    t = temperature
    one_of(correction, "correction", KAPPA)
    rho, share = _radial(mass, t, coupling)
    each = np.exp(-(levels(rho, coupling, KAPPA[correction] / mass) + coupling**2 / 2) / t) @ (rho * share)
    return each / each.sum()


def rows(
    masses: Sequence[float] = (30.0, 100.0, 300.0, 1000.0),
    temperatures: Sequence[float] = (0.1, 0.3, 1.0),
    times: Sequence[float] = (0.0,),
    corrections: Sequence[str] = ("none", "paper", "dboc", "second_order"),
    observables: Sequence[str] = STATICS,
    coupling: float = 1.0,
    width: float = 1.0,
    progress: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Errors of molecular dynamics against exact quantum mechanics at a conical intersection.

    Args:
        masses: M.
        temperatures: T > 0, energies; the Jahn–Teller energy is ½k².
        times: τ ≥ 0, for `x_x`.
        corrections: names of `classical.CORRECTIONS`. `second_order` has no dynamics and no rows of `x_x`.
        observables: names of `OBSERVABLES`.
        coupling: k.
        width: w of `gaussian`.
        progress: is told what is being done.

    Returns:
        Rows with `model`, `observable`, `T`, `tau`, `M`, `correction`, `error` (of absolute size), `exact` and
        `classical`; those of `STATICS` have τ = 0.

    Raises:
        InputError: names that are not known, empty lists, numbers out of range.
    """
    masses, temperatures = [float(m) for m in masses], [float(t) for t in temperatures]
    times, coupling = sorted({float(tau) for tau in times}), float(coupling)
    lists = {"masses": masses, "temperatures": temperatures, "times": times}
    for name, values in (lists | {"corrections": corrections, "observables": observables}).items():
        must(len(values) > 0, name, "not be empty", "it is")
    for name, values in lists.items():
        least = 0.0 if name == "times" else math.ulp(0.0)
        good = all(math.isfinite(v) for v in values) and min(values) >= least
        must(good, name, f"be {'0 or more' if name == 'times' else 'positive'}", f"they are {values}")
    for name in observables:
        one_of(name, "observables", OBSERVABLES)
    for name in corrections:
        one_of(name, "corrections", CORRECTIONS)
    fixed = [name for name in observables if name in STATICS]
    exact: dict[tuple, float] = {}
    for mass in masses:
        progress(f"exact, M = {mass:g}")
        blocks = AngularBlocks(mass, coupling)
        if fixed:
            functions = {"gaussian": lambda r: np.exp(-((r / width) ** 2))}
            got = blocks.thermal(temperatures, [0.0], functions if "gaussian" in fixed else None)
            named = {"x2": got.rho2, "x4": got.rho4, "energy": got.energy, "density": got.density[:, 0]} | got.mean
            exact |= {(n, mass, t, 0.0): float(named[n][i]) for n in fixed for i, t in enumerate(temperatures)}
        if "x_x" in observables:
            table = blocks.correlation(temperatures, times)
            each = [(i, j) for i in range(len(temperatures)) for j in range(len(times))]
            exact |= {("x_x", mass, temperatures[i], times[j]): float(table[i, j]) for i, j in each}
    found = []
    for correction in corrections:
        for t in temperatures:
            progress(f"{correction}, T = {t:g}")
            moves = "x_x" in observables and correction != "second_order"
            moved: list[tuple[float, float]] = []
            for mass in masses:
                if moves and (not moved or KAPPA.get(correction)):  # without κ nothing depends on M
                    moved = list(_correlations(mass, t, correction, times, coupling))
                still = statics(mass, t, correction, coupling, width)
                at = [(name, 0.0, still[name]) for name in fixed] + [("x_x", tau, c) for tau, c in moved]
                for name, tau, value in at:
                    true = exact[name, mass, t, tau]
                    about = {"model": "jahn_teller", "observable": name, "T": t, "tau": tau, "M": mass}
                    about |= {"correction": correction, "error": abs(value - true)}
                    found.append(about | {"exact": true, "classical": value})
    return found


def _correlations(
    mass: float, t: float, correction: str, times: Sequence[float], coupling: float
) -> Iterator[tuple[float, float]]:
    """(τ, ⟨x(τ)·x(0)⟩) for times in ascending order."""
    points, now = start(mass, t, correction, coupling), 0.0
    beta = 1 / t if correction == "mean_field" else None
    for tau in times:
        points, now = advance(points, tau - now, beta), tau
        yield tau, correlation(points)
