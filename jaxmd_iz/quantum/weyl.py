"""Weyl quantisation on a Fourier grid, and the momentum cut-off: (4.2), section 5.1, (4.12).

Symbols polynomial in p are quantised exactly from their coefficients, term by term; all others from their values.
Values of a symbol have shape (N, N) or (N, N, d, d): points of the grid first, then its momenta in the order of the
discrete Fourier transform, both as in `phase_space`. With an odd number of points the values on the grid and the
operators on it are in one-to-one correspondence, and (5.16) holds to rounding. Operators are complex matrices, rows
and columns in the order (point, state).
"""

import itertools
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Complex, Float, Inexact

from jaxmd_iz.checks import must
from jaxmd_iz.quantum.grid import Grid, must_fit

#: A coefficient: a number, values (N,) or (N, d, d), or a function x (C,) ↦ () or (d, d) of one point.
Coefficient = int | float | complex | Inexact[Array, "..."] | Callable
#: Σ_k a_k(x) p^k as {(k_1, …, k_C): a_k}.
Terms = Mapping[tuple[int, ...], Coefficient]
#: A function of x (…, C) and p (…, C), or values on the grid; either (…) or (…, d, d).
Symbol = Callable | Inexact[Array, "..."]


def phase_space(grid: Grid) -> tuple[Float[Array, "N C"], Float[Array, "N C"]]:
    """Points and momenta at which values of a symbol are given.

    Returns:
        x (N, C) in C order, and p (N, C) in C order of the discrete Fourier transform's momenta.
    """
    mesh = jnp.meshgrid(*(grid.momenta(a) for a in range(grid.coordinates)), indexing="ij")
    return grid.x, jnp.stack([m.reshape(-1) for m in mesh], axis=-1)


def symbol_values(grid: Grid, symbol: Symbol) -> Inexact[Array, "N N *m"]:
    """a(x, p) on the grid's points and momenta.

    Args:
        grid: the grid.
        symbol: a function of x (…, C) and p (…, C); values are handed on.

    Returns:
        (N, N) or (N, N, d, d).

    Raises:
        InputError: values of another shape, or beyond the memory of the machine.
    """
    return _at_midpoints(grid, symbol, (0,) * grid.coordinates)


def quantise(grid: Grid, symbol: Symbol, states: int = 1) -> Complex[Array, "Nd Nd"]:
    """The operator Â of a symbol (4.2), (5.1): ⟨x|Â|x'⟩ = (2πħ)^{−C} ∫ e^{i(x−x')·p/ħ} A((x + x')/2, p) dp.

    The box is periodic: the midpoint is that of the shorter way from x' to x. The error is below every power of the
    spacing for smooth symbols that decay within the grid's momenta, with a kernel that decays within half the box.
    Symbols that grow with p have wide kernels: use `polynomial_operator` for them.

    Args:
        grid: the grid.
        symbol: a function of x (…, C) and p (…, C), evaluated at midpoints, half of them between the points, or
            values on the grid, which are interpolated; the second is the inverse of `wigner`, to rounding.
        states: d of a scalar symbol, which then multiplies the unit matrix.

    Returns:
        Â (N d, N d), complex.

    Raises:
        InputError: values of another shape, or a matrix beyond the memory of the machine.
    """
    _must_fit(grid, states)
    here, apart, half = _between(grid)
    kernel = None
    for e in itertools.product((0, 1), repeat=grid.coordinates):
        values = matrices(_at_midpoints(grid, symbol, e), states, 2)
        d = values.shape[-1]
        _must_fit(grid, d)
        ordered = values.reshape((grid.size, *grid.points, d, d))
        part = jnp.fft.ifftn(ordered, axes=axes_of(grid, 1)).reshape(values.shape)[here, apart]
        mine = jnp.asarray(half == np.ravel_multi_index(e, (2,) * grid.coordinates))[:, :, None, None]
        kernel = jnp.where(mine, part, jnp.zeros_like(part) if kernel is None else kernel)
    assert kernel is not None
    return _flat(kernel)


def momentum_cutoff(q: Float[Array, "*s"], delta_p: float | Float[Array, ""]) -> Float[Array, "*s"]:
    """ζ(q) of (4.12): smooth, 1 for |q| ≤ 1/δ_p and 0 for |q| ≥ 2/δ_p.

    ζ = g(1 − s)/(g(1 − s) + g(s)) with g(s) = e^{−1/s} and s = δ_p|q| − 1 between the two.

    Args:
        q: |pⁿ|² of one particle, a momentum squared.
        delta_p: δ_p ≥ 0; 0 is no cut-off.

    Raises:
        InputError: δ_p below 0.
    """
    if not isinstance(delta_p, Tracer):
        must(0 <= float(delta_p) < math.inf, "delta_p", "be 0 or positive", f"it is {float(delta_p):g}")
    s = jnp.asarray(delta_p, q.dtype) * jnp.abs(q) - 1
    inside = (s > 1e-3) & (s < 1 - 1e-3)  # e^{−1000} is 0
    between = jnp.where(inside, s, 0.5)
    ramp = jax.nn.sigmoid(1 / between - 1 / (1 - between))
    return jnp.where(inside, ramp, jnp.where(s < 0.5, 1.0, 0.0).astype(q.dtype))


