"""The adiabatic frame on a grid: Ψ(x), Ψ*#H#Ψ with all its terms, its diagonal part, remainders: (5.2)–(5.15).

Ψ is smooth, so that Ψ*φ is resolved where φ is; on the whole periodic box it need not be periodic, and what is said of
operators holds on states that vanish at the edge. ħ = M^{−1/2} with masses of order one gives the forms of section 5.
"""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Complex, Float, Inexact

from jaxmd_iz.checks import fail, must
from jaxmd_iz.quantum import conservation
from jaxmd_iz.quantum.conservation import Energies
from jaxmd_iz.quantum.densities import Hamiltonian
from jaxmd_iz.quantum.grid import Grid
from jaxmd_iz.quantum.spectrum import Mixture

#: Gauss–Legendre nodes between two points of the grid, for the phase of complex eigenvectors.
NODES = 6
#: The largest turn of α, or of an eigenvector, from one point to the next.
LARGEST_TURN = np.pi / 3


class Frame(eqx.Module):
    """Smooth Ψ(x) at the points of a grid, columns in ascending order of the levels, and D = Ψ*∇Ψ."""

    grid: Grid
    psi: Inexact[Array, "N d d"]
    coupling: Inexact[Array, "N C d d"]  # D_lk = ⟨ψ_l, ∂_cψ_k⟩, anti-Hermitian


class InFrame(eqx.Module):
    """φ ↦ Ψ*ĤΨφ of an operator Ĥ that acts on wave functions."""

    frame: Frame
    inner: Callable

    def __call__(self, phi: Inexact[Array, "N d r"]) -> Complex[Array, "N d r"]:
        """Ψ*ĤΨφ of wave functions."""
        return into_frame(self.frame, self.inner(out_of_frame(self.frame, phi)))


def smooth_frame(grid: Grid, potential: Callable) -> Frame:
    """Eigenvectors of V(x) that are smooth along the grid.

    Two real states: (5.25) with α of (5.26) unwrapped, [−sin α/2, cos α/2], [cos α/2, sin α/2], for one or two
    coordinates. Any other V, in one: parallel transport ⟨ψ_k, ψ_k′⟩ = 0 from the first point on, to rounding.

    Args:
        grid: the grid.
        potential: x (C,) ↦ V(x) (d, d) Hermitian, differentiable; V + (κħ²/m)G of `corrected` for (5.3).

    Returns:
        Frame.

    Raises:
        InputError: levels that coincide, a crossing that α winds around, a grid too coarse for the turns of the
            eigenvectors, or two coordinates with more than two states or complex V.
    """
    v, slope = _with_slopes(potential, grid.x)
    if v.shape[-1] == 2 and not jnp.iscomplexobj(v):
        return _two_states(grid, v, slope)
    if grid.coordinates > 1:
        fail(
            "potential", "be a real 2 × 2 matrix in two coordinates", f"it is {v.dtype}, {v.shape[-1]} × {v.shape[-1]}"
        )
    return _transported(grid, v, slope, potential)


def into_frame(frame: Frame, phi: Inexact[Array, "N d r"]) -> Inexact[Array, "N d r"]:
    """Ψ*φ of wave functions."""
    kind = np.result_type(frame.psi.dtype, phi.dtype)
    return jnp.einsum("xba,xbr->xar", frame.psi.conj().astype(kind), phi.astype(kind))


def out_of_frame(frame: Frame, phi: Inexact[Array, "N d r"]) -> Inexact[Array, "N d r"]:
    """Ψφ of wave functions."""
    kind = np.result_type(frame.psi.dtype, phi.dtype)
    return jnp.einsum("xab,xbr->xar", frame.psi.astype(kind), phi.astype(kind))


def rotated(frame: Frame, f: Mixture) -> Mixture:
    """Ψ*f̂Ψ, the density operator seen in the adiabatic frame: Tr(ΨÂΨ* f̂) = Tr(Â Ψ*f̂Ψ)."""
    return Mixture(f.grid, into_frame(frame, f.vectors), f.weights)


