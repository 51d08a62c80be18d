"""Products of symbols: A # B with (A # B)^ = ÂB̂ (4.11), (5.1), the Poisson bracket of Lemma 4.1, traces (5.16).

A # B = e^{(iħ/2)(∇_x·∇_p' − ∇_p·∇_x')} A(x, p) B(x', p') at x' = x, p' = p: x # p = xp + iħ/2. The exponent as
printed has the opposite sign. For symbols polynomial in p the series ends.
"""

import functools
import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Inexact

from jaxmd_iz.checks import must
from jaxmd_iz.quantum import weyl
from jaxmd_iz.quantum.grid import Grid
from jaxmd_iz.quantum.weyl import Symbol, Terms
from jaxmd_iz.quantum.wigner import wigner


def moyal_product(grid: Grid, a: Terms, b: Terms, states: int = 1) -> dict[tuple[int, ...], Complex[Array, "N d d"]]:
    """A # B of symbols polynomial in p, exactly, with the order of matrix factors kept (5.1).

    Σ_{α,β} (iħ/2)^{|α|+|β|} (−1)^{|β|}/(α! β!) (∂_x^α ∂_p^β A)(∂_p^α ∂_x^β B).

    Args:
        grid: the grid.
        a, b: {(k_1, …, k_C): a_k}; see `weyl.Terms`. Coefficients that are functions are differentiated by JAX,
            values by Fourier transform, which is right only if they are smooth on the periodic box.
        states: d where all coefficients are scalar.

    Returns:
        The coefficients of A # B at the points of the grid.

    Raises:
        InputError: as `weyl.polynomial_operator`, or different numbers of states.
    """
    a_of, b_of, nothing = _derivatives(grid, a, b, states)
    total: dict = {}
    step = 0.5j * grid.hbar.astype(nothing.dtype)
    for k, l in itertools.product(a, b):
        for alpha in itertools.product(*(range(power + 1) for power in l)):
            for beta in itertools.product(*(range(power + 1) for power in k)):
                one, two = a_of(k, alpha), b_of(l, beta)
                if one is None or two is None:
                    continue
                # (−1)^{|β|}/(α! β!) · k!/(k − β)! · l!/(l − α)!
                weight = (-1) ** sum(beta) * math.prod(map(math.comb, k, beta)) * math.prod(map(math.comb, l, alpha))
                power = tuple(m - s + n - r for m, n, r, s in zip(k, l, alpha, beta, strict=True))
                _add(total, power, weight * step ** (sum(alpha) + sum(beta)) * (one @ two))
    return total


def poisson_bracket(grid: Grid, h: Terms, a: Terms, states: int = 1) -> dict[tuple[int, ...], Complex[Array, "N d d"]]:
    """{H, A} = ∇_pH·∇_xA − ∇_xH·∇_pA of symbols polynomial in p (4.4).

    Matrix factors stay in the order H, A; the bracket is the leading term of (i/ħ)(H # A − A # H), as in Lemma 4.1,
    only where they commute: scalar symbols, diagonal ones, or one scalar factor.

    Args:
        grid, a, states: as in `moyal_product`.
        h: the first symbol; A moves along its flow, dA/dτ = {H, A}.

    Returns:
        The coefficients of {H, A} at the points of the grid.

    Raises:
        InputError: as `moyal_product`.
    """
    h_of, a_of, nothing = _derivatives(grid, h, a, states)
    total: dict = {}
    zero = (0,) * grid.coordinates
    for k, l in itertools.product(h, a):
        for c in range(grid.coordinates):
            unit = tuple(int(i == c) for i in range(grid.coordinates))
            power = tuple(m + n - u for m, n, u in zip(k, l, unit, strict=True))
            for count, of_h, of_a in ((k[c], zero, unit), (-l[c], unit, zero)):
                one, two = (h_of(k, of_h), a_of(l, of_a)) if count else (None, None)
                if one is not None and two is not None:
                    _add(total, power, count * (one @ two))
    return total or {zero: nothing}


