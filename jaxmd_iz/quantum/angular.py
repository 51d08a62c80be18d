"""Exact quantum mechanics at a conical intersection: E×e Jahn–Teller by blocks of angular momentum (section 11).

Ĥ = |p̂|²/2 + ½ρ² I + k[[x, y],[y, −x]], ħ = M^{−1/2}. In the electron states |±⟩ = (χ_1 ± iχ_2)/√2 the coupling is
k(x + iy)|−⟩⟨+| + h.c., so that j = l + ½ is conserved, l the angular momentum/ħ of the component +. With n_± quanta of
circular oscillation, l = n_+ − n_− and x + iy = √ħ(a_− + a_+†), the block of j > 0 is a chain

    i even: |+; n_+ = l + i/2, n_− = i/2⟩,    i odd: |−; n_+ = l + (i + 1)/2, n_− = (i − 1)/2⟩

of l + i quanta in which only neighbours couple: a symmetric tridiagonal matrix with the diagonal ħ(l + i + 1) beside
k√ħ times √(l + i/2 + 1) (i even) or √((i + 1)/2) (i odd). Blocks j and −j are mirror images with the same levels.
H. C. Longuet-Higgins, U. Öpik, M. H. L. Pryce, R. A. Sack, Proc. R. Soc. A 244, 1 (1958).

Nothing in a block asks l to be whole: traces over a block are smooth in l, and a sum over thousands of l is one over
less than a hundred interpolation points, to about 1e-11 relative.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float

from jaxmd_iz.checks import must
from jaxmd_iz.quantum.grid import must_fit
from jaxmd_iz.quantum.panels import panels

FIRST = 8  # blocks taken one by one
RATIO, PANEL = 16, 28  # beyond, l grows by at most so much over a panel, which has so many points
NODES = 16  # of a Gauss–Legendre panel of radii


class Thermal(NamedTuple):
    """Tr(A e^{−βĤ})/Tr e^{−βĤ} at several temperatures."""

    energy: Float[np.ndarray, " T"]  # ⟨Ĥ⟩
    rho2: Float[np.ndarray, " T"]  # ⟨ρ²⟩
    rho4: Float[np.ndarray, " T"]  # ⟨ρ⁴⟩
    density: Float[np.ndarray, "T R"]  # n(ρ) at the radii asked for, ∫ n 2πρ dρ = 1
    mean: dict[str, Float[np.ndarray, " T"]]  # of the functions of ρ asked for


class AngularBlocks(eqx.Module):
    """E×e Jahn–Teller at one M, block by block.

    Args:
        mass: M, so that ħ = M^{−1/2}.
        coupling: k ≥ 0; the Jahn–Teller energy is ½k².

    Raises:
        InputError: M that is not positive, k below 0.
    """

    mass: float = eqx.field(static=True, converter=float)
    coupling: float = eqx.field(static=True, converter=float, default=1.0)

    def __check_init__(self):
        must(math.isfinite(self.mass) and self.mass > 0, "mass", "be positive", f"it is {self.mass}")
        must(math.isfinite(self.coupling) and self.coupling >= 0, "coupling", "be 0 or more", f"it is {self.coupling}")

    @property
    def hbar(self) -> float:
        """ħ = M^{−1/2}."""
        return self.mass**-0.5

    def matrix(self, l: float | int, size: int) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n-1"]]:
        """Diagonal and off-diagonal of the block j = l + ½ in the first `size` states of its chain.

        Args:
            l: angular momentum of the component +, 0, 1, …; any number above −1 for interpolation.
            size: n.
        """
        i = np.arange(size)
        square = np.where(i % 2 == 0, l + i / 2 + 1, (i + 1) / 2)
        return self.hbar * (l + i + 1), self.coupling * np.sqrt(self.hbar * square[:-1])

    def quanta(self, energy: float) -> int:
        """Quanta that levels up to an energy need, with the part of the waves beyond the turning point."""
        k, hbar = self.coupling, self.hbar
        # lower edge of the chain: ħN − 2k√(ħN/2) = ½s² − ks with ħN = ½s²
        turn = (k + math.sqrt(max(k**2 + 2 * energy, 0.0))) ** 2 / (2 * hbar)
        beyond = turn + np.arange(0.5, 60 + turn)
        # amplitudes fall by acosh of (distance to the centre)/(half the width) from one state to the next
        ratio = (hbar * beyond - energy) / max(k * math.sqrt(2), 1e-3) / np.sqrt(hbar * beyond)
        decay = np.cumsum(np.arccosh(np.maximum(ratio, 1.0)))
        return int(turn) + 4 + int(np.searchsorted(decay, 9.0))

    def levels(
        self, l: float | int, energy: float, quanta: int | None = None
    ) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, "n K"]]:
        """Levels of a block up to an energy, and eigenvectors in its chain.

        Args:
            l: as in `matrix`.
            energy: the highest level wanted; ∞ for all of the basis.
            quanta: size of the basis, by default what `quanta` says; needed for ∞.

        Raises:
            InputError: more than fits the memory of the machine.
        """
        from scipy.linalg import eigh_tridiagonal

        size = int((self.quanta(energy) if quanta is None else quanta) - l) + 1
        if size < 2:
            return np.zeros(0), np.zeros((0, 0))
        must_fit(24.0 * size**2, "temperature", f"a block of {size} states")
        diagonal, beside = self.matrix(l, size)
        if self.coupling == 0:
            kept = int(np.sum(diagonal <= energy))
            return diagonal[:kept], np.eye(size)[:, :kept]
        lowest = -(self.coupling**2) - 1.0  # Ĥ ≥ min λ_− = −½k²
        if energy <= lowest:
            return np.zeros(0), np.zeros((size, 0))
        window = {} if energy == math.inf else {"select": "v", "select_range": (lowest, energy)}
        e, u = eigh_tridiagonal(diagonal, beside, lapack_driver="stemr", check_finite=False, **window)
        return e, u

    def ground(self) -> float:
        """The lowest level, in the blocks j = ±½."""
        from scipy.linalg import eigh_tridiagonal

        if self.coupling == 0:
            return self.hbar
        matrix = self.matrix(0, self.quanta(2 * self.hbar))
        return float(eigh_tridiagonal(*matrix, eigvals_only=True, select="i", select_range=(0, 0))[0])

    def thermal(
        self,
        temperatures: Sequence[float] | np.ndarray,
        radii: Sequence[float] | np.ndarray = (),
        functions: Mapping[str, Callable[[np.ndarray], np.ndarray]] | None = None,
        tolerance: float = 1e-12,
    ) -> Thermal:
        """Canonical averages of Ĥ, ρ², ρ⁴ and other functions of ρ, and the density, at several T.

        Args:
            temperatures: T > 0, energies.
            radii: where the density is wanted, ρ ≥ 0; 0 is the intersection.
            functions: by name, each a smooth function of an array of ρ.
            tolerance: states of a smaller weight, relative to that of the lowest, are left out.

        Raises:
            InputError: temperatures or radii out of range, more than fits the memory of the machine.
        """
        t, lowest, energy = self._window(temperatures, tolerance)
        r = np.asarray(radii, float)
        must(bool(np.all(np.isfinite(r) & (r >= 0))), "radii", "be 0 or more", f"they are {list(radii)}")
        nodes, share = _radii(self, float(t.min()), energy) if functions else (np.zeros(0), np.zeros(0))
        places = np.concatenate([r, nodes])
        quanta = self.quanta(energy)
        sums = np.zeros((len(t), 4 + len(places)))
        for l, weight in zip(*_over(quanta), strict=True):
            e, u = self.levels(l, energy, quanta)
            if not len(e):
                continue
            values = np.zeros((4 + len(places), len(e)))
            values[0], values[1] = 1.0, e
            for c, m in ((u[0::2], l), (u[1::2], l + 1)):  # amplitudes of one component, of angular momentum m
                moved = self._rho_squared(c, m)
                values[2] += np.sum(c * moved, axis=0)
                values[3] += np.sum(moved**2, axis=0)
                values[4:] += (radial_functions(m, c.shape[0], places, self.hbar).T @ c) ** 2 / (2 * math.pi)
            factor = np.exp(-(e - lowest)[None, :] / t[:, None])
            sums += weight * factor @ values.T
        sums = sums[:, 1:] / sums[:, :1]
        density = sums[:, 3:]
        mean = {
            name: density[:, len(r) :] @ (share * 2 * math.pi * nodes * f(nodes))
            for name, f in (functions or {}).items()
        }
        return Thermal(sums[:, 0], sums[:, 1], sums[:, 2], density[:, : len(r)], mean)

    def correlation(
        self, temperatures: Sequence[float] | np.ndarray, times: Sequence[float] | np.ndarray, tolerance: float = 1e-11
    ) -> Float[np.ndarray, "T times"]:
        """Re Tr(x̂_τ·x̂_0 e^{−βĤ})/Tr e^{−βĤ} with the scalar product of both coordinates.

        z = x + iy takes block j to j + 1: the sum over pairs of levels is Σ ½(f_m + f_n) cos((E_m − E_n)τ/ħ)|⟨n|z|m⟩|².
        n reaches far above the levels m that have a weight (at low T and M), so all states of the basis are paired.

        Args:
            temperatures: T > 0, energies.
            times: τ.
            tolerance: as in `thermal`.

        Raises:
            InputError: as `thermal`.
        """
        t, lowest, energy = self._window(temperatures, tolerance)
        tau = np.asarray(times, float)
        quanta = self.quanta(energy + 4 * self.hbar)
        total, norm = np.zeros((len(t), len(tau))), np.zeros(len(t))

        def pair(one, other, z):
            (e, _), (e2, _) = one, other
            product = z**2
            f, f2 = (np.exp(-(a - lowest)[None, :] / t[:, None]) for a in (e, e2))
            turn, turn2 = (np.exp(1j * np.outer(tau, a - lowest) / self.hbar) for a in (e, e2))
            start = np.einsum("Tm,tm,nm,tn->Tt", f, turn, product, turn2.conj(), optimize=True)
            end = np.einsum("Tn,tn,nm,tm->Tt", f2, turn2.conj(), product, turn, optimize=True)
            return np.real(start + end) / 2

        for l, weight in zip(*_over(quanta), strict=True):
            one, other = self.levels(l, math.inf, quanta), self.levels(l + 1, math.inf, quanta)
            if not len(one[0]):
                continue
            norm += 2 * weight * np.sum(np.exp(-(one[0] - lowest)[None, :] / t[:, None]), axis=1)
            if len(other[0]):
                total += 2 * weight * pair(one, other, self._between(l, one[1], other[1]))
            if l == 0:
                total += pair(one, one, self._across(one[1]))
        return total / norm[:, None]

    def _window(self, temperatures, tolerance: float) -> tuple[np.ndarray, float, float]:
        """T, the lowest level, and the energy above which states have no weight."""
        t = np.asarray(temperatures, float)
        good = t.ndim == 1 and t.size > 0 and bool(np.all(np.isfinite(t) & (t > 0)))
        must(good, "temperatures", "be positive numbers", f"they are {temperatures}")
        must(0 < tolerance < 1, "tolerance", "lie between 0 and 1", f"it is {tolerance}")
        lowest = self.ground()
        return t, lowest, lowest - float(t.max()) * math.log(tolerance)

    def _rho_squared(self, c: np.ndarray, m: float | int) -> np.ndarray:
        """ρ² on amplitudes of one component: tridiagonal, ħ(2n + m + 1) beside ħ√(n(n + m))."""
        n = np.arange(c.shape[0])
        moved = (2 * n + m + 1)[:, None] * c
        beside = np.sqrt(n * (n + m))[1:, None]
        moved[1:] += beside * c[:-1]
        moved[:-1] += beside * c[1:]
        return self.hbar * moved

    def _between(self, l: float | int, u: np.ndarray, up: np.ndarray) -> np.ndarray:
        """⟨n| x + iy |m⟩ from the levels m of block l to n of block l + 1: i → i by a_+†, i → i − 2 by a_−."""
        size = up.shape[0]
        i = np.arange(u.shape[0])
        right, left = l + (i + 1) // 2, i // 2  # n_+ and n_−
        moved = (np.sqrt(right + 1)[:, None] * u)[:size]
        lowered = (np.sqrt(left)[:, None] * u)[2:]
        count = min(size, lowered.shape[0])
        moved[:count] += lowered[:count]
        return math.sqrt(self.hbar) * up.T @ moved

    def _across(self, u: np.ndarray) -> np.ndarray:
        """⟨n| x + iy |m⟩ from j = −½, the mirror image, to j = ½: i → i ± 1 between |n_+, n_−; ∓⟩ and |n_−, n_+; ±⟩."""
        i = np.arange(u.shape[0] - 1)
        beside = np.sqrt(i // 2 + 1)[:, None]  # of i → i + 1 and of i + 1 → i
        moved = np.zeros_like(u)
        moved[1:] += beside * u[:-1]
        moved[:-1] += beside * u[1:]
        return math.sqrt(self.hbar) * u.T @ moved


def radial_functions(
    m: float | int, count: int, radii: Float[np.ndarray, " R"], hbar: float
) -> Float[np.ndarray, "count R"]:
    """Oscillator functions of angular momentum m ≥ 0, ∫ φ_n² ρ dρ = 1, by their three-term recurrence.

    With s² = ρ²/ħ, s²φ_n = b_{n+1} φ_{n+1} + (2n + m + 1) φ_n + b_n φ_{n−1}, b_n = √(n(n + m)): ρ² has positive
    elements. Upwards it is stable everywhere; the start e^{−s²/2} is kept as a separate factor, as it may underflow.

    Args:
        m: angular momentum/ħ.
        count: n = 0 … count − 1.
        radii: ρ.
        hbar: ħ.
    """
    from scipy.special import gammaln, xlogy

    s2 = radii**2 / hbar
    scale = (math.log(2 / hbar) - gammaln(m + 1) + xlogy(m, s2) - s2) / 2
    table = np.zeros((count, len(radii)))
    before, now, factor = np.zeros_like(s2), np.ones_like(s2), np.exp(scale)
    n = np.arange(count + 1)
    b = np.sqrt(n * (n + m))
    for i in range(count):
        table[i] = now * factor
        before, now = now, ((s2 - (2 * i + m + 1)) * now - b[i] * before) / b[i + 1]
        large = np.abs(now) > 1e100
        if large.any():
            shrink = np.where(large, 1e-100, 1.0)
            before, now = before * shrink, now * shrink
            scale = scale - np.log(shrink)
            factor = np.exp(scale)
    return table


def _over(quanta: int) -> tuple[Float[np.ndarray, " B"], Float[np.ndarray, " B"]]:
    """l_i and w_i with Σ_l F(l) = Σ_i w_i F(l_i), l = 0 … quanta: exact for polynomials in √l on every panel."""
    first = min(FIRST, quanta + 1)
    nodes, weights = [np.arange(first, dtype=float)], [np.ones(first)]
    panels = max(1, math.ceil(math.log((quanta + 1) / first) / math.log(RATIO)))
    edges = np.unique(np.round(first * ((quanta + 1) / first) ** (np.arange(panels + 1) / panels)).astype(int))
    for low, high in itertools.pairwise(edges):
        whole = np.arange(low, high, dtype=float)
        if len(whole) <= PANEL:
            nodes.append(whole)
            weights.append(np.ones(len(whole)))
            continue
        root = np.sqrt(whole)
        half, centre = (root[-1] - root[0]) / 2, (root[-1] + root[0]) / 2
        k = np.arange(PANEL)
        angle = (k + 0.5) * math.pi / PANEL
        nodes.append((centre + half * np.cos(angle)) ** 2)
        # the interpolant at Chebyshev points is Σ_k (2 − δ_k0)/n Σ_i F_i cos kθ_i cos kθ
        theta = np.arccos(np.clip((root - centre) / half, -1.0, 1.0))
        at = np.sum(np.cos(np.outer(k, theta)), axis=1) * np.where(k == 0, 1.0, 2.0) / PANEL
        weights.append(at @ np.cos(np.outer(k, angle)))
    return np.concatenate(nodes), np.concatenate(weights)


def _radii(of: AngularBlocks, coldest: float, energy: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for ∫ … dρ: panels that double from the thermal wavelength to √T."""
    top = of.coupling + math.sqrt(of.coupling**2 + 2 * max(energy, 0.0)) + 4 * math.sqrt(of.hbar)
    return panels(of.hbar / math.sqrt(coldest), top, 2 * math.sqrt(coldest + of.hbar), NODES)
