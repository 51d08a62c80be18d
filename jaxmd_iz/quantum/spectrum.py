"""Exact levels of Ĥ = Σ p̂²/2m + V(x) on a Fourier grid, functions of Ĥ, and density operators as mixtures of states.

f̂ = Σ_i w_i |φ_i⟩⟨φ_i| holds both the Gibbs operator e^{−βĤ} and the Weyl quantisation of a Gibbs symbol.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Complex, Float, Inexact, Int

from jaxmd_iz.checks import must
from jaxmd_iz.quantum.grid import Grid, must_fit


class Spectrum(eqx.Module):
    """Eigenvalues of Ĥ in ascending order, and eigenvectors on the grid, orthonormal as vectors."""

    grid: Grid
    energies: Float[Array, " K"]
    vectors: Inexact[Array, "N d K"]


class Mixture(eqx.Module):
    """A density operator f̂ = Σ_i w_i |φ_i⟩⟨φ_i| of unit trace; weights of a quantised symbol may be negative."""

    grid: Grid
    vectors: Inexact[Array, "N d r"]  # of norm 1
    weights: Float[Array, " r"]


def dense_hamiltonian(grid: Grid, v: Inexact[Array, "N d d"]) -> Inexact[Array, "Nd Nd"]:
    """Ĥ as a matrix, rows and columns in the order (point, state).

    Args:
        grid: the grid.
        v: V(x) + V_b(x) I at its points.

    Raises:
        InputError: values at another number of points, or a matrix beyond the memory of the machine.
    """
    size, d = _sizes(grid, v)
    must_fit(2.0 * (size * d) ** 2 * v.dtype.itemsize, "points", f"a matrix of {size * d} × {size * d}")
    return _with_matrices(grid.kinetic_matrix(), v)


def spectrum(grid: Grid, v: Inexact[Array, "N d d"], cutoff: float | None = None) -> Spectrum:
    """All levels by dense diagonalisation, on the whole grid or on the part of it below an energy.

    With a cutoff E the basis is that of all points where the lowest λ(x) ≤ E, with all their states: what is left out
    is reached by tunnelling only, whatever the couplings are. Leaving out single states with λ_k(x) > E would not do:
    their amplitude in low levels is of order ħ, not exponentially small.

    Derivatives with respect to V and ħ are those of `jnp.linalg.eigh`: the levels have to be distinct.

    Args:
        grid: the grid.
        v: V(x) + V_b(x) I at its points; real or complex Hermitian.
        cutoff: E, an energy; everything is kept by default, as traced values need.

    Returns:
        Spectrum with K = N d, or as many levels as basis functions are kept.

    Raises:
        InputError: values at another number of points, matrices beyond the memory of the machine, a cutoff below the
            lowest λ or with traced values.
    """
    size, d = _sizes(grid, v)
    if cutoff is None:
        # the matrix, the vectors, and the workspace of the solver
        must_fit(5.0 * (size * d) ** 2 * v.dtype.itemsize, "points", f"the diagonalisation of {size * d} levels")
        return _on_grid(grid, v)
    must(not isinstance(v, Tracer), "cutoff", "be None for traced values", "`v` is traced")
    lowest = np.linalg.eigvalsh(np.asarray(v))[:, 0]
    point = np.flatnonzero(lowest <= cutoff)
    must(len(point) > 0, "cutoff", f"be above the lowest λ, {lowest.min():g}", f"it is {cutoff:g}")
    count = len(point) * d
    must_fit((5.0 * count + size * d) * count * v.dtype.itemsize, "cutoff", f"the diagonalisation of {count} levels")
    return _on_points(grid, v, jnp.asarray(point))


@eqx.filter_jit
def _on_grid(grid: Grid, v: Inexact[Array, "N d d"]) -> Spectrum:
    """All levels."""
    energies, vectors = jnp.linalg.eigh(dense_hamiltonian(grid, v), symmetrize_input=False)
    return Spectrum(grid, energies, vectors.reshape(*v.shape[:2], -1))


@eqx.filter_jit
def _on_points(grid: Grid, v: Inexact[Array, "N d d"], point: Int[Array, " P"]) -> Spectrum:
    """All levels of what is left of Ĥ between some of the points."""
    whole = _with_matrices(_kinetic_between(grid, point), v[point])
    energies, inside = jnp.linalg.eigh(whole, symmetrize_input=False)
    kept = inside.reshape(-1, v.shape[1], len(energies))
    return Spectrum(grid, energies, jnp.zeros((*v.shape[:2], len(energies)), v.dtype).at[point].set(kept))


def _sizes(grid: Grid, v: Inexact[Array, "N d d"]) -> tuple[int, int]:
    """N and d."""
    must(v.shape[0] == grid.size, "v", f"have one matrix at each of the {grid.size} points", f"it has {v.shape[0]}")
    return grid.size, v.shape[1]


def _with_matrices(kinetic: Float[Array, "P P"], v: Inexact[Array, "P d d"]) -> Inexact[Array, "Pd Pd"]:
    """T ⊗ I + V."""
    size, d = v.shape[:2]
    whole = jnp.einsum("xy,ab->xayb", kinetic.astype(v.dtype), jnp.eye(d, dtype=v.dtype))
    here = jnp.arange(size)
    return whole.at[here, :, here, :].add(v).reshape(size * d, size * d)


def _kinetic_between(grid: Grid, point: Int[Array, " P"]) -> Float[Array, "P P"]:
    """Σ_a p̂_a²/2m_a between grid points, without the whole matrix of a grid of two coordinates."""
    index = jnp.unravel_index(point, grid.points)
    total = jnp.zeros((len(point), len(point)), grid.hbar.dtype)
    for a in range(grid.coordinates):
        part = grid.momentum_matrix(a, 2) / (2 * grid.masses[a])
        value = part[index[a][:, None], index[a][None, :]]
        for b in range(grid.coordinates):
            if b != a:
                value = jnp.where(index[b][:, None] == index[b][None, :], value, 0.0)
        total = total + value
    return total


def gibbs(of: Spectrum, temperature: float | Float[Array, ""], least: float | None = 1e-15) -> Mixture:
    """The Gibbs operator e^{−βĤ}/Tr e^{−βĤ}.

    Args:
        of: the spectrum of Ĥ.
        temperature: T > 0, an energy.
        least: states with a smaller weight, relative to that of the lowest, are left out; None keeps all, which
            traced values need.

    Returns:
        Mixture of the eigenstates.

    Raises:
        InputError: a temperature that is not positive, or traced values without `least=None`.
    """
    if not isinstance(temperature, Tracer):
        must(bool(temperature > 0), "temperature", "be positive", f"it is {float(temperature):g}")
    factor = jnp.exp(-(of.energies - of.energies[0]) / temperature)
    if least is None:
        return Mixture(of.grid, of.vectors, factor / jnp.sum(factor))
    must(not isinstance(factor, Tracer), "least", "be None for traced values", f"it is {least:g}")
    kept = int(np.sum(np.asarray(factor) >= least))
    return Mixture(of.grid, of.vectors[:, :, :kept], factor[:kept] / jnp.sum(factor[:kept]))


def mixture(grid: Grid, operator: Inexact[Array, "Nd Nd"], states: int, least: float = 1e-15) -> Mixture:
    """A Hermitian operator of trace ≠ 0 as a mixture, by diagonalisation: the quantisation of a Gibbs symbol.

    Args:
        grid: the grid.
        operator: matrix in the order (point, state).
        states: d.
        least: eigenvalues that are smaller, relative to the largest, are left out.
    """
    weights, vectors = jnp.linalg.eigh((operator + operator.conj().T) / 2, symmetrize_input=False)
    kept = np.flatnonzero(np.abs(np.asarray(weights)) >= least * np.max(np.abs(np.asarray(weights))))
    chosen = weights[kept]
    return Mixture(grid, vectors[:, kept].reshape(grid.size, states, -1), chosen / jnp.sum(chosen))


def evolve(of: Spectrum, phi: Inexact[Array, "N d r"], time: float | Float[Array, ""]) -> Inexact[Array, "N d r"]:
    """e^{−iτĤ/ħ} φ exactly, for states within the span of the spectrum.

    Args:
        of: the spectrum of Ĥ.
        phi: wave functions.
        time: τ (t where ħ = 1).

    Returns:
        (N, d, r), complex.
    """
    return _evolve(of, phi, jnp.asarray(time, of.energies.dtype))


@eqx.filter_jit
def _evolve(of, phi, time):
    """The same, compiled for all times."""
    flat = of.vectors.reshape(-1, of.energies.shape[0])
    phase = unit_phase(-of.energies * time / of.grid.hbar)
    kind = np.result_type(flat.dtype, phi.dtype)
    amplitude = flat.conj().T.astype(kind) @ phi.reshape(flat.shape[0], -1).astype(kind)
    return (flat.astype(phase.dtype) @ (phase[:, None] * amplitude.astype(phase.dtype))).reshape(phi.shape)


def unit_phase(angle: Float[Array, "*s"]) -> Complex[Array, "*s"]:
    """e^{i angle}."""
    return jax.lax.complex(jnp.cos(angle), jnp.sin(angle))


def evolved(of: Spectrum, f: Mixture, time: float | Float[Array, ""]) -> Mixture:
    """f̂_τ = e^{−iτĤ/ħ} f̂ e^{iτĤ/ħ}, so that Tr(Â_τ f̂) = Tr(Â f̂_τ)."""
    return Mixture(f.grid, evolve(of, f.vectors, time), f.weights)


@eqx.filter_jit
def elements(of: Spectrum, a: Inexact[Array, "N d d"]) -> Inexact[Array, "K K"]:
    """⟨m| A(x) |n⟩ of an operator that is a (matrix) function of x."""
    kind = np.result_type(a.dtype, of.vectors.dtype)
    vectors = of.vectors.astype(kind)
    moved = jnp.einsum("xab,xbk->xak", a.astype(kind), vectors)
    flat = vectors.reshape(-1, of.energies.shape[0])
    return flat.conj().T @ moved.reshape(flat.shape)


@eqx.filter_jit
def mean(f: Mixture, a: Inexact[Array, "N d d"]) -> Float[Array, ""]:
    """Tr(A f̂)/Tr f̂ of a Hermitian (matrix) function of x."""
    weighted = f.vectors * f.weights.astype(f.vectors.dtype)[None, None, :]
    density = jnp.einsum("xbi,xai->xba", weighted, f.vectors.conj())
    kind = np.result_type(density.dtype, a.dtype)
    total = jnp.sum(f.weights * jnp.sum(jnp.abs(f.vectors) ** 2, axis=(0, 1)))
    return jnp.real(jnp.einsum("xab,xba->", a.astype(kind), density.astype(kind))) / total


def correlation(
    of: Spectrum,
    temperature: float | Float[Array, ""],
    a: Inexact[Array, "K K"],
    b: Inexact[Array, "K K"],
    times: Float[Array, " T"],
) -> Float[Array, " T"]:
    """Re Tr(Â_τ B̂ e^{−βĤ})/Tr e^{−βĤ}, whose classical limit is ⟨A(z_τ) B(z₀)⟩.

    Args:
        of: the spectrum of Ĥ.
        temperature: T > 0, an energy.
        a, b: matrix elements between eigenstates, as of `elements`.
        times: τ.
    """
    return _correlation(of, jnp.asarray(temperature, of.energies.dtype), a, b, times)


@eqx.filter_jit
def _correlation(of, temperature, a, b, times):
    """The same, compiled for all temperatures."""
    above = of.energies - of.energies[0]
    weight = jax.nn.softmax(-above / temperature)
    phase = unit_phase(times[:, None] * (above / of.grid.hbar)[None, :])
    # Σ_mn f_m e^{i(E_m − E_n)τ/ħ} A_mn B_nm
    product = a.astype(phase.dtype) * b.T.astype(phase.dtype)
    weighted = weight.astype(phase.dtype)[None, :] * phase
    return jnp.real(jnp.sum((weighted @ product) * phase.conj(), axis=1))
