"""Fourier grids of one or two nuclear coordinates, with p̂ = −iħ∂: (4.2), (5.1) and section 10.

Two scalings share one form, Ĥ = Σ_a p̂_a²/2m_a + V(x) and iħ ∂_τ φ = Ĥφ: ħ = 1 with the masses of section 4, and
ħ = M^{−1/2} with masses of order one (all 1 in the paper) and the time τ = M^{−1/2}t of section 5. Coordinates may be
those of one particle in the plane, or of two particles on a line. Wave functions have shape (N, …), N the number of
grid points in C order; they are normalised as vectors, Σ|φ|² = 1.
"""

import math
import os

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Inexact

from jaxmd_iz.checks import fail, must

#: What to do about too little memory.
SMALLER = "Take a smaller grid, a lower energy cutoff, or propagate wave functions instead of matrices."


class Grid(eqx.Module):
    """A periodic box with an odd number of points a coordinate, so that every p̂ᵏ is Hermitian and p̂ᵏ p̂ˡ = p̂ᵏ⁺ˡ.

    Derivatives are exact for functions that the grid resolves and that vanish at its edge: choose the box so that
    V ≥ E there and the spacing below πħ/√(2mE), with e^{−E/T} the accuracy wanted (`around` does that).

    Args:
        lower, upper: edges of the box for each of the C coordinates, C = 1 or 2.
        points: odd numbers n_a of points.
        hbar: ħ.
        masses: (C,) m_a of each coordinate, or one number for all.

    Raises:
        InputError: no or more than two coordinates, tuples of different length, an even number of points, an edge
            that is not above the other one, ħ or masses that are not positive.
    """

    lower: tuple[float, ...] = eqx.field(static=True)
    upper: tuple[float, ...] = eqx.field(static=True)
    points: tuple[int, ...] = eqx.field(static=True)
    hbar: Float[Array, ""]
    masses: Float[Array, " C"]

    def __init__(
        self, lower, upper, points, hbar: float | Array = 1.0, masses: float | np.ndarray | Array | tuple = 1.0
    ):
        self.lower, self.upper = tuple(map(float, lower)), tuple(map(float, upper))
        self.points = tuple(points)
        self.hbar = jnp.asarray(hbar, float)
        mass = jnp.asarray(masses, float)
        self.masses = jnp.broadcast_to(mass, (len(self.points),)) if mass.ndim == 0 else mass

    def __check_init__(self):
        sizes = (len(self.lower), len(self.upper), len(self.points), *self.masses.shape)
        must(len(set(sizes)) == 1, "lower, upper, points, masses", "have one length", f"lengths are {sizes}")
        must(sizes[0] in (1, 2), "points", "have one or two coordinates", f"it has {sizes[0]}")
        odd = all(isinstance(n, int) and n > 0 and n % 2 == 1 for n in self.points)
        must(odd, "points", "be odd whole numbers", f"it is {self.points}")
        ordered = all(a < b for a, b in zip(self.lower, self.upper, strict=True))
        must(ordered, "lower", "be below `upper`", f"they are {self.lower} and {self.upper}")
        for name in ("hbar", "masses"):
            value = getattr(self, name)
            positive = isinstance(value, Tracer) or bool(np.all(np.asarray(value) > 0))
            must(positive, name, "be positive", f"it is {value}")

    @property
    def coordinates(self) -> int:
        """Number C of coordinates."""
        return len(self.points)

    @property
    def size(self) -> int:
        """Number N of grid points."""
        return int(np.prod(self.points))

    @property
    def steps(self) -> tuple[float, ...]:
        """Spacing h_a of each coordinate."""
        return tuple((b - a) / n for a, b, n in zip(self.lower, self.upper, self.points, strict=True))

    @property
    def cell(self) -> float:
        """Π h_a: an integral over x is this times a sum over the points."""
        return float(np.prod(self.steps))

    def axis(self, a: int) -> Float[Array, " n"]:
        """Points of coordinate a, centres of equal cells, (n_a,)."""
        return jnp.asarray(self.lower[a] + (np.arange(self.points[a]) + 0.5) * self.steps[a], self.hbar.dtype)

    @property
    def x(self) -> Float[Array, "N C"]:
        """All points, (N, C)."""
        mesh = jnp.meshgrid(*(self.axis(a) for a in range(self.coordinates)), indexing="ij")
        return jnp.stack([m.reshape(-1) for m in mesh], axis=-1)

    def momenta(self, a: int) -> Float[Array, " n"]:
        """Eigenvalues of p̂_a in the order of the discrete Fourier transform: ħ 2π/(n h) {0, 1, …, −1}, (n_a,)."""
        n = self.points[a]
        return self.hbar * jnp.asarray(2 * np.pi * np.fft.fftfreq(n, self.steps[a]), self.hbar.dtype)

    @property
    def kinetic(self) -> Float[Array, " N"]:
        """Eigenvalues Σ_a p_a²/2m_a of the kinetic energy, (N,) in C order of the momenta."""
        parts = jnp.meshgrid(
            *(self.momenta(a) ** 2 / (2 * self.masses[a]) for a in range(self.coordinates)), indexing="ij"
        )
        return jnp.sum(jnp.stack(parts), axis=0).reshape(-1)

    def apply_momentum(self, phi: Inexact[Array, "N *s"], a: int, power: int = 1) -> Inexact[Array, "N *s"]:
        """p̂_aᵏ φ by Fourier transform along one coordinate, complex."""
        if power == 0:
            return phi.astype(np.result_type(phi.dtype, np.complex64))
        ordered = phi.reshape(self.points + phi.shape[1:])
        moved = jnp.fft.fft(ordered, axis=a)
        p = (self.momenta(a) ** power).reshape((1,) * a + (-1,) + (1,) * (ordered.ndim - 1 - a))
        return jnp.fft.ifft(p.astype(moved.dtype) * moved, axis=a).reshape(phi.shape)

    def apply_function(self, phi: Inexact[Array, "N *s"], factor: Inexact[Array, " N"]) -> Inexact[Array, "N *s"]:
        """f(p̂) φ by Fourier transform along all coordinates, complex; f is given at the momenta in C order."""
        axes = tuple(range(self.coordinates))
        ordered = phi.reshape(self.points + phi.shape[1:])
        moved = jnp.fft.fftn(ordered, axes=axes)
        f = factor.reshape(self.points + (1,) * (phi.ndim - 1)).astype(moved.dtype)
        return jnp.fft.ifftn(f * moved, axes=axes).reshape(phi.shape)

    def apply_kinetic(self, phi: Inexact[Array, "N *s"]) -> Inexact[Array, "N *s"]:
        """Σ_a p̂_a²/2m_a φ, complex."""
        return self.apply_function(phi, self.kinetic)

    def momentum_matrix(self, a: int, power: int = 1) -> Inexact[Array, "n n"]:
        """p̂_aᵏ on its own coordinate, (n_a, n_a): real for even k, complex for odd k."""
        n = self.points[a]
        apart = np.arange(n)[:, None] - np.arange(n)[None, :]
        k = 2 * np.pi * np.fft.fftfreq(n, self.steps[a])
        first = np.fft.ifft(k**power) if power % 2 else np.fft.ifft(k**power).real
        dtype = np.result_type(self.hbar.dtype, np.complex64) if power % 2 else self.hbar.dtype
        return (self.hbar**power).astype(dtype) * jnp.asarray(first[apart % n], dtype)

    def kinetic_matrix(self) -> Float[Array, "N N"]:
        """Σ_a p̂_a²/2m_a, (N, N), real symmetric.

        Raises:
            InputError: a matrix beyond the memory of the machine.
        """
        copies = 1 if self.coordinates == 1 else 3
        must_fit(copies * self.size**2 * self.hbar.dtype.itemsize, "points", f"a matrix of {self.size} × {self.size}")
        parts = [self.momentum_matrix(a, 2) / (2 * self.masses[a]) for a in range(self.coordinates)]
        if len(parts) == 1:
            return parts[0]
        one, two = (jnp.eye(n, dtype=self.hbar.dtype) for n in self.points)
        return jnp.kron(parts[0], two) + jnp.kron(one, parts[1])