def polynomial_operator(grid: Grid, terms: Terms, states: int = 1) -> Complex[Array, "Nd Nd"]:
    """The operator of Σ_k a_k(x) p^k, exactly: 2^{−k} Σ_l C(k, l) p̂ˡ a p̂^{k−l} in every coordinate.

    Between plane waves that is ⟨p|Op|p'⟩ = Σ_k â_k(p − p') ((p + p')/2)^k, the binomial theorem.

    Args:
        grid: the grid.
        terms: {(k_1, …, k_C): a_k}; see `Terms`.
        states: d where all a_k are scalar; a scalar multiplies the unit matrix.

    Returns:
        (N d, N d), complex; Hermitian if every a_k is.

    Raises:
        InputError: powers that are not C whole numbers, coefficients of another shape, or a matrix beyond memory.
    """
    known = coefficients(grid, terms, states)
    d = next(iter(known.values())).shape[-1]
    _must_fit(grid, d)
    index = np.indices(grid.points).reshape(grid.coordinates, -1)
    apart = [(i[:, None] - i[None, :]) % n for i, n in zip(index, grid.points, strict=True)]
    between = np.ravel_multi_index(tuple(apart), grid.points)
    p = phase_space(grid)[1]
    total = jnp.zeros((grid.size, grid.size, d, d), complex_of(grid))
    for k, a in known.items():
        wave = jnp.fft.fftn(a.reshape((*grid.points, d, d)), axes=axes_of(grid, 0)) / grid.size
        factor = jnp.ones((grid.size, grid.size), p.dtype)
        for c, power in enumerate(k):
            factor = factor * ((p[:, None, c] + p[None, :, c]) / 2) ** power
        total = total + wave.reshape(-1, d, d)[between] * factor.astype(total.dtype)[:, :, None, None]
    ordered = total.reshape((*grid.points, *grid.points, d, d))
    ordered = jnp.fft.ifftn(ordered, axes=axes_of(grid, 0))
    return _flat(jnp.fft.fftn(ordered, axes=axes_of(grid, grid.coordinates)).reshape(total.shape))


def apply_polynomial(grid: Grid, terms: Terms, phi: Inexact[Array, "N d r"]) -> Complex[Array, "N d r"]:
    """The operator of Σ_k a_k(x) p^k on wave functions, by Fourier transforms: as `polynomial_operator`, no matrix.

    Args:
        grid: the grid.
        terms: {(k_1, …, k_C): a_k}; see `Terms`.
        phi: wave functions.

    Raises:
        InputError: as `polynomial_operator`, or coefficients with another number of states than the wave functions.
    """
    total = jnp.zeros(phi.shape, complex_of(grid))
    for k, a in coefficients(grid, terms, phi.shape[1]).items():
        must(a.shape[-1] == phi.shape[1], "phi", f"have {a.shape[-1]} states", f"it has {phi.shape[1]}")
        for l in itertools.product(*(range(power + 1) for power in k)):
            moved = phi.astype(total.dtype)
            for c, power in enumerate(k):
                moved = grid.apply_momentum(moved, c, power - l[c]) if power > l[c] else moved
            moved = jnp.einsum("xab,xbr->xar", a, moved)
            for c in range(grid.coordinates):
                moved = grid.apply_momentum(moved, c, l[c]) if l[c] else moved
            weight = math.prod(math.comb(power, m) / 2**power for power, m in zip(k, l, strict=True))
            total = total + weight * moved
    return total


def coefficients(grid: Grid, terms: Terms, states: int = 1) -> dict[tuple[int, ...], Complex[Array, "N d d"]]:
    """All a_k of a polynomial symbol as matrices at the points of the grid.

    Args:
        grid: the grid.
        terms: {(k_1, …, k_C): a_k}; see `Terms`.
        states: d where all a_k are scalar.

    Raises:
        InputError: no terms, powers that are not C whole numbers, or coefficients of another shape.
    """
    must(len(terms) > 0, "terms", "hold a coefficient", "it is empty")
    found = {}
    for k, a in terms.items():
        whole = len(k) == grid.coordinates and all(isinstance(power, int) and power >= 0 for power in k)
        must(whole, "terms", f"have powers of {grid.coordinates} momenta, whole numbers from 0", f"one is {k}")
        if callable(a):
            a = jax.vmap(a)(grid.x)
        value = jnp.asarray(a)
        value = value.astype(complex_of(grid))
        value = jnp.full((grid.size,), value) if value.ndim == 0 else value
        right = value.shape == (grid.size,) or (value.shape == (grid.size, *value.shape[-1:] * 2))
        must(right, "terms", f"have values (N,) or (N, d, d) at the {grid.size} points", f"one is {value.shape}")
        found[k] = value
    d = {a.shape[-1] for a in found.values() if a.ndim == 3} or {states}
    must(len(d) == 1, "terms", "have one number of states", f"they have {sorted(d)}")
    return {k: matrices(a, d.copy().pop(), 1) for k, a in found.items()}


