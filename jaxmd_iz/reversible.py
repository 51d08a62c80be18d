"""Gradients of long trajectories: velocity Verlet in whole numbers, which runs backwards bit for bit.

Positions and displacements per step are whole multiples of a small length, so that a step back undoes a step exactly
and nothing has to be kept on the way; the adjoint of the steps is carried along on the way back. The idea of whole
numbers is that of D. Levesque and L. Verlet, J. Stat. Phys. 72, 519 (1993). And `checkpointed` loops for any scheme.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

BLOCK = 32  # steps, or blocks of steps, whose states are kept together: 32 log₃₂(steps) states in all


def checkpointed(step: Callable, state, first: int, steps: int):
    """The loop state ← step(state, i), i = first, first + 1, …, whose derivatives keep few states.

    Blocks of blocks of `BLOCK` steps are run again on the way back: once for each level, of which there are
    log₃₂(steps). Forward mode passes through too.

    Args:
        step: (state, i) ↦ state.
        state: pytree of arrays.
        first: number of the first step.
        steps: how many.
    """

    def run(state, first, steps):
        length = 1
        while length * BLOCK < steps:
            length *= BLOCK
        block = jax.checkpoint(step if length == 1 else partial(run, steps=length))

        def body(state, k):
            return block(state, first + k * length), None

        count, rest = divmod(steps, length)
        state, _ = lax.scan(body, state, jnp.arange(count))
        return run(state, first + count * length, rest) if rest else state

    return run(state, jnp.asarray(first), steps) if steps else state


class _Whole(NamedTuple):
    """A phase point in whole numbers: x = unit · at, p = M unit · per_step / (2^fraction · step)."""

    at: Int[Array, "n D"]
    per_step: Int[Array, "n D"]


def reversible(
    force: Callable,
    masses: Float[Array, " n"],
    step: float | Float[Array, ""],
    x: Float[Array, "n D"],
    p: Float[Array, "n D"],
    steps: int,
) -> tuple[Float[Array, "n D"], Float[Array, "n D"]]:
    """Velocity Verlet whose gradients take memory that does not grow with the number of steps.

    The last phase point differs from that of `VelocityVerlet` by rounding alone: positions are rounded to 2⁻⁴⁸ of their
    largest in double precision, 2⁻²⁴ in single. Reverse mode alone; forward mode needs little memory in any loop.

    Args:
        force: x ↦ F(x); may depend on traced parameters, which get gradients too.
        masses: (n,).
        step: time step.
        x, p: (n, D).
        steps: static.

    Returns:
        x, p after `steps` steps.

    Raises:
        RuntimeError: a particle that moves 2⁷ times further in single precision, 2¹⁴ in double, than the largest |x| at
            the start, or on the way back a force that is not the same bit for bit as on the way there.
    """
    moved = eqx.filter_closure_convert(force, x), masses, jnp.asarray(step, x.dtype), x, p
    return _run(moved, steps)


@eqx.filter_custom_vjp
def _run(moved, steps):
    return _forward(None, moved, steps)[0]


def _sizes(dtype):
    """Type of the whole numbers, and bits of positions and further bits of displacements."""
    return (jnp.int64, 48, 12) if dtype == jnp.float64 else (jnp.int32, 24, 5)


def _drifted(whole: _Whole, fraction: int, sign: int) -> _Whole:
    shift = (whole.per_step + (1 << (fraction - 1))) >> fraction
    return whole._replace(at=whole.at + sign * shift)


def _kick(scale):
    """Whole displacement per step that a force adds: `scale` = step² / (M unit) 2^fraction."""
    return lambda f, part: jnp.round(part * scale * f).astype(_sizes(f.dtype)[0])


def _isolated(force, at, x):
    """F(x), compiled as a loop of its own, so that it has the same bits wherever it is used."""
    once = 1 + (at.reshape(-1)[0] == jnp.iinfo(at.dtype).min).astype(jnp.int32)  # 1, but the compiler cannot know
    return lax.fori_loop(0, once, lambda _, f: force(x), jnp.zeros_like(x))


def _scales(force, masses, step, x, p):
    """The unit of length (a power of 2) and `scale` of `_kick`."""
    bits, fraction = _sizes(x.dtype)[1:]
    m = masses.astype(x.dtype)[:, None]
    first = jnp.abs(step * p / m) + jnp.abs(step**2 * force(x) / m)
    span = jnp.maximum(jnp.max(jnp.abs(x)) + jnp.max(first), jnp.finfo(x.dtype).tiny * 2.0**bits)
    _, exponent = jnp.frexp(span)
    unit = jnp.ldexp(jnp.ones((), x.dtype), exponent - bits)
    return unit, step**2 / (m * unit) * 2.0**fraction


def _position(whole, unit):
    return whole.at.astype(unit.dtype) * unit


def _momentum(whole, unit, masses, step):
    fraction = _sizes(unit.dtype)[2]
    return whole.per_step.astype(unit.dtype) * (unit / 2.0**fraction / step) * masses.astype(unit.dtype)[:, None]


def _forward(perturbed, moved, steps):
    del perturbed
    force, masses, step, x, p = moved
    kind, _, fraction = _sizes(x.dtype)
    unit, scale = _scales(force, masses, step, x, p)
    kick = _kick(scale)
    per_step = step * p / masses.astype(x.dtype)[:, None] / unit * 2.0**fraction
    start = _Whole(jnp.round(x / unit).astype(kind), jnp.round(per_step).astype(kind))

    def kicked(whole, part):
        f = _isolated(force, whole.at, _position(whole, unit))
        return whole._replace(per_step=whole.per_step + kick(f, part))

    def body(i, carry):
        whole, furthest = carry
        whole = _drifted(whole, fraction, 1)
        furthest = jnp.maximum(furthest, jnp.max(jnp.abs(whole.at)))
        return kicked(whole, jnp.where(i == steps - 1, 0.5, 1.0).astype(x.dtype)), furthest

    if steps:
        begin = kicked(start, jnp.asarray(0.5, x.dtype)), jnp.zeros((), kind)
        last, furthest = lax.fori_loop(0, steps, body, begin)
    else:
        last, furthest = start, jnp.zeros((), kind)
    far = furthest > jnp.iinfo(kind).max // 2
    sentence = (
        "Argument `x` must stay within what whole numbers can hold, but a particle went too far from where it started: "
        "take a smaller step, or another `gradient` than `reversible`."
    )
    last = eqx.error_if(last, far, sentence)
    found = _position(last, unit), _momentum(last, unit, masses, step)
    return found, (start, last, unit, scale)


def _backward(kept, slopes, perturbed, moved, steps):
    start, last, unit, scale = kept
    force, masses, step, x, p = moved
    numbers, rest = eqx.partition(force, perturbed[0])
    slopes = [jnp.zeros_like(a) if s is None else s for a, s in zip((x, p), slopes, strict=True)]
    fraction = _sizes(unit.dtype)[2]
    kick = _kick(scale)
    m = masses.astype(unit.dtype)[:, None]

    def unkicked(whole, to, part):
        """Undo p ← p + part step F(x), and take the slopes through it."""
        x = _position(whole, unit)
        f = _isolated(force, whole.at, x)
        back = jax.vjp(lambda x, c: eqx.combine(c, rest)(x), x, numbers)[1](part * step * to["p"])
        to = to | {
            "x": to["x"] + back[0],
            "numbers": jax.tree.map(jnp.add, to["numbers"], back[1]),
            "step": to["step"] + part * jnp.sum(f * to["p"]),
        }
        return whole._replace(per_step=whole.per_step - kick(f, part)), to

    def undrifted(whole, to):
        """Undo x ← x + step p / M."""
        p = _momentum(whole, unit, masses, step)
        to = to | {
            "p": to["p"] + step * to["x"] / m,
            "step": to["step"] + jnp.sum(p / m * to["x"]),
            "masses": to["masses"] - jnp.sum(step * p / m**2 * to["x"], axis=1),
        }
        return _drifted(whole, fraction, -1), to

    def body(i, carry):
        part = jnp.where(i == 0, 0.5, 1.0).astype(unit.dtype)
        return undrifted(*unkicked(*carry, part))

    zero = jax.tree.map(jnp.zeros_like, (numbers, masses.astype(unit.dtype), step))
    to = {"x": slopes[0], "p": slopes[1]} | dict(zip(("numbers", "masses", "step"), zero, strict=True))
    if steps:
        whole, to = lax.fori_loop(0, steps, body, (last, to))
        whole, to = unkicked(whole, to, jnp.asarray(0.5, unit.dtype))
        lost = jnp.any(whole.at != start.at) | jnp.any(whole.per_step != start.per_step)
        sentence = (
            "Argument `force` must give the same bits on the way back, but the trajectory did not return to its start: "
            "take another `gradient` than `reversible`."
        )
        to = eqx.error_if(to, lost, sentence)
    return to["numbers"], to["masses"].astype(masses.dtype), to["step"], to["x"], to["p"]


_run.def_fwd(_forward)
_run.def_bwd(_backward)