def transformed_hamiltonian(frame: Frame, v: Inexact[Array, "N d d"]) -> dict[tuple[int, ...], Inexact[Array, "N d d"]]:
    """Ψ*#H#Ψ = Σ_c (p_c²/2m_c − iħ p_c Ψ*∂_cΨ/m_c + (ħ²/2m_c) ∂_cΨ*∂_cΨ) + Ψ*VΨ, with all its terms (5.1).

    In print the first-order term is missing and the last coefficient is 1/4M.

    Args:
        frame: Ψ.
        v: V + V_b I at the points.

    Returns:
        {powers of p: coefficient}, a `weyl.Terms`.
    """
    grid, kind = frame.grid, np.result_type(frame.psi.dtype, np.complex64)
    psi, d = frame.psi.astype(kind), frame.coupling.astype(kind)
    hbar, mass = grid.hbar.astype(kind), grid.masses.astype(kind)
    terms = {(0,) * grid.coordinates: _dagger(psi) @ v.astype(kind) @ psi}
    for c in range(grid.coordinates):
        once, twice = (tuple(power * (a == c) for a in range(grid.coordinates)) for power in (1, 2))
        terms[twice] = jnp.broadcast_to(jnp.eye(psi.shape[-1], dtype=kind)[None] / (2 * mass[c]), psi.shape)
        terms[once] = jnp.asarray(-1j, kind) * hbar / mass[c] * d[:, c]
        here = (0,) * grid.coordinates
        terms[here] = terms[here] + hbar**2 / (2 * mass[c]) * (_dagger(d[:, c]) @ d[:, c])
    return terms


def corrected(grid: Grid, partition: Callable, kappa: float) -> Callable:
    """x ↦ Wⁿ = Vⁿ + Σ_{c of n} (κħ²/m_c) Ψ₀∂_cΨ₀*∂_cΨ₀Ψ₀*, Ψ₀ the eigenvectors of V: (5.3), (5.6).

    Args:
        grid: gives ħ and the masses.
        partition: x (C,) ↦ Vⁿ(x) (n, d, d) Hermitian, differentiable, with distinct levels.
        kappa: κ = 0, ¼ as printed, or ½.
    """

    def total(x):
        return jnp.sum(partition(x), axis=0)

    def of(x):
        parts, slope = partition(x), jnp.moveaxis(jax.jacfwd(total)(x), -1, 0)
        levels, psi = jnp.linalg.eigh(jnp.sum(parts, axis=0), symmetrize_input=False)
        d = _couplings(levels, psi, slope)
        g = psi[None] @ _dagger(d) @ d @ _dagger(psi)[None]
        g = g * (kappa * grid.hbar**2 / grid.masses).astype(g.dtype)[:, None, None]
        return parts + jnp.sum(g.reshape(parts.shape[0], -1, *g.shape[1:]), axis=1)

    return of if kappa else partition


def adiabatic_energies(
    grid: Grid, partition: Callable, external: Callable | None = None, kappa: float = 0.25
) -> Energies:
    """Λ̄ⁿ = diag⟨Ψ_k, WⁿΨ_k⟩ of (5.6) with their gradients, Ψ the eigenvectors of W = ΣWⁿ.

    Args:
        grid: the grid.
        partition: x (C,) ↦ Vⁿ(x) (n, d, d).
        external: x (C,) ↦ V_b(x); 0 by default.
        kappa: κ of `corrected`.

    Returns:
        Energies with diagonal matrices, for `conservation`; their `v` is Λ̄ + V_b I.
    """
    w = corrected(grid, partition, kappa)

    def diagonal(x):
        parts = w(x)
        psi = jnp.linalg.eigh(jnp.sum(parts, axis=0), symmetrize_input=False)[1]
        own = jnp.real(jnp.einsum("ak,nab,bk->nk", psi.conj(), parts, psi))
        return jax.vmap(jnp.diag)(own)

    return conservation.energies(grid, diagonal, external)


