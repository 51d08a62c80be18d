"""Sums over the bonds of a neighbour list: one pass over its slots, with the particles as the fastest axis.

The same sums as in `pair_loop`, of Vⁿ = ½ Σ_m φ_c(r_nm), from slots (K, n): every slot is gathered once and nothing
of n × K × D is formed. Derivatives are those of the plain form, which has arrays of K × n.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float, Int

from jaxmd_iz.pair_loop import Sums, channels
from jaxmd_iz.potentials.base import AbstractPairPotential
from jaxmd_iz.space import AbstractSpace


@eqx.filter_custom_jvp
def list_sums(
    potential: AbstractPairPotential,
    space: AbstractSpace,
    x: Float[Array, "n D"],
    species: Int[Array, " n"],
    b: Float[Array, " n"] | None,
    slots: Int[Array, "K n"],
) -> Sums:
    """The sums over the bonds of one list; of many by `vmap` over x, b and slots.

    Args:
        potential: a pair potential of one state, or of two real ones by `components`.
        space: for the nearest images.
        x: (n, D).
        species: (n,).
        b: (n,) weights, or None.
        slots: (K, n) neighbours, filled from the front; an empty slot holds the particle itself.

    Returns:
        Sums.
    """
    return _batched(potential, space, x, species, b, slots)


@list_sums.def_jvp
def _derivative(primals, tangents):
    potential, space, x, species, b, slots = primals

    def plain(potential, x, b):
        return _plain(potential, space, x, species, b, slots)

    _, moved = eqx.filter_jvp(plain, (potential, x, b), (tangents[0], tangents[2], tangents[4]))
    # the sums by the loop: JAX takes it that a batch of them has its axis where that of the function has it
    return list_sums(*primals), moved


@custom_vmap
def _batched(potential, space, x, species, b, slots):
    return _one(potential, space, x, species, b, slots)


@_batched.def_vmap
def _rule(size, batched, *args):
    """One list after the other on a CPU, where a gather from many arrays at once is slower; together elsewhere."""
    many, treedef = jax.tree.flatten(args)
    which = [i for i, t in enumerate(jax.tree.leaves(tuple(batched))) if t]

    def of(function, some):
        leaves = list(many)
        for i, leaf in zip(which, some, strict=True):
            leaves[i] = leaf
        return function(*jax.tree.unflatten(treedef, leaves))

    def one_by_one(mapped):
        return lax.map(lambda some: of(_batched, some), mapped)

    def together(mapped):
        return jax.vmap(lambda some: of(_plain, some))(mapped)

    found = lax.platform_dependent([many[i] for i in which], cpu=one_by_one, default=together)
    return found, jax.tree.map(lambda _: True, found)


def _one(*args):
    return lax.platform_dependent(*args, cpu=_loop, default=_plain)


def _bond(potential, space, here, there, one, other, real):
    """d, and φ and φ′ of every channel, of many bonds; where they are not real φ and d are zero, φ′ is finite."""
    d = space.wrap(tuple(p - q for p, q in zip(here, there, strict=True)))
    r2 = jnp.where(real, sum(c * c for c in d), 1.0)
    value, slope = jax.jvp(lambda s: channels(potential, s, one, other), (r2,), (jnp.ones_like(r2),))
    return d, [jnp.where(real, v, 0.0) for v in value], slope


def _plain(potential, space, x, species, b, slots):
    """Whole arrays of K × n."""
    parts = [x[:, c] for c in range(x.shape[1])]
    own = jnp.arange(x.shape[0], dtype=slots.dtype)[None, :]
    one, other = jnp.broadcast_to(species[None, :], slots.shape), species[slots]
    here, there = [p[None, :] for p in parts], [p[slots] for p in parts]
    d, value, slope = _bond(potential, space, here, there, one, other, slots != own)

    def rows(factors):
        return jnp.stack([jnp.stack([jnp.sum(s * c, axis=0) for c in d], axis=-1) for s in factors])

    half = jnp.stack([jnp.sum(v, axis=0) for v in value]) / 2
    return Sums(half, rows(slope), None if b is None else rows([s * b[slots] for s in slope]))


def _loop(potential, space, x, species, b, slots):
    """One slot of every particle at a time."""
    n, dim = x.shape
    parts = tuple(x[:, c] for c in range(dim))
    own = jnp.arange(n, dtype=slots.dtype)
    zero = jnp.zeros(n, x.dtype)
    count, kinds = (1 if potential.states == 1 else 3), (1 if b is None else 2)

    def at(values, j):
        return values.at[j].get(mode="promise_in_bounds", wrap_negative_indices=False)

    def body(k, total):
        j = slots[k]
        there = [at(p, j) for p in parts]
        d, value, slope = _bond(potential, space, parts, there, species, at(species, j), j != own)
        factors = [slope] if b is None else [slope, [s * at(b, j) for s in slope]]
        values, sums = total
        values = [was + v for was, v in zip(values, value, strict=True)]
        sums = [
            [[s + f * c for s, c in zip(was, d, strict=True)] for was, f in zip(kind, factor, strict=True)]
            for kind, factor in zip(sums, factors, strict=True)
        ]
        return values, sums

    begin = [zero] * count, [[[zero] * dim for _ in range(count)] for _ in range(kinds)]
    values, sums = lax.fori_loop(jnp.zeros((), slots.dtype), _filled(slots), body, begin)
    rows = [jnp.stack([jnp.stack(parts, axis=-1) for parts in kind]) for kind in sums]
    return Sums(jnp.stack(values) / 2, rows[0], None if b is None else rows[1])


def _filled(slots):
    """The number of slots that some particle uses, by bisection: they are filled from the front."""
    own = jnp.arange(slots.shape[1], dtype=slots.dtype)
    low, high = jnp.zeros((), slots.dtype), jnp.full((), slots.shape[0], slots.dtype)
    for _ in range(slots.shape[0].bit_length()):
        middle = (low + high) // 2
        used = jnp.any(slots[middle] != own) & (low < high)
        low, high = jnp.where(used, middle + 1, low), jnp.where(used, high, middle)
    return low