def matrices(a: Inexact[Array, "..."], d: int, points: int) -> Inexact[Array, "..."]:
    """A scalar times the unit matrix of d states; matrices, which have two axes more than `points`, are handed on."""
    if a.ndim == points + 2:
        return a
    return a[..., None, None] * jnp.eye(d, dtype=a.dtype).reshape((1,) * points + (d, d))


def _must_fit(grid: Grid, d: int) -> None:
    must_fit(4.0 * 16 * (grid.size * d) ** 2, "points", f"an operator on {grid.size} points")


def complex_of(grid: Grid) -> np.dtype:
    """The complex type of the grid's precision."""
    return np.result_type(grid.hbar.dtype, np.complex64)


def axes_of(grid: Grid, first: int) -> tuple[int, ...]:
    """Axes of the coordinates, from a first one."""
    return tuple(range(first, first + grid.coordinates))


def _flat(kernel: Inexact[Array, "N N d d"]) -> Inexact[Array, "Nd Nd"]:
    """From (point, point, state, state) to a matrix in the order (point, state)."""
    size = kernel.shape[0] * kernel.shape[2]
    return kernel.transpose(0, 2, 1, 3).reshape(size, size)


def _between(grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of x_j and x_k: the point at or half a spacing below their midpoint, j − k, and which of the two; (N, N) each.

    j − k is the shorter way around, from −(n − 1)/2 to (n − 1)/2; all are numbers in C order.
    """
    parts = []
    for n in grid.points:
        j = np.arange(n)
        d = (j[:, None] - j[None, :] + n // 2) % n - n // 2
        parts.append(((j[:, None] - (d + d % 2) // 2) % n, d % n, d % 2))
    return joined(grid, parts)


def joined(grid: Grid, parts: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers in C order from those of each coordinate, (n_a, n_a) → (N, N)."""
    index = np.indices(grid.points).reshape(grid.coordinates, -1)
    found = []
    for which, shape in enumerate((grid.points, grid.points, (2,) * grid.coordinates)):
        each = tuple(part[which][i[:, None], i[None, :]] for part, i in zip(parts, index, strict=True))
        found.append(np.ravel_multi_index(each, shape))
    return found[0], found[1], found[2]


def translate(grid: Grid, a: Inexact[Array, "..."], e: tuple[int, ...], axis: int, by: float) -> Inexact[Array, "..."]:
    """f(x + by h e) of values at the points along one axis, by Fourier interpolation."""
    shape = a.shape
    for c in range(grid.coordinates):
        if e[c]:
            n = grid.points[c]
            a = a.reshape((*shape[:axis], *grid.points, *shape[axis + 1 :]))
            turn = jnp.asarray(np.exp(2j * np.pi * by * np.fft.fftfreq(n)), complex_of(grid))
            wave = jnp.fft.fft(a, axis=axis + c) * turn.reshape([n if i == axis + c else 1 for i in range(a.ndim)])
            a = jnp.fft.ifft(wave, axis=axis + c).reshape(shape)
    return a


def _at_midpoints(grid: Grid, symbol: Symbol, e: tuple[int, ...]) -> Inexact[Array, "..."]:
    """a(x + h e/2, p) at all points and momenta."""
    size = grid.size
    must_fit(2.0 * 8 * size**2 * (1 + grid.coordinates), "points", f"a symbol on {size} points and momenta")
    if callable(symbol):
        x, p = phase_space(grid)
        x = x + jnp.asarray(np.array(e) * np.array(grid.steps) / 2, x.dtype)[None]
        shape = (size, size, grid.coordinates)
        values = jnp.asarray(symbol(jnp.broadcast_to(x[:, None], shape), jnp.broadcast_to(p[None], shape)))
    else:
        values = symbol
    right = values.shape == (size, size) or values.shape == (size, size, *values.shape[-1:] * 2)
    must(right, "symbol", f"have values ({size}, {size}) or ({size}, {size}, d, d)", f"they are {values.shape}")
    return values if callable(symbol) else translate(grid, values, e, 0, 0.5)