def diagonal_hamiltonian(of: Energies) -> dict[tuple[int, ...], Inexact[Array, "N d d"]]:
    """H̄ = (Σ p_c²/2m_c + V_b) I + Λ̄ of (5.5), as a `weyl.Terms`.

    Args:
        of: `adiabatic_energies`.
    """
    grid = of.grid
    terms = {(0,) * grid.coordinates: of.v}
    for c in range(grid.coordinates):
        unit = jnp.eye(of.v.shape[-1], dtype=of.v.dtype)[None] / (2 * grid.masses[c]).astype(of.v.dtype)
        terms[tuple(2 * (a == c) for a in range(grid.coordinates))] = jnp.broadcast_to(unit, of.v.shape)
    return terms


def adiabatic_law_terms(
    frame: Frame,
    f: Mixture,
    v: Inexact[Array, "N d d"],
    of: Energies,
    y: Float[Array, "Y D"],
    eta: Callable,
    bond: Callable,
    block: int = 64,
) -> tuple[Array, Array, Array]:
    """The terms of (5.8), (5.14), (5.15): symbols diagonal in the adiabatic frame, motion by the exact Ĥ.

    Their sum over terms is O(M^{−3/2}) in print; it is O(M⁻¹) by the first-order term of `transformed_hamiltonian`, and
    in the energy law M^{−1/2} as long as a start from a symbol that is diagonal, without its order ħ, is remembered.

    Args:
        frame: Ψ.
        f: the density operator in the diabatic basis.
        v: V + V_b I in that basis.
        of: `adiabatic_energies`.
        y, eta, bond, block: as in `conservation.law_terms`.

    Returns:
        As `conservation.law_terms`.
    """
    moves = InFrame(frame, Hamiltonian(frame.grid, v))
    return conservation.law_terms(rotated(frame, f), of, y, eta, bond, moves, block)


def _dagger(a: Inexact[Array, "*s a b"]) -> Inexact[Array, "*s b a"]:
    return a.conj().swapaxes(-1, -2)


def _with_slopes(function, x):
    """f and ∂_cf of (d, d) matrices at all points, (N, d, d) and (N, C, d, d)."""

    def of(x):
        return function(x), jnp.moveaxis(jax.jacfwd(function)(x), -1, 0)

    return jax.jit(jax.vmap(of))(x)


@jax.jit
def _couplings(levels, psi, slope):
    """D_lk = ⟨ψ_l, (∂_cV)ψ_k⟩/(λ_k − λ_l), 0 for l = k, of (…, d), (…, d, d), (…, C, d, d)."""
    gap = levels[..., None, :] - levels[..., :, None]
    same = np.eye(levels.shape[-1], dtype=bool)
    same = same.reshape((1,) * (gap.ndim - 2) + same.shape)
    inverse = jnp.where(same, 0.0, 1 / jnp.where(same, 1.0, gap)).astype(psi.dtype)
    moved = _dagger(psi)[..., None, :, :] @ slope.astype(psi.dtype) @ psi[..., None, :, :]
    return moved * inverse[..., None, :, :]


def _two_states(grid, v, slope):
    alpha, psi, coupling, crossing = _by_angle(v, slope, grid.points)
    if not isinstance(crossing, Tracer):
        must(not bool(crossing), "potential", "have distinct levels on the grid", "two coincide at a point")
        turn = max(float(jnp.max(jnp.abs(jnp.diff(alpha, axis=c)))) for c in range(grid.coordinates))
        but, remedy = f"α jumps by {turn:.2g}", "Take more points, or a box without the crossing."
        must(turn < LARGEST_TURN, "grid", "follow α, which must not wind around a crossing", but, remedy)
    return Frame(grid, psi, coupling)


