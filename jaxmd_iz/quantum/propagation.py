"""Wave functions in real and imaginary time without a matrix of Ĥ: iħ ∂_τ φ = Ĥφ of (4.1), (5.1), and e^{−βĤ}φ.

Memory and time grow as N log N with the number of grid points. `split` follows V step by step; `chebyshev` reaches any
time in one expansion, exact up to a tolerance; `imaginary_time` and `thermal_mixture` replace the Gibbs operator of
`spectrum.gibbs` on grids too large for it. The last three take the width of Ĥ from the values of ħ and V, which
therefore must not be traced; the wave functions may be, and everything runs on the device.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Complex, Float, Inexact, PRNGKeyArray

from jaxmd_iz.checks import must
from jaxmd_iz.quantum.grid import Grid, must_fit
from jaxmd_iz.quantum.spectrum import Mixture, unit_phase

_FEWER = "Take fewer wave functions at a time, or a smaller grid."


def split(
    grid: Grid,
    v: Inexact[Array, "N d d"],
    phi: Inexact[Array, "N d r"],
    time: float | Float[Array, ""],
    steps: int,
    order: int = 2,
) -> Complex[Array, "N d r"]:
    """e^{−iτĤ/ħ} φ by splitting, S(δ) = e^{−iδV/2ħ} e^{−iδp̂²/2mħ} e^{−iδV/2ħ}: unitary, the error is O(δ^order).

    Fourth order is Suzuki's S(qδ)² S((1 − 4q)δ) S(qδ)², q = 1/(4 − 4^{1/3}). Derivatives with respect to V are those
    of `jnp.linalg.eigh`: its levels have to be distinct at every point.

    Args:
        grid: the grid.
        v: V(x) + V_b(x) I at its points; real or complex Hermitian.
        phi: wave functions.
        time: τ, of either sign (t where ħ = 1).
        steps: number of steps δ = τ/steps.
        order: 2 or 4; a step of order 4 costs as much as five of order 2.

    Returns:
        (N, d, r), complex.

    Raises:
        InputError: shapes that do not fit, no step, another order, or more than fits the memory of the machine.
    """
    _check(grid, v, phi)
    must(steps >= 1, "steps", "be at least 1", f"it is {steps}")
    must(order in (2, 4), "order", "be 2 or 4", f"it is {order}")
    return _split(grid, v, phi, jnp.asarray(time, grid.hbar.dtype), steps, order)


@eqx.filter_jit
def _split(grid, v, phi, time, steps, order):
    """All steps on the device."""
    q = 1 / (4 - 4 ** (1 / 3))
    stages = np.array([1.0] if order == 2 else [q, q, 1 - 4 * q, q, q])
    energies, psi = jnp.linalg.eigh(v)
    kind = np.result_type(phi.dtype, np.complex64)
    psi = psi.astype(kind)

    def of_matrix(part):
        turned = psi * unit_phase(-energies * part * time / (steps * grid.hbar)).astype(kind)[:, None, :]
        return jnp.einsum("xak,xbk->xab", turned, psi.conj())

    def times(matrices, phi):
        return jnp.einsum("xab,xbr->xar", matrices, phi)

    # the half steps of V on both sides of a kinetic step are taken together; stages reads the same from both ends
    parts = jnp.asarray(stages, grid.hbar.dtype)
    potential = jax.vmap(of_matrix)(jnp.asarray((stages + np.roll(stages, -1)) / 2, grid.hbar.dtype))
    kinetic = unit_phase(-parts[:, None] * grid.kinetic[None, :] * time / (steps * grid.hbar))

    def stage(phi, factors):
        t, u = factors
        return times(u, grid.apply_function(phi, t)), None

    def step(phi, _):
        return lax.scan(stage, phi, (kinetic, potential))[0], None

    phi = times(of_matrix(stages[0] / 2), phi.astype(kind))
    return times(of_matrix(-stages[0] / 2), lax.scan(step, phi, length=steps)[0])


def chebyshev(
    grid: Grid, v: Inexact[Array, "N d d"], phi: Inexact[Array, "N d r"], time: float, tolerance: float = 1e-12
) -> Complex[Array, "N d r"]:
    """e^{−iτĤ/ħ} φ = e^{−iτc/ħ} Σ_k (2 − δ_k0) (−i)^k J_k(Rτ/ħ) T_k((Ĥ − c)/R) φ, levels of Ĥ within c ± R.

    About R|τ|/ħ terms are needed, where 2R = max λ − min λ + max p²/2m over the grid: walls of V far above the
    energies of interest are best cut off.

    Args:
        grid: the grid.
        v: V(x) + V_b(x) I at its points; real or complex Hermitian.
        phi: wave functions.
        time: τ, of either sign (t where ħ = 1).
        tolerance: bound of the terms that are left out, relative to |φ|; rounding adds about 1e-15 R|τ|/ħ.

    Returns:
        (N, d, r), complex.

    Raises:
        InputError: shapes that do not fit, a tolerance out of range, traced values of ħ, V or τ, or more than fits
            the memory of the machine.
    """
    from scipy.special import jv

    _check(grid, v, phi)
    low, high, hbar = _bounds(grid, v)
    must(not isinstance(time, Tracer), "time", "be known", "it is traced", "Use `split`.")
    centre = (low + high) / 2
    reach = (high - low) / 2 * float(time) / hbar
    order = np.arange(int(abs(reach) + 12 * abs(reach) ** (1 / 3)) + 40)  # J_k is below rounding beyond
    series = (2.0 - (order == 0)) * jv(order, reach)
    kept = _enough(series, tolerance)
    coefficients = (
        np.exp(-1j * centre * float(time) / hbar) * np.array([1, -1j, -1, 1j])[order[:kept] % 4] * series[:kept]
    )
    return _expansion(grid, v, phi, jnp.asarray(coefficients, np.result_type(phi.dtype, np.complex64)), low, high)


def imaginary_time(
    grid: Grid, v: Inexact[Array, "N d d"], phi: Inexact[Array, "N d r"], beta: float, tolerance: float = 1e-14
) -> Inexact[Array, "N d r"]:
    """e^{−β(Ĥ − V_min)} φ = Σ_k (2 − δ_k0) (−1)^k e^{−βR} I_k(βR) T_k((Ĥ − c)/R) φ, V_min the lowest λ on the grid.

    V_min is a lower bound of Ĥ, so nothing overflows. About √(2βR log 1/tolerance) terms are needed, R of `chebyshev`.

    Args:
        grid: the grid.
        v: V(x) + V_b(x) I at its points; real or complex Hermitian.
        phi: wave functions.
        beta: β = 1/T ≥ 0.
        tolerance: bound of the terms that are left out, relative to |φ|. Where β is so large that the result is much
            smaller than φ, take several steps with a part of β each.

    Returns:
        (N, d, r), real if V and φ are.

    Raises:
        InputError: as `chebyshev`, or a negative β.
    """
    from scipy.special import ive

    _check(grid, v, phi)
    low, high, _ = _bounds(grid, v)
    must(not isinstance(beta, Tracer), "beta", "be known", "it is traced")
    must(beta >= 0, "beta", "be 0 or positive", f"it is {beta:g}")
    reach = (high - low) / 2 * float(beta)
    order = np.arange(int(10 * reach**0.5) + 40)  # I_k e^{−βR} ≈ e^{−k²/2βR}/√(2πβR) is below rounding beyond
    series = (2.0 - (order == 0)) * ive(order, reach)
    kept = _enough(series, tolerance)
    coefficients = (-1.0) ** order[:kept] * series[:kept]
    return _expansion(grid, v, phi, jnp.asarray(coefficients, np.result_type(phi.dtype, v.dtype)), low, high)


def random_phases(grid: Grid, states: int, count: int, key: PRNGKeyArray) -> Complex[Array, "N d r"]:
    """Vectors χ with independent elements e^{iθ}, so that the expectation of χχ* is the unit matrix.

    Args:
        grid: the grid.
        states: d.
        count: number of vectors.
        key: of `jax.random`.
    """
    theta = jax.random.uniform(key, (grid.size, states, count), grid.hbar.dtype, 0.0, 2 * np.pi)
    return unit_phase(theta)


def thermal_mixture(
    grid: Grid, v: Inexact[Array, "N d d"], temperature: float, start: Inexact[Array, "N d r"], tolerance: float = 1e-14
) -> Mixture:
    """The Gibbs operator as e^{−βĤ/2} Σ_i χ_i χ_i* e^{−βĤ/2}/Tr, by imaginary time.

    Exact where Σ χ_i χ_i* = 1, as for the columns of the unit matrix; an estimate, with a standard error from
    `mean_with_error`, where the χ_i are random (`random_phases`). Its r vectors need not be orthogonal.

    Args:
        grid: the grid.
        v: V(x) + V_b(x) I at its points.
        temperature: T > 0, an energy.
        start: the χ_i.
        tolerance: of `imaginary_time`.

    Returns:
        Mixture with weights ∝ ⟨χ_i, e^{−βĤ} χ_i⟩.

    Raises:
        InputError: a temperature that is not positive, or as `imaginary_time`.
    """
    must(not isinstance(temperature, Tracer), "temperature", "be known", "it is traced")
    must(temperature > 0, "temperature", "be positive", f"it is {temperature:g}")
    cold = imaginary_time(grid, v, start, 0.5 / temperature, tolerance)
    square = jnp.sum(jnp.abs(cold) ** 2, axis=(0, 1))
    return Mixture(grid, cold / jnp.sqrt(square).astype(cold.dtype)[None, None, :], square / jnp.sum(square))


def mean_with_error(f: Mixture, a: Inexact[Array, "N d d"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Tr(A f̂) of a mixture of independent random states, and its standard error, to first order in 1/r.

    Args:
        f: as of `thermal_mixture` with random vectors; at least two.
        a: a Hermitian (matrix) function of x.

    Returns:
        Mean Σ w_i a_i with a_i = ⟨φ_i, A φ_i⟩, and √(r/(r − 1) Σ w_i² (a_i − mean)²).

    Raises:
        InputError: fewer than two states.
    """
    r = f.weights.shape[0]
    must(r >= 2, "f", "have two states at least", f"it has {r}")
    kind = np.result_type(f.vectors.dtype, a.dtype)
    moved = jnp.einsum("xab,xbi->xai", a.astype(kind), f.vectors.astype(kind))
    each = jnp.sum(jnp.real(f.vectors.conj().astype(kind) * moved), axis=(0, 1))
    w = f.weights / jnp.sum(f.weights)
    mean = jnp.sum(w * each)
    return mean, jnp.sqrt(r / (r - 1) * jnp.sum(w**2 * (each - mean) ** 2))


