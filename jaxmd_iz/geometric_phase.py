"""Eigenvectors that stay smooth around a conical intersection, and the phase that they gather: (5.25)–(5.28).

Two real states: Ψ of (5.25) turns by half the angle α, so that one function Ψ(x) must jump somewhere on every loop
around r = 0. Two charts with cuts on opposite rays cover all x with r ≠ 0. Any number of states, real or complex:
parallel transport along a path, ⟨ψ_k, dψ_k⟩ = 0, and the Berry phase of a closed one.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, Int

from jaxmd_iz import eigen
from jaxmd_iz.checks import must, must_traced
from jaxmd_iz.potentials.base import AbstractMovingFrame, AbstractPotential, matrix_total
from jaxmd_iz.space import AbstractSpace

CHARTS = (0, 1)
LEAST_OVERLAP = 0.5  # of one state with itself over one step of a path


def mixing_angle(v: Inexact[Array, "*b d d"], chart: int = 0) -> Float[Array, "*b"]:
    """α of (5.26), (cos α, sin α) = (ṽ, v₁₂)/r: atan2(v₁₂, ṽ), or atan2(−v₁₂, −ṽ) + π in chart 1.

    Both have ∇α = (ṽ∇v₁₂ − v₁₂∇ṽ)/r²; they are equal for v₁₂ > 0 and differ by 2π for v₁₂ < 0.

    Args:
        v: (…, 2, 2) real symmetric, an energy.
        chart: 0 with the cut on ṽ < 0, α in (−π, π]; 1 with the cut on ṽ > 0, α in (0, 2π].

    Returns:
        α (…); at r = 0, where it is not defined, the middle of the chart, with zero slope.

    Raises:
        InputError: v that is not a real 2 × 2 matrix, or another chart.
    """
    is_two_level = v.shape[-2:] == (2, 2) and not jnp.iscomplexobj(v)
    must(is_two_level, "v", "be a real 2 × 2 matrix", f"it is {v.dtype}, {v.shape}")
    must(chart in CHARTS, "chart", "be 0 or 1", f"it is {chart}")
    half, off = eigen.half_difference(v)
    sign = 1.0 - 2.0 * chart
    crossing = (half == 0) & (off == 0)
    off = jnp.where(crossing, 0.0, sign * off)
    return jnp.arctan2(off, jnp.where(crossing, 1.0, sign * half)) + math.pi * chart


def chart_of(v: Float[Array, "*b 2 2"]) -> Int[Array, "*b"]:
    """The chart whose cut is the farther: 0 for ṽ ≥ 0, 1 for ṽ < 0."""
    return (eigen.half_difference(v)[0] < 0).astype(int)


def eigenvectors_in_chart(v: Inexact[Array, "*b d d"], chart: int = 0) -> Float[Array, "*b 2 2"]:
    """Ψ of (5.25), smooth off the cut of the chart: columns [−sin α/2, cos α/2] (λ₋) and [cos α/2, sin α/2] (λ₊).

    On v₁₂ > 0 the charts agree, on v₁₂ < 0 they differ by the sign −1: the Berry phase π of a loop around r = 0.

    Args:
        v: (…, 2, 2) real symmetric.
        chart: 0 or 1, as in `mixing_angle`.

    Returns:
        Ψ (…, 2, 2).

    Raises:
        InputError: as in `mixing_angle`.
    """
    alpha = mixing_angle(v, chart)
    c, s = jnp.cos(alpha / 2), jnp.sin(alpha / 2)
    return jnp.stack([jnp.stack([-s, c], axis=-1), jnp.stack([c, s], axis=-1)], axis=-2)


def _overlaps(one: Inexact[Array, "*b N d"], other: Inexact[Array, "*b N d"]) -> Inexact[Array, "*b d"]:
    """⟨ψ_k, ψ′_k⟩ of each state."""
    return jnp.sum(one.conj() * other, axis=-2)


def _unit(z: Inexact[Array, "*b"]) -> Inexact[Array, "*b"]:
    """z/|z|, 1 at z = 0."""
    if not jnp.iscomplexobj(z):
        return jnp.where(z < 0, -1.0, 1.0).astype(z.dtype)
    nothing = z == 0
    z = jnp.where(nothing, 1.0, z)
    return z / jnp.sqrt(jnp.real(z) ** 2 + jnp.imag(z) ** 2).astype(z.dtype)


def smooth_frame(v: Inexact[Array, "d d"], near: Inexact[Array, "d d"]) -> Inexact[Array, "d d"]:
    """The eigenvectors of V in the phases that make ⟨near_k, ψ_k⟩ real and positive: the frame continuous with `near`.

    Smooth in v as long as levels stay distinct and no state becomes orthogonal to its reference.

    Args:
        v: (d, d) Hermitian.
        near: (d, d) reference vectors in columns, such as the frame at a neighbouring x.

    Returns:
        Ψ (d, d), columns in ascending order of the levels.
    """
    psi = eigen.eigh(v)[1]
    return psi * _unit(_overlaps(near, psi)).conj()[None, :]


def follow(vs: Inexact[Array, "L d d"], start: Inexact[Array, "d d"] | None = None) -> Inexact[Array, "L d d"]:
    """Parallel transport of the eigenvectors along a path of matrices: ⟨ψ_k(i), ψ_k(i + 1)⟩ real and positive.

    Args:
        vs: (L, d, d) Hermitian, with distinct levels and steps so short that no state turns far in one of them.
        start: (d, d) the phases of the first frame are those continuous with it; arbitrary if left out.

    Returns:
        Ψ (L, d, d). On a closed path the last frame is the first times e^{iγ_k}, γ of `loop_phase`.
    """
    psi = jax.vmap(eigen.eigh)(vs)[1]
    first = jnp.ones_like(psi[:1, 0, :]) if start is None else _unit(_overlaps(start, psi[0]))[None]
    turns = jnp.concatenate([first, _unit(_overlaps(psi[:-1], psi[1:]))])
    return psi * jnp.cumprod(turns.conj(), axis=0)[:, None, :]


def loop_phase(frames: Inexact[Array, "L N d"]) -> Float[Array, " d"]:
    """Phase gathered on a closed path: γ_k = −arg Π_i ⟨ψ_k(i), ψ_k(i + 1)⟩, the last frame followed by the first.

    It does not depend on the phases of the ψ_k(i). It is exact for the polygon of geodesics through the frames, and
    off by O(L⁻²) for a smooth loop.

    Args:
        frames: (L, N, d) eigenvectors in columns, in one orthonormal basis of N states; the first not repeated.

    Returns:
        γ (d,) in (−π, π]; 0 or π for real vectors.
    """
    product = jnp.prod(_unit(_overlaps(frames, jnp.roll(frames, -1, axis=0))), axis=0)
    if not jnp.iscomplexobj(product):
        return jnp.where(product < 0, math.pi, 0.0).astype(product.dtype)
    phase = -jnp.angle(product)
    return jnp.where(phase <= -math.pi, -phase, phase)


def berry_phase(
    potential: AbstractPotential,
    loop: Float[Array, "L n D"],
    space: AbstractSpace,
    species: Int[Array, " n"] | None = None,
    states: tuple[int, ...] | None = None,
) -> Float[Array, " d"]:
    """Berry phase of the eigenvectors of V(x) along a loop of configurations, γ_k = −arg Π ⟨ψ_k, ψ_k′⟩.

    π for a real two-state V on a loop around one conical intersection; for a complex V any number.

    Args:
        potential: Vⁿ(x); the basis of an `AbstractMovingFrame` is taken along.
        loop: (L, n, D) positions, a length; the first is not repeated at the end.
        space: in which the bonds are taken.
        species: (n,) numbers from 0; all 0 by default.
        states: the states wanted, in ascending order of the levels; all by default.

    Returns:
        γ in (−π, π], one a state.

    Raises:
        InputError: fewer than three configurations, or a state that there is not.
        equinox.EquinoxRuntimeError: a step over which one of the states changes so much that the phase is not
            defined: a loop that is too coarse, or passes through an intersection.
    """
    count, n, _ = loop.shape
    must(count > 2, "loop", "hold at least three configurations", f"it holds {count}")
    d = potential.states
    wanted = tuple(range(d)) if states is None else states
    must(all(0 <= k < d for k in wanted), "states", f"be among 0 … {d - 1}", f"they are {wanted}")
    kinds = jnp.zeros(n, int) if species is None else species

    def frame(x):
        e = space.edges(x, kinds)
        psi = eigen.eigh(matrix_total(potential, e))[1]
        if isinstance(potential, AbstractMovingFrame):
            psi = potential.frame(e).astype(psi.dtype) @ psi
        return psi[:, np.array(wanted)]

    frames = jax.lax.map(frame, loop, batch_size=min(count, 64))
    kept = jnp.abs(_overlaps(frames, jnp.roll(frames, -1, axis=0)))
    frames = must_traced(
        frames,
        kept < LEAST_OVERLAP,
        "Argument `loop` must have steps over which every state keeps at least half its overlap with itself, but one "
        "does not: take more configurations, keep away from intersections, or name other `states`.",
    )
    return loop_phase(frames)
