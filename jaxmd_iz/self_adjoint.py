"""Linear maps that are their own transpose, such as products with a second derivative: reverse mode applies them again.

JAX would transpose a loop step by step, with arrays of every step computed anew; a symmetric map needs none of that.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

_product = Primitive("self_adjoint")


def self_adjoint(function: Callable, numbers: list[Array], u: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """function(*numbers, u), which must be linear in u and symmetric: Σ v·function(u) = Σ u·function(v).

    Derivatives of any order and mode and `vmap` pass through; those in the numbers are of the function as it stands.

    Args:
        function: (*numbers, u) ↦ an array like u; it closes over no traced array.
        numbers: arrays that it depends on.
        u: what it is linear in.

    Returns:
        an array like u.
    """
    return _product.bind(*numbers, u, function=function)


def _slope(primals, tangents, *, function):
    """Along u the map itself, along the numbers that of its program."""
    *numbers, u = primals
    value = _product.bind(*primals, function=function)
    parts = [] if type(tangents[-1]) is ad.Zero else [_product.bind(*numbers, tangents[-1], function=function)]
    moved = [i for i, t in enumerate(tangents[:-1]) if type(t) is not ad.Zero]
    if moved:

        def of(*some):
            every = list(numbers)
            for i, a in zip(moved, some, strict=True):
                every[i] = a
            return function(*every, u)

        parts.append(jax.jvp(of, [numbers[i] for i in moved], [tangents[i] for i in moved])[1])
    return value, sum(parts[1:], parts[0]) if parts else jnp.zeros_like(value)


def _transpose(slope, *primals, function):
    numbers = primals[:-1]
    back = slope if type(slope) is ad.Zero else _product.bind(*numbers, slope, function=function)
    return [None] * len(numbers) + [back]


def _batch(many, axes, *, function):
    size = next(a.shape[i] for a, i in zip(many, axes, strict=True) if i is not None)
    *numbers, u = many
    *places, last = axes
    u = jnp.broadcast_to(u[None], (size, *u.shape)) if last is None else jnp.moveaxis(u, last, 0)
    return _product.bind(*numbers, u, function=jax.vmap(function, (*places, 0))), 0


def _run(*arguments, function):
    return function(*arguments)


_product.def_impl(_run)
_product.def_abstract_eval(lambda *avals, function: avals[-1])
ad.primitive_jvps[_product] = _slope
ad.primitive_transposes[_product] = _transpose
batching.primitive_batchers[_product] = _batch
mlir.register_lowering(_product, mlir.lower_fun(_run, multiple_results=False))
