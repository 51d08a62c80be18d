"""Replica exchange: copies of a chain in e^{−b_rΦ}, b_0 = 1 > b_1 > …, that trade places (Swendsen and Wang 1986).

Hot copies cross barriers, the cold one keeps its density: a swap of r and r + 1 is taken with chance
min(1, e^{(b_r − b_{r+1})(Φ_r − Φ_{r+1})}), which is detailed balance in Π_r e^{−b_rΦ(x_r)}. b scales the whole of Φ.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxmd_iz.proposals import Point, Spread, Step


class Replica(NamedTuple):
    """Where one copy stands, and its own tuning; copies that trade places trade `point` alone."""

    point: Point
    accepted: Float[Array, ""]
    step: Step
    spread: Spread | None


class Ladder(NamedTuple):
    """The hotter copies, coldest first (leading axis rungs − 1), and swaps of each rung with the next hotter one."""

    hot: Replica
    tried: Float[Array, " pairs"]  # after the adaptation
    swapped: Float[Array, " pairs"]


def factors(rungs: int, hottest: float | Float[Array, ""], dtype) -> Float[Array, " rungs"]:
    """b_r = hottest^{−r/(rungs − 1)}: temperatures T/b_r in geometric progression."""
    r = jnp.arange(rungs, dtype=dtype) / max(rungs - 1, 1)
    return jnp.asarray(hottest, dtype) ** (-r)


def swap(
    key: PRNGKeyArray, i: Int[Array, ""], b: Float[Array, " rungs"], action: Float[Array, " rungs"]
) -> tuple[Int[Array, " rungs"], Float[Array, " pairs"], Float[Array, " pairs"]]:
    """Swaps of neighbours: of even pairs after even proposals and of odd pairs after odd ones.

    Args:
        key: of proposal i.
        i: number of the proposal.
        b: (rungs,) b_r.
        action: (rungs,) Φ(x_r), unscaled.

    Returns:
        (rungs,) where the new occupant of every rung was; which pairs were tried; and which of them swapped, 1 or 0.
    """
    pairs = b.shape[0] - 1
    tried = jnp.arange(pairs) % 2 == i % min(2, pairs)  # a single pair is tried each time
    log_chance = (b[:-1] - b[1:]) * (action[:-1] - action[1:])
    take = tried & (jnp.log(jax.random.uniform(key, (pairs,), b.dtype)) < log_chance)
    moved = take.astype(int)
    order = jnp.arange(pairs + 1) + jnp.pad(moved, (0, 1)) - jnp.pad(moved, (1, 0))
    return order, tried.astype(b.dtype), take.astype(b.dtype)
