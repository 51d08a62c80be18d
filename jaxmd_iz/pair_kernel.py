"""The sums of `pair_loop` on a GPU: one launch for all pairs of many systems, by tiles, nothing of n × n in memory.

A program takes `ROWS` particles of one system, walks over all others in tiles that stay in registers, and writes its
sums once. In single precision the positions in an orthorhombic cell are integers, 2³² to an edge: their difference
wraps to the nearest image by itself, and two rounding steps of every pair are saved.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float, Int

from jaxmd_iz.space import AbstractSpace, Periodic

ROWS = 64  # particles of a program: two warps
COLUMNS = 16  # others at once where a pair has four sums or fewer; half as many where it has more, for the registers
TURN = 2.0**32


def takes(potential: eqx.Module) -> bool:
    """Whether a potential's parameters are numbers: a table by species would need gathers."""
    return all(leaf.ndim == 0 for leaf in jax.tree.leaves(eqx.filter(potential, eqx.is_array)))


def tiled_sums(
    look: Callable,
    potential: eqx.Module,
    space: AbstractSpace,
    x: Float[Array, "B n D"],
    species: Int[Array, " n"],
    b: Float[Array, "B n k"],
    interpret: bool = False,
) -> Float[Array, "B s n"]:
    """Σ_m of s functions of every bond n → m.

    Args:
        look: (potential, d, r², species of one, of the other, b of one, of the other) ↦ s arrays like r²; d and b are
            D and k arrays, those of one (rows, 1), those of the other (1, columns). 0 is taken between a particle and
            itself, where r² = 1.
        potential: with numbers as parameters.
        space: for the nearest images.
        x: (B, n, D).
        species: (n,).
        b: (B, n, k) numbers of the particles; k may be 0.
        interpret: run the kernel as plain operations on any device, to test it.

    Returns:
        (B, s, n).
    """
    batch, n, dim = x.shape
    extra, dtype = b.shape[2], x.dtype
    place, scale = x, None
    if isinstance(space, Periodic) and space.orthorhombic and dtype == jnp.float32:
        place, scale = _integers(x, space)
    numbers, rest = eqx.partition(potential, eqx.is_array)
    leaves, tree = jax.tree.flatten(numbers)
    kind = jax.ShapeDtypeStruct((1, 1), dtype)
    one = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    count = len(jax.eval_shape(look, potential, (kind,) * dim, kind, one, one, (kind,) * extra, (kind,) * extra))
    columns = COLUMNS if count <= 4 else COLUMNS // 2
    room = -(-n // ROWS) * ROWS
    fill = ((0, 0), (0, 0), (0, room - n))
    inputs = [jnp.pad(species.astype(jnp.int32), (0, room - n)), jnp.pad(jnp.moveaxis(place, 2, 1), fill)]
    inputs += [jnp.pad(jnp.moveaxis(b, 2, 1), fill)] if extra else []
    inputs += [leaf.reshape(1) for leaf in leaves]

    def kernel(species_ref, x_ref, *refs):
        b_ref, leaf_refs = refs[0], refs[1 if extra else 0 : -1]  # without b the first is not read
        here = eqx.combine(jax.tree.unflatten(tree, [ref[0] for ref in leaf_refs]), rest)
        first = pl.program_id(1) * ROWS
        row = first + jnp.arange(ROWS, dtype=jnp.int32)
        mine = pl.ds(first, ROWS)
        at = [x_ref[a, mine][:, None] for a in range(dim)]
        own = tuple(b_ref[k, mine][:, None] for k in range(extra))
        kinds = jnp.broadcast_to(species_ref[mine][:, None], (ROWS, columns))

        def body(tile, totals):
            column = tile * columns + jnp.arange(columns, dtype=jnp.int32)
            others = pl.ds(tile * columns, columns)
            d = tuple(mine - x_ref[a, others][None, :] for a, mine in enumerate(at))
            if scale is None:
                d = space.wrap(d, _nearest)
            else:
                d = tuple(a.astype(dtype) * s for a, s in zip(d, scale, strict=True))
            bond = (row[:, None] != column[None, :]) & (column < n)[None, :]
            r2 = jnp.where(bond, sum(a * a for a in d), 1.0)
            other = jnp.broadcast_to(species_ref[others][None, :], (ROWS, columns))
            seen = look(here, d, r2, kinds, other, own, tuple(b_ref[k, others][None, :] for k in range(extra)))
            return tuple(t + jnp.where(bond, s, 0.0) for t, s in zip(totals, seen, strict=True))

        zero = jnp.zeros((ROWS, columns), dtype)
        totals = jax.lax.fori_loop(0, room // columns, body, (zero,) * count)
        for k, total in enumerate(totals):
            refs[-1][k, :] = jnp.sum(total, axis=1)

    def whole(size):
        return pl.BlockSpec((None, size, room), lambda i, j: (i, 0, 0))

    found = pl.pallas_call(
        kernel,
        grid=(batch, room // ROWS),
        in_specs=[pl.BlockSpec((room,), lambda i, j: (0,)), whole(dim)]
        + ([whole(extra)] if extra else [])
        + [pl.BlockSpec((1,), lambda i, j: (0,))] * len(leaves),
        out_specs=pl.BlockSpec((None, count, ROWS), lambda i, j: (i, 0, j)),
        out_shape=jax.ShapeDtypeStruct((batch, count, room), dtype),
        compiler_params=None if interpret else triton.CompilerParams(num_warps=4, num_stages=1),
        interpret=interpret,
    )(*inputs)
    return found[..., :n]


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
