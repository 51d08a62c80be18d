"""Symbols of operators: the inverse of Weyl quantisation, and Wigner functions (4.2), section 4.

Values are given at the points and momenta of `weyl.phase_space`, (N, N, d, d).
"""

import itertools
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Inexact

from jaxmd_iz.checks import must
from jaxmd_iz.quantum.grid import Grid, must_fit
from jaxmd_iz.quantum.spectrum import Mixture
from jaxmd_iz.quantum.weyl import axes_of, complex_of, joined, translate


def wigner(grid: Grid, operator: Inexact[Array, "Nd Nd"]) -> Complex[Array, "N N d d"]:
    """The symbol of an operator, A(x, p) = ∫ ⟨x + y/2|Â|x − y/2⟩ e^{−iy·p/ħ} dy: the inverse of (4.2).

    The box is periodic, y the shorter way around: exactly the inverse of `weyl.quantise` for values. Where the
    midpoint of two points lies between points, Fourier interpolation along the diagonal brings it to x.

    Args:
        grid: the grid.
        operator: Â (N d, N d).

    Returns:
        Values (N, N, d, d).

    Raises:
        InputError: a matrix whose size is not N times a number of states, or one beyond the memory of the machine.
    """
    size = grid.size
    d = operator.shape[0] // size
    square = d > 0 and operator.shape == (size * d, size * d)
    must(square, "operator", f"be square with N d = {size} d rows", f"its shape is {operator.shape}")
    must_fit(4.0 * 16 * (size * d) ** 2, "operator", f"a symbol on {size} points and momenta")
    row, column, half = _ends(grid)
    kernel = operator.astype(complex_of(grid)).reshape(size, d, size, d).transpose(0, 2, 1, 3)[row, column]
    values = jnp.zeros_like(kernel)
    for e in itertools.product((0, 1), repeat=grid.coordinates):
        moved = translate(grid, kernel, e, 0, -0.5)  # for an odd number of spacings y the midpoint is x + h/2
        mine = jnp.asarray(half == np.ravel_multi_index(e, (2,) * grid.coordinates))[:, :, None, None]
        values = jnp.where(mine, moved, values)
    return _transformed(grid, values)


def wigner_function(f: Mixture) -> Complex[Array, "N N d d"]:
    """W(x, p) = (2πħ)^{−C} ∫ Σ_i w_i φ_i(x + y/2) φ_i*(x − y/2) e^{−iy·p/ħ} dy of a state or a mixture of states.

    Unlike in `wigner`, nothing beyond the edge of the box counts, and y is as long as the box: W is right at every
    point for states that the grid holds. Where the states are coherent over more than half the box, W changes faster
    than its values show, and sums over them are not integrals.

    Args:
        f: the mixture; one state has one vector, of norm 1, with weight 1.

    Returns:
        W (N, N, d, d), Hermitian at every point of phase space, ∫ Tr W dz = Σ_i w_i.

    Raises:
        InputError: values beyond the memory of the machine.
    """
    grid = f.grid
    size, d, _ = f.vectors.shape
    must_fit(4.0 * 16 * (size * d) ** 2, "f", f"a Wigner function on {size} points and momenta")
    total = jnp.zeros((size, size, d, d), complex_of(grid))
    for e in itertools.product((0, 1), repeat=grid.coordinates):
        phi = translate(grid, f.vectors.astype(total.dtype), e, 0, -0.5)
        density = jnp.einsum("xai,i,ybi->xyab", phi, f.weights.astype(total.dtype), phi.conj())
        row, column, inside = _ends(grid, e)
        kept = jnp.asarray(inside == 2**grid.coordinates - 1)[:, :, None, None]
        total = total + jnp.where(kept, density[row, column], 0.0)
    planck = (2 * math.pi * grid.hbar) ** grid.coordinates
    return _transformed(grid, total) / planck.astype(total.dtype)


def _transformed(grid: Grid, values: Complex[Array, "N N d d"]) -> Complex[Array, "N N d d"]:
    """Σ_y e^{−iy·p/ħ} of values at (x, y), y in multiples of the spacing."""
    ordered = values.reshape((grid.size, *grid.points, *values.shape[2:]))
    return jnp.fft.fftn(ordered, axes=axes_of(grid, 1)).reshape(values.shape)


def _ends(grid: Grid, parity: tuple[int, ...] | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of x + (y + e h)/2 and x − (y − e h)/2 at a point x and a distance y, (N, N) each.

    Args:
        grid: the grid.
        parity: e of every coordinate: y is the even (0) or odd (1) number of spacings, up to n − 1, at that place in
            the order of the discrete transform. By default it is the shorter way around, and e is what it is.

    Returns:
        The two, modulo the box; and a number whose bits are e, or with e given, whether both are in the box.
    """
    parts = []
    for c, n in enumerate(grid.points):
        d = (np.arange(n)[None, :] + n // 2) % n - n // 2
        if parity is not None:
            d = np.where(d % 2 == parity[c], d, np.where(d > 0, d - n, d + n))
        j = np.arange(n)[:, None] + (d + d % 2) // 2
        k = j - d
        third = np.broadcast_to(d % 2, (n, n)) if parity is None else ((0 <= j) & (j < n) & (0 <= k) & (k < n)) + 0
        parts.append((j % n, k % n, third))
    return joined(grid, parts)
