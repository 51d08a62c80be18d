"""Sums over all pairs of many small systems at once: each pair once, with the batch as the fastest axis.

What pair forces need of Vⁿ = ½ Σ_m φ_c(r_nm), c a channel: its value, Σ_m φ′_c d and Σ_m b_m φ′_c d, φ′ = ∂φ/∂(r²);
and, for energies that hold ∇V, the sum of `pair_turns`. One system takes the n × n form; a batch under `vmap` goes
through a loop over distances s in the row of particles, n with n + s, of arrays (n, batch): nothing of n × n is
stored and every operation is long and contiguous; or on a GPU through `pair_kernel`. Derivatives are those of the
n × n form.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float, Int

from jaxmd_iz.potentials.base import AbstractPairPotential
from jaxmd_iz.space import AbstractSpace

ROW = 256  # bytes of systems side by side, by measurement: 32 of float64


class Sums(NamedTuple):
    """Over the bonds of every particle, for c channels."""

    value: Float[Array, "c n"]  # ½ Σ_m φ_c, without `level`
    slope: Float[Array, "c n D"]  # Σ_m φ′_c d
    weighted: Float[Array, "c n D"] | None  # Σ_m b_m φ′_c d


def channels(potential: AbstractPairPotential, r2: Array, one: Array, other: Array) -> tuple[Array, ...]:
    """φ of one state, or the mean, half-difference and off-diagonal of two real ones, arrays like r2."""
    if potential.states == 1:
        return (potential.pair(r2, one, other).reshape(r2.shape),)
    return potential.components(r2, one, other)  # type: ignore[attr-defined]


def slopes(phi: Callable, r2: Array) -> tuple[Any, Any]:
    """φ_c and φ′_c."""
    return jax.jvp(phi, (r2,), (jnp.ones_like(r2),))


def curvatures(phi: Callable, r2: Array) -> tuple[Any, Any, Any]:
    """φ_c, φ′_c and φ″_c."""
    (value, slope), (_, curvature) = jax.jvp(lambda s: slopes(phi, s), (r2,), (jnp.ones_like(r2),))
    return value, slope, curvature


# --- the sums -----------------------------------------------------------------------------------------------------


@eqx.filter_custom_jvp
def pair_sums(
    potential: AbstractPairPotential,
    space: AbstractSpace,
    x: Float[Array, "n D"],
    species: Int[Array, " n"],
    b: Float[Array, " n"] | None,
) -> Sums:
    """The sums over all pairs of one system; of many by `vmap` over x and b.

    Args:
        potential: a pair potential of one state, or of two real ones by `components`.
        space: for the nearest images.
        x: (n, D).
        species: (n,).
        b: (n,) weights, or None.

    Returns:
        Sums.
    """
    return _batched_sums(potential, space, x, species, b)


@eqx.filter_custom_jvp
def pair_turns(
    potential: AbstractPairPotential,
    space: AbstractSpace,
    x: Float[Array, "n D"],
    species: Int[Array, " n"],
    b: Float[Array, "n c D"],
) -> Float[Array, "n D"]:
    """Σ_c Σ_m [2φ′_c (Bⁿ_c − Bᵐ_c) + 4φ″_c ((Bⁿ_c − Bᵐ_c)·d) d] over the last c channels: ∇_n Σ_m Σ_c Bᵐ_c·∇_mV_c.

    Args:
        potential, space, x, species: as in `pair_sums`.
        b: (n, c, D) fields B_c, of all channels or of the last ones.

    Returns:
        (n, D).
    """
    return _batched_turns(potential, space, x, species, b)


def _square_derivative(whole, square):
    """Derivatives by those of the n × n form."""

    def rule(primals, tangents):
        potential, space, x, species, b = primals
        moved = (tangents[0], tangents[2], tangents[4])
        slope = eqx.filter_jvp(lambda p, x, b: square(p, space, x, species, b), (potential, x, b), moved)[1]
        # the value as the function gives it: JAX wants the axis of a batch where it has it
        return whole(*primals), slope

    return rule


@custom_vmap
def _batched_sums(potential, space, x, species, b):
    return _square(potential, space, x, species, b)


@custom_vmap
def _batched_turns(potential, space, x, species, b):
    return _square_turns(potential, space, x, species, b)


def _batch_rule(square, loop, kernel):
    """Many systems by a loop of arrays (n, lanes), or by a kernel; by the n × n form if parameters differ."""

    def rule(size, batched, potential, space, x, species, b):
        if any(jax.tree.leaves((batched[0], batched[1], batched[3]))):
            axes = jax.tree.map(lambda t: 0 if t else None, tuple(batched))
            found = jax.vmap(square, axes)(potential, space, x, species, b)
            return found, jax.tree.map(lambda _: True, found)
        x = x if batched[2] else jnp.broadcast_to(x[None], (size, *x.shape))
        if b is not None:
            b = b if batched[4] else jnp.broadcast_to(b[None], (size, *b.shape))
        if jax.default_backend() == "gpu":
            from jaxmd_iz import pair_kernel  # Pallas takes a second to import

            if pair_kernel.takes(potential):
                found = kernel(pair_kernel.tiled_sums, potential, space, x, species, b)
                return found, jax.tree.map(lambda _: True, found)
        rounds = -(-size * x.dtype.itemsize // ROW)
        lanes = -(-size // rounds)
        pick = jnp.minimum(jnp.arange(rounds * lanes), size - 1).reshape(rounds, lanes)

        def some(which):
            place, along = (jax.tree.map(lambda a: jnp.moveaxis(a[which], 0, -1), t) for t in (x, b))
            return jax.tree.map(lambda a: jnp.moveaxis(a, -1, 0), loop(potential, space, place, species, along))

        found = jax.lax.map(some, pick)
        found = jax.tree.map(lambda a: a.reshape(rounds * lanes, *a.shape[2:])[:size], found)
        return found, jax.tree.map(lambda _: True, found)

    return rule


# --- of n × n -----------------------------------------------------------------------------------------------------


def _bonds(space, x, species):
    """d as D arrays (n, n), r², which pairs are bonds, and φ as a function of r² for a potential."""
    n, dim = x.shape
    d = space.wrap(tuple(x[:, None, c] - x[None, :, c] for c in range(dim)))
    here = ~jnp.eye(n, dtype=bool)
    r2 = jnp.where(here, sum(c * c for c in d), 1.0)
    one, other = (jnp.broadcast_to(s, (n, n)) for s in (species[:, None], species[None, :]))
    return d, r2, here, lambda potential: lambda s: channels(potential, s, one, other)


def _square(potential, space, x, species, b):
    """The sums of `pair_sums`."""
    d, r2, here, phi = _bonds(space, x, species)
    value, slope = slopes(phi(potential), r2)
    slope = [jnp.where(here, s, 0.0) for s in slope]
    half = jnp.stack([jnp.sum(jnp.where(here, v, 0.0), axis=1) / 2 for v in value])

    def rows(factors):
        return jnp.stack([jnp.stack([jnp.sum(s * c, axis=1) for c in d], axis=-1) for s in factors])

    return Sums(half, rows(slope), None if b is None else rows([s * b[None, :] for s in slope]))


def _square_turns(potential, space, x, species, b):
    """The sum of `pair_turns`."""
    d, r2, here, phi = _bonds(space, x, species)
    _, slope, curvature = curvatures(phi(potential), r2)
    axes = range(len(d))
    total = [jnp.zeros_like(r2) for _ in axes]
    for c in range(-b.shape[1], 0):
        gap = [b[:, None, c, a] - b[None, :, c, a] for a in axes]
        along = 4.0 * curvature[c] * sum(g * e for g, e in zip(gap, d, strict=True))
        total = [t + 2.0 * slope[c] * g + along * e for t, g, e in zip(total, gap, d, strict=True)]
    return jnp.stack([jnp.sum(jnp.where(here, t, 0.0), axis=1) for t in total], axis=-1)


# --- one distance along the row at a time -------------------------------------------------------------------------


def _over_pairs(space, x, species, b, look):
    """Totals over the bonds of every particle, each pair seen once: n with n + s, for s up to n/2, cyclically.

    look(d, r², a function that is `once`, φ's species, b of one, b of the other) gives arrays (n, lanes) that one gets
    and arrays that the other gets. x is (n, D, lanes), b a tree of arrays (n, …, lanes).
    """
    n, dim, lanes = x.shape
    here = (tuple(x[:, a] for a in range(dim)), jnp.broadcast_to(species[:, None], (n, lanes)), b)
    twice = jax.tree.map(lambda a: jnp.concatenate([a, a]), here)

    def see(s):
        there = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, s, n), twice)
        d = space.wrap(tuple(p - q for p, q in zip(here[0], there[0], strict=True)))
        r2 = sum(a * a for a in d)
        some = 1.0 + jnp.where(r2 < 8.0, r2, 8.0)

        def once(f):  # XLA stores a quotient; what is cheaper it computes anew for each of the sums
            return f * some / some

        return look(d, r2, once, lambda potential: lambda t: channels(potential, t, here[1], there[1]), b, there[2])

    def body(s, totals):
        first, second = see(s)
        ones = [t + f for t, f in zip(totals[0], first, strict=True)]
        others = [
            jax.lax.dynamic_update_slice_in_dim(t, jax.lax.dynamic_slice_in_dim(t, s, n) + f, s, 0)
            for t, f in zip(totals[1], second, strict=True)
        ]
        return ones, others

    count = len(jax.eval_shape(see, 1)[0])
    zero = ([jnp.zeros((n, lanes), x.dtype)] * count, [jnp.zeros((2 * n, lanes), x.dtype)] * count)
    ones, others = jax.lax.fori_loop(1, (n + 1) // 2, body, zero)
    found = [a + b[:n] + b[n:] for a, b in zip(ones, others, strict=True)]
    if n % 2:
        return found
    return [a + f for a, f in zip(found, see(n // 2)[0], strict=True)]  # seen from both ends


def _loop_sums(potential, space, x, species, b):
    """`pair_sums` of x (n, D, lanes) and b (n, lanes); lanes last in the result."""
    dim, count = x.shape[1], 1 if potential.states == 1 else 3

    def look(d, r2, once, phi, own, other):
        value, slope = slopes(phi(potential), r2)
        pulls = [f * a for f in map(once, slope) for a in d]
        first, second = [*value, *pulls], [*value, *(-f for f in pulls)]
        if own is None:
            return first, second
        return first + [other * f for f in pulls], second + [-own * f for f in pulls]

    found = _over_pairs(space, x, species, b, look)

    def rows(k):
        return jnp.stack([jnp.stack(found[count + dim * c :][:dim], axis=1) for c in range(k, k + count)])

    return Sums(jnp.stack(found[:count]) / 2, rows(0), None if b is None else rows(count))


def _loop_turns(potential, space, x, species, b):
    """`pair_turns` of x (n, D, lanes) and b (n, c, D, lanes); lanes last in the result."""
    count, dim = b.shape[1:3]

    def look(d, r2, once, phi, own, other):
        _, slope, curvature = curvatures(phi(potential), r2)
        gap = [[own[:, c, a] - other[:, c, a] for a in range(dim)] for c in range(count)]
        bent = [
            4.0 * k * sum(g * a for g, a in zip(row, d, strict=True))
            for k, row in zip(curvature[-count:], gap, strict=True)
        ]
        along, turned = once(sum(bent)), [once(2.0 * s) for s in slope[-count:]]
        first = [along * a + sum(s * row[k] for s, row in zip(turned, gap, strict=True)) for k, a in enumerate(d)]
        return first, [-f for f in first]

    return jnp.stack(_over_pairs(space, x, species, b, look), axis=1)


# --- on a GPU -----------------------------------------------------------------------------------------------------


def _kernel_sums(tiled_sums, potential, space, x, species, b):
    """`pair_sums` of a batch."""
    count, dim = 1 if potential.states == 1 else 3, x.shape[2]

    def look(potential, d, r2, one, other, own, weight):
        value, slope = slopes(lambda s: channels(potential, s, one, other), r2)
        sums = [s * a for s in slope for a in d]
        return [*value, *sums, *(weight[0] * s for s in sums if weight)]

    weights = jnp.zeros((*x.shape[:2], 0), x.dtype) if b is None else b[..., None]
    found = tiled_sums(look, potential, space, x, species, weights)
    value, *rows = jnp.split(found, [count, count + count * dim], axis=1)
    rows = [jnp.swapaxes(r.reshape(len(x), count, dim, -1), 2, 3) for r in rows if r.shape[1]]
    return Sums(value / 2, rows[0], None if b is None else rows[1])


def _kernel_turns(tiled_sums, potential, space, x, species, b):
    """`pair_turns` of a batch."""
    count, dim = b.shape[2:]

    def look(potential, d, r2, one, other, own, weight):
        _, slope, curvature = curvatures(lambda s: channels(potential, s, one, other), r2)
        gap = [o - w for o, w in zip(own, weight, strict=True)]
        total = [jnp.zeros_like(r2) for _ in d]
        for c in range(count):
            apart = gap[c * dim : (c + 1) * dim]
            along = 4.0 * curvature[c - count] * sum(g * a for g, a in zip(apart, d, strict=True))
            total = [t + 2.0 * slope[c - count] * g + along * a for t, g, a in zip(total, apart, d, strict=True)]
        return total

    return jnp.swapaxes(tiled_sums(look, potential, space, x, species, b.reshape(*b.shape[:2], -1)), 1, 2)


pair_sums.def_jvp(_square_derivative(pair_sums, _square))
pair_turns.def_jvp(_square_derivative(pair_turns, _square_turns))
_batched_sums.def_vmap(_batch_rule(_square, _loop_sums, _kernel_sums))
_batched_turns.def_vmap(_batch_rule(_square_turns, _loop_turns, _kernel_turns))
