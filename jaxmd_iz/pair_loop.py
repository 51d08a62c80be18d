"""Sums over all pairs of many small systems at once: one pass over j, with the batch as the fastest axis.

What pair forces need of Vⁿ = ½ Σ_m φ_c(r_nm), c a channel: its value, Σ_m φ′_c d and Σ_m b_m φ′_c d, φ′ = ∂φ/∂(r²).
One system takes the n × n form; a batch under `vmap` goes through a loop over j of arrays (n, batch), so that nothing
of n × n is stored and every operation is long and contiguous, or on a GPU through `pair_kernel`. Derivatives are those
of the n × n form.
"""

from typing import NamedTuple

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
    first, second, off = potential.components(r2, one, other)  # type: ignore[attr-defined]
    return (first + second) / 2, (first - second) / 2, off


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
    return _batched(potential, space, x, species, b)


@pair_sums.def_jvp
def _derivative(primals, tangents):
    potential, space, x, species, b = primals

    def plain(potential, x, b):
        return _square(potential, space, x, species, b)

    moved = (tangents[0], tangents[2], tangents[4])
    # the value as the function gives it: JAX wants the axis of a batch where it has it
    return pair_sums(*primals), eqx.filter_jvp(plain, (potential, x, b), moved)[1]


@custom_vmap
def _batched(potential, space, x, species, b):
    return _square(potential, space, x, species, b)


@_batched.def_vmap
def _rule(size, batched, potential, space, x, species, b):
    of_potential, of_space, of_x, of_species, of_b = batched
    if any(jax.tree.leaves((of_potential, of_space, of_species))):
        axes = jax.tree.map(lambda t: 0 if t else None, tuple(batched))
        return jax.vmap(_square, axes)(potential, space, x, species, b), jax.tree.map(
            lambda _: True, _shape(potential, b)
        )
    x = x if of_x else jnp.broadcast_to(x[None], (size, *x.shape))
    if b is not None:
        b = b if of_b else jnp.broadcast_to(b[None], (size, *b.shape))
    if jax.default_backend() == "gpu":
        from jaxmd_iz import pair_kernel  # Pallas takes a second to import

        if pair_kernel.takes(potential):
            found = Sums(*pair_kernel.tiled_sums(channels, potential, space, x, species, b))
            return found, jax.tree.map(lambda _: True, found)
    rounds = -(-size * x.dtype.itemsize // ROW)
    lanes = -(-size // rounds)
    pick = jnp.minimum(jnp.arange(rounds * lanes), size - 1).reshape(rounds, lanes)

    def some(which):
        along = None if b is None else b[which].T
        return _loop(potential, space, jnp.moveaxis(x[which], 0, -1), species, along)

    found = jax.lax.map(some, pick)
    found = jax.tree.map(lambda a: a.reshape(rounds * lanes, *a.shape[2:])[:size], found)
    return found, jax.tree.map(lambda _: True, found)


def _shape(potential, b):
    return Sums(0, 0, None if b is None else 0)  # type: ignore[arg-type]


def _square(potential, space, x, species, b):
    """The n × n form."""
    n, dim = x.shape
    d = space.wrap(tuple(x[:, None, c] - x[None, :, c] for c in range(dim)))
    here = ~jnp.eye(n, dtype=bool)
    r2 = jnp.where(here, sum(c * c for c in d), 1.0)
    one, other = (jnp.broadcast_to(s, (n, n)) for s in (species[:, None], species[None, :]))
    value, slope = jax.jvp(lambda s: channels(potential, s, one, other), (r2,), (jnp.ones_like(r2),))
    slope = [jnp.where(here, s, 0.0) for s in slope]
    half = jnp.stack([jnp.sum(jnp.where(here, v, 0.0), axis=1) / 2 for v in value])

    def rows(factors):
        return jnp.stack([jnp.stack([jnp.sum(s * c, axis=1) for c in d], axis=-1) for s in factors])

    return Sums(half, rows(slope), None if b is None else rows([s * b[None, :] for s in slope]))


def _loop(potential, space, x, species, b):
    """The same for x (n, D, lanes) and b (n, lanes), one j at a time; lanes lead in the result."""
    n, dim, lanes = x.shape
    parts = tuple(x[:, c] for c in range(dim))
    number, one = jnp.arange(n), jnp.broadcast_to(species[:, None], (n, lanes))
    count = 1 if potential.states == 1 else 3
    zero = jnp.zeros((n, lanes), x.dtype)
    kinds = 1 if b is None else 2

    def body(j, total):
        d = space.wrap(tuple(p - jax.lax.dynamic_index_in_dim(p, j, 0) for p in parts))
        here = (number != j)[:, None]
        r2 = jnp.where(here, sum(c * c for c in d), 1.0)
        other = jnp.broadcast_to(species[j], (n, lanes))
        value, slope = jax.jvp(lambda s: channels(potential, s, one, other), (r2,), (jnp.ones_like(r2),))
        values, slopes = total
        new, sums = [], []
        for c in range(count):
            new.append(values[c] + jnp.where(here, value[c], 0.0))
            factor = jnp.where(here, slope[c], 0.0)
            factors = [factor] if b is None else [factor, factor * jax.lax.dynamic_index_in_dim(b, j, 0)]
            sums.append(
                [[s + f * a for s, a in zip(was, d, strict=True)] for was, f in zip(slopes[c], factors, strict=True)]
            )
        return new, sums

    begin = ([zero] * count, [[[zero] * dim for _ in range(kinds)] for _ in range(count)])
    values, slopes = jax.lax.fori_loop(0, n, body, begin)
    value = jnp.stack([v.T for v in values], axis=1) / 2

    def rows(kind):
        return jnp.stack([jnp.stack([a.T for a in slopes[c][kind]], axis=-1) for c in range(count)], axis=1)

    return Sums(value, rows(0), None if b is None else rows(1))