@functools.partial(jax.jit, static_argnums=2)
def _by_angle(v, slope, points):
    """α unwrapped, Ψ, D, and whether the levels coincide anywhere."""
    half, off = (v[:, 0, 0] - v[:, 1, 1]) / 2, v[:, 0, 1]
    r2 = half**2 + off**2
    alpha = jnp.arctan2(off, half).reshape(points)  # (5.26)
    for c in range(len(points)):
        alpha = jnp.unwrap(alpha, axis=c)
    c, s = jnp.cos(alpha.reshape(-1) / 2), jnp.sin(alpha.reshape(-1) / 2)
    psi = jnp.stack([jnp.stack([-s, c], axis=-1), jnp.stack([c, s], axis=-1)], axis=-2)  # (5.25), λ₋ first
    ascent = half[:, None] * slope[:, :, 0, 1] - off[:, None] * (slope[:, :, 0, 0] - slope[:, :, 1, 1]) / 2
    turn = jnp.asarray([[0.0, 0.5], [-0.5, 0.0]], v.dtype)[None, None]
    coupling = (ascent / jnp.where(r2 > 0, r2, 1.0)[:, None])[:, :, None, None] * turn  # ½∇α
    return alpha, psi, coupling, jnp.any(r2 == 0)


def _transported(grid, v, slope, potential):
    levels, psi = jnp.linalg.eigh(v, symmetrize_input=False)
    if not isinstance(levels, Tracer):
        near = float(jnp.min(jnp.diff(levels, axis=1), initial=jnp.inf))
        must(
            near > 1e-12 * float(jnp.max(jnp.abs(levels))),
            "potential",
            "have distinct levels on the grid",
            "two coincide at a point",
        )
    overlap = jnp.sum(psi[:-1].conj() * psi[1:], axis=1)
    if not isinstance(overlap, Tracer):
        least = float(jnp.min(jnp.abs(overlap)))
        must(least > np.cos(LARGEST_TURN), "grid", "follow the eigenvectors", f"one keeps {least:.2g} of itself")
    step = overlap / jnp.abs(overlap).astype(overlap.dtype)
    if jnp.iscomplexobj(v):
        step = step * _phase(grid, psi[:-1], potential)
    turns = jnp.concatenate([jnp.ones_like(step[:1]), jnp.cumprod(step.conj(), axis=0)])
    psi = psi * turns[:, None, :]
    return Frame(grid, psi, _couplings(levels, psi, slope))


def _phase(grid, start, potential):
    """e^{iθ} by which parallel transport over one step differs from ⟨ψ(x_i), ψ⟩ > 0, to rounding.

    With ψ̃ in the phase of ⟨ψ(x_i), ψ̃⟩ > 0 and ψ_∥′ = Σ_{l≠k} ψ_l D_lk: ⟨ψ̃, ψ̃′⟩ = −i Im⟨ψ(x_i), ψ_∥′⟩/⟨ψ(x_i), ψ̃⟩.
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)

    def turn(x, start):
        levels, psi = jnp.linalg.eigh(potential(x), symmetrize_input=False)
        overlap = jnp.sum(start.conj() * psi, axis=0)
        psi = psi * (jnp.abs(overlap).astype(psi.dtype) / overlap)[None, :]
        along = psi @ _couplings(levels, psi, jnp.moveaxis(jax.jacfwd(potential)(x), -1, 0))[0]
        return jnp.imag(jnp.sum(start.conj() * along, axis=0)) / jnp.abs(overlap)

    h = grid.steps[0]
    x = grid.x[None, :-1] + jnp.asarray((1 + nodes) / 2 * h, grid.x.dtype)[:, None, None]
    turns = jax.jit(jax.vmap(jax.vmap(turn), (0, None)))(x, start)
    total = -h / 2 * jnp.tensordot(jnp.asarray(weights, turns.dtype), turns, axes=1)
    return jnp.exp(jax.lax.complex(jnp.zeros_like(total), total))