def moyal_product_of_values(grid: Grid, a: Symbol, b: Symbol, states: int = 1) -> Complex[Array, "N N d d"]:
    """A # B of any symbols, as the symbol of ÂB̂ (5.1).

    Args:
        grid: the grid.
        a, b: functions or values, as in `weyl.quantise`.
        states: d of the product; a scalar symbol multiplies the unit matrix.

    Returns:
        Values of A # B (N, N, d, d).

    Raises:
        InputError: as `weyl.quantise`, or different numbers of states.
    """
    one, two = weyl.quantise(grid, a, states), weyl.quantise(grid, b, states)
    rows = (len(one) // grid.size, len(two) // grid.size)
    must(rows[0] == rows[1], "b", f"have {rows[0]} states, as `a`", f"it has {rows[1]}")
    return wigner(grid, one @ two)


def trace(grid: Grid, symbol: Symbol) -> Inexact[Array, ""]:
    """Tr Â = (2πħ)^{−C} ∫ Tr A(z) dz (5.16) on the grid, where h Δp = 2πħ/n for each coordinate.

    Args:
        grid: the grid.
        symbol: A, a function or values, as in `weyl.quantise`.
    """
    return jnp.einsum("xpaa->", weyl.matrices(weyl.symbol_values(grid, symbol), 1, 2)) / grid.size


def trace_product(grid: Grid, a: Symbol, b: Symbol) -> Inexact[Array, ""]:
    """Tr(ÂB̂) = (2πħ)^{−C} ∫ Tr(A(z) B(z)) dz (5.16) on the grid.

    Args:
        grid: the grid.
        a, b: symbols, functions or values; a scalar one multiplies the unit matrix.
    """
    one, two = weyl.symbol_values(grid, a), weyl.symbol_values(grid, b)
    d = one.shape[-1] if one.ndim == 4 else two.shape[-1] if two.ndim == 4 else 1
    kind = jnp.result_type(one.dtype, two.dtype)
    one, two = weyl.matrices(one, d, 2).astype(kind), weyl.matrices(two, d, 2).astype(kind)
    must(one.shape == two.shape, "b", f"have {d} states", f"it has {two.shape[-1]}")
    return jnp.einsum("xpab,xpba->", one, two) / grid.size


def _add(total: dict, power: tuple[int, ...], value: Array) -> None:
    total[power] = total[power] + value if power in total else value


def _derivatives(grid: Grid, a: Terms, b: Terms, states: int) -> tuple[Callable, Callable, Array]:
    """Functions (k, α) ↦ ∂_x^α a_k (N, d, d), and the same of b, None for a number's; and a zero of their shape."""
    sizes = [next(iter(weyl.coefficients(grid, terms, states).values())).shape[-1] for terms in (a, b)]
    d = max(sizes)
    values = [weyl.coefficients(grid, terms, d) for terms in (a, b)]
    same = all(v.shape[-1] == d for of in values for v in of.values())
    must(same, "b", f"have {sizes[0]} states, as `a`", f"it has {sizes[1]}")

    def of(terms, known):
        @functools.cache
        def derivative(k, alpha):
            if sum(alpha) == 0:
                return known[k]
            if callable(terms[k]):
                return weyl.coefficients(grid, {k: _differentiated(terms[k], alpha)}, d)[k]
            return None if jnp.ndim(terms[k]) == 0 else _by_fourier(grid, known[k], alpha)

        return derivative

    first = next(iter(values[0].values()))
    return of(a, values[0]), of(b, values[1]), jnp.zeros_like(first)


def _differentiated(function: Callable, alpha: tuple[int, ...]) -> Callable:
    """x (C,) ↦ ∂^α of a function of one point."""
    for c, order in enumerate(alpha):
        for _ in range(order):
            function = _along(function, c)
    return function


def _along(function: Callable, c: int) -> Callable:
    return lambda x: jax.jvp(function, (x,), (jnp.zeros_like(x).at[c].set(1.0),))[1]


def _by_fourier(grid: Grid, a: Complex[Array, "N d d"], alpha: tuple[int, ...]) -> Complex[Array, "N d d"]:
    for c, order in enumerate(alpha):
        unit = (1j / grid.hbar.astype(a.dtype)) ** order  # ∂ = ip̂/ħ
        a = unit * grid.apply_momentum(a, c, order)
    return a