def _check(grid: Grid, v: Inexact[Array, "N d d"], phi: Inexact[Array, "N d r"]) -> None:
    """Shapes, and memory for five complex copies of φ and three of V."""
    must(v.shape[0] == grid.size, "v", f"have one matrix at each of the {grid.size} points", f"it has {v.shape[0]}")
    but = f"the shapes are {phi.shape} and {v.shape}"
    must(phi.shape[:2] == v.shape[:2], "phi", "have the points and states of `v`", but)
    size = (5.0 * phi.size + 3.0 * v.size) * np.result_type(phi.dtype, np.complex64).itemsize
    must_fit(size, "phi", f"the propagation of {phi.shape[2]} wave functions on {grid.size} points", _FEWER)


def _bounds(grid: Grid, v: Inexact[Array, "N d d"]) -> tuple[float, float, float]:
    """Energies between which all levels lie, and ħ, as numbers."""
    known = not any(isinstance(a, Tracer) for a in (grid.hbar, grid.masses, v))
    must(known, "v", "be known, as ħ and the masses", "they are traced", "Use `split`, or trace `phi` alone.")
    levels = np.linalg.eigvalsh(np.asarray(v))
    hbar = float(grid.hbar)
    reach = (np.pi * hbar * (np.array(grid.points) - 1) / np.array(grid.points) / np.array(grid.steps)) ** 2
    kinetic = float(np.sum(reach / (2 * np.asarray(grid.masses))))
    low, high = float(levels.min()), float(levels.max()) + kinetic
    return low, high + 1e-12 * max(abs(low), abs(high), 1e-300), hbar


