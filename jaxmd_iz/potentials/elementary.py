"""1/a, √a and bounds of a with derivatives that cost less than those of JAX: kernels of pairs are little else."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_jvp
def reciprocal(a: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """1/a; its derivatives multiply and do not divide again."""
    return 1.0 / a


@reciprocal.defjvp
def _slope(primals, tangents):
    inverse = reciprocal(*primals)
    return inverse, tangents[0] * inverse * inverse * -1.0


@jax.custom_jvp
def root(a: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """√a, a > 0; its derivatives take one division."""
    return jnp.sqrt(a)


@root.defjvp
def _half_reciprocal(primals, tangents):
    value = root(*primals)
    return value, tangents[0] * reciprocal(value) * 0.5


def at_least(a: Float[Array, "*b"], least: Float[Array, "*#b"]) -> Float[Array, "*b"]:
    """max(a, least) with slope 1 or 0 in a: that of `jnp.maximum` divides to halve the slope at equality."""
    return jnp.where(a < least, least, a)


@jax.custom_jvp
def between(a: Float[Array, "*b"], low: Float[Array, "*#b"], high: Float[Array, "*#b"]) -> Float[Array, "*b"]:
    """a within bounds, with slope 1 in a everywhere and 0 in the bounds: for what is masked where a is out of them."""
    return jnp.clip(a, low, high)


@between.defjvp
def _one(primals, tangents):
    return between(*primals), tangents[0]
