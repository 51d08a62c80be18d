"""The sums of `pair_loop` on a GPU: one launch for all pairs of many systems, by tiles, nothing of n × n in memory.

A program takes `ROWS` particles of one system, walks over all others in tiles that stay in registers, and writes its
sums once. In single precision the positions in an orthorhombic cell are integers, 2³² to an edge: their difference
wraps to the nearest image by itself, and two rounding steps of every pair are saved.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float, Int

from jaxmd_iz.space import AbstractSpace, Periodic

ROWS = 64  # particles of a program: a multiple of two warps
COLUMNS = {1: 16, 3: 8}  # others at once, by channels: what fits into registers
TURN = 2.0**32


def takes(potential: eqx.Module) -> bool:
    """Whether a potential's parameters are numbers: a table by species would need gathers."""
    return all(leaf.ndim == 0 for leaf in jax.tree.leaves(eqx.filter(potential, eqx.is_array)))


def tiled_sums(
    functions,
    potential: eqx.Module,
    space: AbstractSpace,
    x: Float[Array, "B n D"],
    species: Int[Array, " n"],
    b: Float[Array, "B n"] | None,
    interpret: bool = False,
) -> tuple[Float[Array, "B c n"], Float[Array, "B c n D"], Float[Array, "B c n D"] | None]:
    """½ Σ_m φ_c, Σ_m φ′_c d and Σ_m b_m φ′_c d of every particle, φ′ = ∂φ/∂(r²).

    Args:
        functions: (potential, r², species of one, of the other) ↦ the channels φ_c, arrays like r².
        potential: with numbers as parameters.
        space: for the nearest images.
        x: (B, n, D).
        species: (n,).
        b: (B, n) weights, or None.
        interpret: run the kernel as plain operations on any device, to test it.

    Returns:
        (B, c, n), (B, c, n, D), (B, c, n, D) or None.
    """
    batch, n, dim = x.shape
    count = len(jax.eval_shape(lambda r2: functions(potential, r2, species[:1], species[:1]), x[0, :1, 0]))
    rows, columns = ROWS, COLUMNS.get(count, 8)
    room = -(-n // rows) * rows
    place, scale = x, None
    if isinstance(space, Periodic) and space.orthorhombic and x.dtype == jnp.float32:
        place, scale = _integers(x, space)
    numbers, rest = eqx.partition(potential, eqx.is_array)
    leaves, tree = jax.tree.flatten(numbers)
    inputs = [jnp.pad(jnp.moveaxis(place, 2, 1), ((0, 0), (0, 0), (0, room - n)))]
    inputs += [jnp.pad(species.astype(jnp.int32), (0, room - n))] + [leaf.reshape(1) for leaf in leaves]
    inputs += [] if b is None else [jnp.pad(b, ((0, 0), (0, room - n)))]
    kinds = 1 if b is None else 2

    def kernel(x_ref, species_ref, *refs):
        own = jax.tree.unflatten(tree, [ref[0] for ref in refs[: len(leaves)]])
        here = eqx.combine(own, rest)
        b_ref, out = (None, refs[len(leaves) :]) if b is None else (refs[len(leaves)], refs[len(leaves) + 1 :])
        first = pl.program_id(1) * rows
        row = first + jnp.arange(rows, dtype=jnp.int32)
        mine = [x_ref[c, pl.ds(first, rows)][:, None] for c in range(dim)]
        one = jnp.broadcast_to(species_ref[pl.ds(first, rows)][:, None], (rows, columns))

        def body(tile, totals):
            at = tile * columns
            column = at + jnp.arange(columns, dtype=jnp.int32)
            d = tuple(a - x_ref[c, pl.ds(at, columns)][None, :] for c, a in enumerate(mine))
            d = (
                space.wrap(d, _nearest)
                if scale is None
                else tuple(a.astype(x.dtype) * s for a, s in zip(d, scale, strict=True))
            )
            bond = (row[:, None] != column[None, :]) & (column < n)[None, :]
            r2 = jnp.where(bond, sum(a * a for a in d), 1.0)
            other = jnp.broadcast_to(species_ref[pl.ds(at, columns)][None, :], (rows, columns))
            value, slope = jax.jvp(lambda s: functions(here, s, one, other), (r2,), (jnp.ones_like(r2),))
            values, slopes = totals
            values = tuple(was + jnp.where(bond, v, 0.0) for was, v in zip(values, value, strict=True))
            factors = [jnp.where(bond, s, 0.0) for s in slope]
            if b_ref is not None:
                factors += [f * b_ref[pl.ds(at, columns)][None, :] for f in factors]
            slopes = tuple(
                tuple(was + f * a for was, a in zip(old, d, strict=True))
                for old, f in zip(slopes, factors, strict=True)
            )
            return values, slopes

        zero = jnp.zeros((rows, columns), x.dtype)
        begin = ((zero,) * count, ((zero,) * dim,) * (kinds * count))
        values, slopes = jax.lax.fori_loop(0, room // columns, body, begin)
        for c in range(count):
            out[0][c, :] = jnp.sum(values[c], axis=1) / 2
        for k in range(kinds * count):
            for a in range(dim):
                out[1][k, a, :] = jnp.sum(slopes[k][a], axis=1)

    each = pl.BlockSpec((1,), lambda i, j: (0,))
    specs = [pl.BlockSpec((None, dim, room), lambda i, j: (i, 0, 0)), pl.BlockSpec((room,), lambda i, j: (0,))]
    specs += [each] * len(leaves) + ([] if b is None else [pl.BlockSpec((None, room), lambda i, j: (i, 0))])
    values, slopes = pl.pallas_call(
        kernel,
        grid=(batch, room // rows),
        in_specs=specs,
        out_specs=[
            pl.BlockSpec((None, count, rows), lambda i, j: (i, 0, j)),
            pl.BlockSpec((None, kinds * count, dim, rows), lambda i, j: (i, 0, 0, j)),
        ],
        out_shape=[
            jax.ShapeDtypeStruct((batch, count, room), x.dtype),
            jax.ShapeDtypeStruct((batch, kinds * count, dim, room), x.dtype),
        ],
        compiler_params=None if interpret else triton.CompilerParams(num_warps=4, num_stages=1),
        interpret=interpret,
    )(*inputs)
    slopes = jnp.moveaxis(slopes[..., :n], 2, 3)
    return values[..., :n], slopes[:, :count], None if b is None else slopes[:, count:]


def _nearest(a: Array) -> Array:
    """The nearest integer: Triton has no rounding of its own."""
    return jnp.floor(a + 0.5)


def _integers(x, space: Periodic):
    """Positions in 2⁻³² of an edge, from −2³¹, and the length of this unit along each axis.

    The few products are double where JAX has it: x far from the origin keeps all its digits.
    """
    edges = [space.cell[c][c] for c in range(space.dimensions)]
    wide = x.astype(jnp.float64 if jax.config.read("jax_enable_x64") else x.dtype)
    part = wide * jnp.asarray([1 / e for e in edges], wide.dtype)[None, None, :]
    part = part - jnp.floor(part) - 0.5
    return (part * TURN).astype(jnp.int32), [e / TURN for e in edges]