def _enough(series: np.ndarray, tolerance: float) -> int:
    """How many terms leave less than the tolerance; a multiple of 16, so that similar times share a program."""
    must(0 < tolerance < 1, "tolerance", "lie between 0 and 1", f"it is {tolerance:g}")
    rest = np.cumsum(np.abs(series[::-1]))[::-1]  # Σ_{k ≥ n}
    needed = max(int(np.sum(rest >= tolerance)), 2)
    return min(-(-needed // 16) * 16, len(series))


def _expansion(grid, v, phi, coefficients, low, high):
    """The series on the device, with the bounds as arrays: other values need no other program."""
    kind = np.result_type(phi.dtype, v.dtype)
    return _series(grid, v.astype(kind), phi.astype(kind), coefficients, *jnp.asarray([low, high], grid.hbar.dtype))


@eqx.filter_jit
def _series(grid, v, phi, coefficients, low, high):
    """Σ_k a_k T_k((Ĥ − c)/R) φ by T_{k+1} = 2x T_k − T_{k−1}; in real numbers where φ and V are."""
    centre, half, kinetic = ((low + high) / 2).astype(v.dtype), ((high - low) / 2).astype(v.dtype), grid.kinetic

    def apply(phi):
        moved = grid.apply_function(phi, kinetic)
        moved = moved if jnp.iscomplexobj(phi) else jnp.real(moved)
        return (moved + jnp.einsum("xab,xbr->xar", v, phi) - centre * phi) / half

    def term(carry, a):
        before, now, total = carry
        after = 2 * apply(now) - before
        return (now, after, total + a * after.astype(a.dtype)), None

    first = apply(phi)
    total = coefficients[0] * phi.astype(coefficients.dtype) + coefficients[1] * first.astype(coefficients.dtype)
    return lax.scan(term, (phi, first, total), coefficients[2:])[0][2]