def must_fit(size: int | float, argument: str, what: str, remedy: str = SMALLER) -> None:
    """Refuses what needs more than nine tenths of the memory of the machine, or of the accelerator that computes.

    Args:
        size: bytes, with what is needed on the way.
        argument: the argument that decides the size.
        what: what is to be computed, for the sentence.
        remedy: what to do about it.

    Raises:
        InputError: if it does not fit.
    """
    there = _memory()
    but = f"{what} needs {size / 2**30:,.3g} GiB and there are {there / 2**30:,.3g} GiB"
    must(size <= 0.9 * there, argument, "ask for less memory than there is", but, remedy)


def _memory() -> float:
    """Bytes of the device that computes where it tells them, otherwise of the machine; infinite if nothing tells."""
    told = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in told:
        return float(told["bytes_limit"])
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return math.inf


def around(
    potential, start, temperature: float, hbar: float, masses: float | np.ndarray = 1.0, tolerance: float = 1e-11
) -> Grid:
    """A grid for thermal averages up to T: box and momenta beyond which a weight of about `tolerance` is left.

    Both reach to V − V_min and p²/2m of T′ log 1/tolerance, where T′ = (ħω/2) coth(ħω/2T) ≥ T is the temperature of
    position and momentum in a harmonic well, with ω from the widths of the region below several heights. Averages of
    x² come out right to about `tolerance` (10² times that where V rises slowly and wide tails count). With levels
    further apart than T between steep walls, momenta fall off more slowly: about √tolerance is left, so compare two
    tolerances there. A well that lies beyond a barrier higher than T′ log 1/tolerance is not seen.

    Args:
        potential: x (C,) ↦ the lowest energy at x, of one configuration; it must rise in every direction. What is
            not finite counts as out of reach.
        start: (C,) a point near the minimum.
        temperature: T > 0, an energy; the highest one that will be asked for.
        hbar: ħ.
        masses: (C,) or a number.
        tolerance: what is neglected, relative.

    Returns:
        Grid.

    Raises:
        InputError: temperature, ħ or tolerance out of range, or a potential that does not rise above the needed
            energy within 10³ units of length.
    """
    for name, value in (("temperature", temperature), ("hbar", hbar)):
        must(value > 0, name, "be positive", f"it is {value:g}")
    must(0 < tolerance < 1, "tolerance", "lie between 0 and 1", f"it is {tolerance:g}")
    start = np.asarray(start, float)
    mass = np.broadcast_to(np.asarray(masses, float), start.shape)
    low, high, height = _region(jax.jit(jax.vmap(potential)), start, temperature, hbar, mass, tolerance)
    # beyond the turning point a wave decays over (ħ²/2m|V′|)^{1/3}
    margin = 2.0 * (hbar**2 / (2 * mass) * (high - low) / height) ** (1 / 3)
    low, high = low - margin, high + margin
    spacing = np.pi * hbar / np.sqrt(2 * mass * height)
    points = tuple(int(n) // 2 * 2 + 1 for n in np.ceil(1.05 * (high - low) / spacing))
    return Grid(tuple(low.tolist()), tuple(high.tolist()), points, hbar, masses)


def _region(energy, start, temperature, hbar, mass, tolerance):
    """Edges (C,) of the box around {V < V_min + height}, and the height."""
    log = -np.log(tolerance)
    height = temperature * log
    low, high = start - 1.0, start + 1.0
    remedy = "Add a confining external potential."
    for _ in range(200):
        side, value = _sample(energy, low, high)
        must(bool(np.any(value < np.inf)), "potential", "be finite around `start`", "it is not")
        inside = value < value.min() + height
        step = np.array([s[1] - s[0] for s in side])
        ends = [
            np.flatnonzero(inside.any(axis=tuple(i for i in range(len(side)) if i != a)))[[0, -1]]
            for a in range(len(side))
        ]
        first, last = np.array(ends).T
        touched = np.array([first == 0, last == np.array(value.shape) - 1])
        room = np.maximum(0.1 * (high - low), 2 * step)
        if touched.any():
            low, high = low - touched[0] * room, high + touched[1] * room
            far = float(np.max(high - low))
            must(far < 1e3, "potential", "confine the nuclei", "it does not rise far enough", remedy)
            continue
        wide = bool(np.all(last - first > np.array(value.shape) / 2))
        low, high = low + (first - 1) * step, low + (last + 1) * step
        needed = log * _effective(temperature, hbar, mass, height, step, value)
        if wide and needed <= 1.001 * height:
            return low, high, height
        height = max(height, needed)
    fail("potential", "confine the nuclei", "no box around the region that it allows was found", remedy)


def _sample(energy, low, high):
    """Points of each coordinate between two edges, and energies at all of them; ∞ where they are not finite."""
    side = [np.linspace(a, b, 201 if len(low) == 1 else 81) for a, b in zip(low, high, strict=True)]
    mesh = np.stack(np.meshgrid(*side, indexing="ij"), axis=-1)
    value = np.asarray(energy(jnp.asarray(mesh.reshape(-1, len(low))))).reshape(mesh.shape[:-1])
    return side, np.where(np.isfinite(value), value, np.inf)


def _effective(temperature, hbar, mass, height, step, value):
    """The largest (ħω/2) coth(ħω/2T) of wells below the height: ω = √(8h/m)/width of the region {V < V_min + h}."""
    found = temperature
    for h in height * 0.5 ** np.arange(8):
        inside = value < value.min() + h
        width = step * np.array([_longest(inside, a) for a in range(len(step))])
        half = hbar * np.sqrt(2 * h / mass) / width  # ħω/2
        # a region too small for a level, or for the points, tells nothing
        half = np.where((half <= h) & (width > 3 * step) | (h == height), half, 0.0).max()
        found = max(found, half / np.tanh(half / temperature)) if half > 0 else found
    return found


def _longest(inside, a):
    """The longest unbroken stretch of points along one coordinate."""
    run = longest = np.zeros(inside.shape[:a] + inside.shape[a + 1 :], int)
    for line in np.moveaxis(inside, a, 0):
        run = np.where(line, run + 1, 0)
        longest = np.maximum(longest, run)
    return longest.max()
