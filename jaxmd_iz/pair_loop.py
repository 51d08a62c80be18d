"""Sums over all pairs of many small systems at once: each pair once, with the batch as the fastest axis.

What pair forces need of Vⁿ = ½ Σ_m φ_c(r_nm), c a channel: its value, Σ_m φ′_c d and Σ_m b_m φ′_c d, φ′ = ∂φ/∂(r²);
the total value and some of the slopes; and the sum of `pair_turns`, for energies that hold ∇V and for those whose
∂E/∂V is known. One system takes the n × n form; a batch under `vmap` goes through a loop over distances s in the row
of particles, n with n + s, of arrays (n, batch): nothing of n × n is stored and every operation is long and
contiguous; or on a GPU through `pair_kernel`. Derivatives are those of the loop, computed anew on the way back (on a
GPU of the n × n form); of one state's forces in the positions, a symmetric product, they are one more such sum.

On a CPU every sum is a kernel of its own. LLVM makes vectors of its loop unless one array is sliced in it twice at an
index that comes from memory: every coordinate and field is an array of its own.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float, Int

from jaxmd_iz.potentials.base import AbstractPairPotential
from jaxmd_iz.self_adjoint import self_adjoint
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
    count, fields = _count(potential), jnp.zeros((len(x), 0), x.dtype) if b is None else b[:, None]
    rows = _sum_of(_each, 0)(potential, space, x, species, fields)[1]
    slope = _vectors(rows[count:], *x.shape)
    return Sums(jnp.stack(rows[:count]) / 2, slope[:count], None if b is None else slope[count:])


def pair_totals(
    potential: AbstractPairPotential,
    space: AbstractSpace,
    x: Float[Array, "n D"],
    species: Int[Array, " n"],
    slopes: int,
) -> tuple[list[Float[Array, ""]], Float[Array, "k n D"]]:
    """Σ_{n<m} φ_c of every channel and Σ_m φ′_c d of the last ones.

    Args:
        potential, space, x, species: as in `pair_sums`.
        slopes: k, of how many channels.

    Returns:
        numbers, and (k, n, D).
    """
    totals, rows = _sum_of(_total, slopes)(potential, space, x, species, jnp.zeros((len(x), 0), x.dtype))
    return totals, _vectors(rows, *x.shape)


def pair_turns(
    potential: AbstractPairPotential,
    space: AbstractSpace,
    x: Float[Array, "n D"],
    species: Int[Array, " n"],
    b: Float[Array, "n k D"],
    weights: Float[Array, " c"] | None = None,
) -> Float[Array, "n D"]:
    """Σ_c Σ_m [2φ′_c (Bⁿ_c − Bᵐ_c) + 4φ″_c ((Bⁿ_c − Bᵐ_c)·d) d] over the last k channels, and 2 Σ_c w_c Σ_m φ′_c d.

    The first is ∇_n Σ_m Σ_c Bᵐ_c·∇_mV_c, the second Σ_c w_c ∇_nV_c.

    Args:
        potential, space, x, species: as in `pair_sums`.
        b: (n, k, D) fields B_c, of all channels, of the last ones, or of none.
        weights: (c,) w_c, or None for zero.

    Returns:
        (n, D).
    """
    fields = b.reshape(len(x), -1)
    if weights is not None:
        fields = jnp.concatenate([fields, jnp.broadcast_to(weights[None], (len(x), *weights.shape))], axis=1)
    return jnp.stack(_sum_of(_turns, b.shape[1])(potential, space, x, species, fields)[1], axis=1)


def _count(potential):
    return 1 if potential.states == 1 else 3


def _vectors(rows, n, dim):
    """(c, n, D) of the components, one after the other."""
    whole = [jnp.stack(rows[k : k + dim], axis=-1) for k in range(0, len(rows), dim)]
    return jnp.stack(whole) if rows else jnp.zeros((0, n, dim))


# What one pair adds: (k, φ_c(r²), d, r², keep, fields of one, of the other) to what both add to a total, what is added
# to the one, and to the other, whose d is −d. `keep` returns its argument and has it stored and not computed again.


def _each(_, phi, d, r2, keep, own, other):
    value, slope = slopes(phi, r2)
    pulls = [f * a for f in map(keep, slope) for a in d]
    first, second = [*value, *pulls], [*value, *(-f for f in pulls)]
    if not own:
        return [], first, second
    return [], first + [other[0] * f for f in pulls], second + [-own[0] * f for f in pulls]


def _total(k, phi, d, r2, keep, own, other):
    if not k:
        return list(phi(r2)), [], []
    value, slope = slopes(phi, r2)
    pulls = [f * a for f in map(keep, slope[-k:]) for a in d]
    return list(value), pulls, [-f for f in pulls]


def _turns(k, phi, d, r2, keep, own, other):
    dim = len(d)
    _, slope, *curvature = (curvatures if k else slopes)(phi, r2)
    weights, pull = own[k * dim :], 0.0
    if weights:
        pull = 2.0 * sum(w * f for w, f in zip(weights, slope, strict=True))
    if not k:
        pull = keep(pull)
        return [], [pull * a for a in d], [-pull * a for a in d]
    gap = [p - q for p, q in zip(own[: k * dim], other[: k * dim], strict=True)]
    gap = [gap[c * dim : (c + 1) * dim] for c in range(k)]
    turned = [keep(2.0 * f) for f in slope[-k:]]
    way = [sum(g * a for g, a in zip(row, d, strict=True)) for row in gap]
    along = keep(pull + sum(4.0 * f * g for f, g in zip(curvature[0][-k:], way, strict=True)))
    first = [along * a + sum(f * row[i] for f, row in zip(turned, gap, strict=True)) for i, a in enumerate(d)]
    return [], first, [-f for f in first]


# --- their three forms --------------------------------------------------------------------------------------------


@cache
def _sum_of(look: Callable, k: int) -> Callable:
    """(potential, space, x (n, D), species, fields (n, F)) ↦ totals () and rows (n,), with the rule of a batch."""

    @custom_vmap
    def batched(*args):
        return _square(look, k, *args)

    batched.def_vmap(lambda size, which, *args: _of_batch(look, k, size, which, *args))

    @eqx.filter_custom_jvp
    def whole(potential, space, x, species, fields):
        return batched(potential, space, x, species, fields)

    @whole.def_jvp
    def _(primals, tangents):
        """By the loop for one system, or on a GPU, where its steps are too short, by the n × n form."""
        potential, space, x, species, fields = primals
        if look is _total and k == potential.states == 1 and not jax.tree.leaves(tangents[0]):
            (totals, rows), along = whole(*primals), _slope_along(potential, space, x, species, tangents[2])
            lift = 2.0 * sum(jnp.sum(f * a) for f, a in zip(rows, tangents[2].T, strict=True))
            return (totals, rows), ([lift], list(along.T))

        def one(potential, x, fields):
            if jax.default_backend() == "gpu":
                return _square(look, k, potential, space, x, species, fields)
            found = _loop(look, k, potential, space, x[..., None], species, fields[..., None])
            return jax.tree.map(lambda a: a[..., 0], found)

        slope = eqx.filter_jvp(one, (potential, x, fields), (tangents[0], tangents[2], tangents[4]))[1]
        # the value as the function gives it: JAX wants the axis of a batch where it has it
        return whole(*primals), slope

    return whole


def _slope_along(potential, space, x, species, u):
    """Of Σ_m φ′ d along u, half of `pair_turns`: (n, D), symmetric in u, so that reverse mode is one more such sum."""
    numbers, rest = eqx.partition((potential, space, x, species), eqx.is_array)
    leaves, tree = jax.tree.flatten(numbers)

    def product(*arguments):
        return 0.5 * pair_turns(*eqx.combine(tree.unflatten(arguments[:-1]), rest), arguments[-1][:, None])

    return self_adjoint(product, leaves, u)


def _of_batch(look, k, size, batched, potential, space, x, species, fields):
    """Many systems by a loop of arrays (n, lanes), or by a kernel; by the n × n form if parameters differ."""
    if any(jax.tree.leaves((batched[0], batched[1], batched[3]))):
        axes = jax.tree.map(lambda t: 0 if t else None, tuple(batched))
        found = jax.vmap(lambda *args: _square(look, k, *args), axes)(potential, space, x, species, fields)
        return found, jax.tree.map(lambda _: True, found)
    x, fields = (
        a if t else jnp.broadcast_to(a[None], (size, *a.shape)) for a, t in ((x, batched[2]), (fields, batched[4]))
    )
    if jax.default_backend() == "gpu":
        from jaxmd_iz import pair_kernel  # Pallas takes a second to import

        if pair_kernel.takes(potential):
            found = _tiles(look, k, pair_kernel.tiled_sums, potential, space, x, species, fields)
            return found, jax.tree.map(lambda _: True, found)
    rounds = -(-size * x.dtype.itemsize // ROW)
    lanes = -(-size // rounds)
    pick = jnp.minimum(jnp.arange(rounds * lanes), size - 1).reshape(rounds, lanes)

    def some(which):
        place, along = (jnp.moveaxis(a[which], 0, -1) for a in (x, fields))
        return jax.tree.map(lambda a: jnp.moveaxis(a, -1, 0), _loop(look, k, potential, space, place, species, along))

    found = jax.lax.map(some, pick)
    found = jax.tree.map(lambda a: a.reshape(rounds * lanes, *a.shape[2:])[:size], found)
    return found, jax.tree.map(lambda _: True, found)


def _square(look, k, potential, space, x, species, fields):
    """By arrays of n × n."""
    n = len(x)
    d = space.wrap(tuple(a[:, None] - a[None, :] for a in x.T))
    here = ~jnp.eye(n, dtype=bool)
    r2 = jnp.where(here, sum(a * a for a in d), 1.0)
    one, other = (jnp.broadcast_to(s, (n, n)) for s in (species[:, None], species[None, :]))
    ends = [[a[:, None] for a in fields.T], [a[None, :] for a in fields.T]]
    totals, rows, _ = look(k, lambda s: channels(potential, s, one, other), d, r2, lambda f: f, *ends)
    rows = [jnp.sum(jnp.where(here, f, 0.0), axis=1) for f in rows]
    return [jnp.sum(jnp.where(here, f, 0.0)) / 2 for f in totals], rows


def _loop(look, k, potential, space, x, species, fields):
    """Each pair once: n with n + s, for s up to n/2, cyclically; of x (n, D, lanes), fields (n, F, lanes).

    Rows that are full are looped over one by one; others are one axis with the lanes, or their ends would cost most.
    """
    n, dim, lanes = x.shape
    whole = lanes * x.dtype.itemsize % ROW == 0
    shape, row = ((n, lanes), 1) if whole else ((n * lanes,), lanes)
    size = n * row
    own = ([x[:, a].reshape(shape) for a in range(dim)], [fields[:, c].reshape(shape) for c in range(fields.shape[1])])
    here = (own, jnp.broadcast_to(species[:, None], (n, lanes)).reshape(shape))
    twice = jax.tree.map(lambda a: jnp.concatenate([a, a]), here)

    def see(s):
        (place, other), kind = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, s * row, size), twice)
        d = space.wrap(tuple(p - q for p, q in zip(own[0], place, strict=True)))
        r2 = sum(a * a for a in d)
        some = jax.lax.stop_gradient(1.0 + jnp.abs(d[0]))

        def keep(f):  # XLA stores a quotient; what is cheaper it computes anew for each of the sums
            return f * some / some

        def phi(r2):
            return channels(potential, r2, here[1], kind)

        return look(k, phi, d, r2, keep, own[1], other)

    def body(s, sums):
        share = jnp.where(2 * s == n, 0.5, 1.0).astype(x.dtype)  # n/2 apart: seen from both ends
        totals, first, second = jax.checkpoint(see)(s)  # or the way back would have to store them
        totals = [t + share * f for t, f in zip(sums[0], totals, strict=True)]
        ones = [t + share * f for t, f in zip(sums[1], first, strict=True)]
        others = [
            jax.lax.dynamic_update_slice_in_dim(
                t, jax.lax.dynamic_slice_in_dim(t, s * row, size) + share * f, s * row, 0
            )
            for t, f in zip(sums[2], second, strict=True)
        ]
        return totals, ones, others

    begin = tuple(
        [jnp.zeros((times * size, *shape[1:]), x.dtype) for _ in some]
        for times, some in zip((1, 1, 2), jax.eval_shape(see, 1), strict=True)
    )
    totals, ones, others = jax.lax.fori_loop(1, n // 2 + 1, body, begin)
    rows = [(a + b[:size] + b[size:]).reshape(n, lanes) for a, b in zip(ones, others, strict=True)]
    return [jnp.sum(t.reshape(n, lanes), axis=0) for t in totals], rows


def _tiles(look, k, tiled_sums, potential, space, x, species, fields):
    """By the kernel of a GPU; of x (B, n, D), fields (B, n, F)."""
    count = []

    def see(potential, d, r2, one, other, *ends):
        totals, rows, _ = look(k, lambda s: channels(potential, s, one, other), d, r2, lambda f: f, *ends)
        count[:] = [len(totals)]
        return [*totals, *rows]

    found = list(jnp.moveaxis(tiled_sums(see, potential, space, x, species, fields), 1, 0))
    return [jnp.sum(f, axis=1) / 2 for f in found[: count[0]]], found[count[0] :]
