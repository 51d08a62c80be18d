"""q_j* from samples of every state: Bennett's acceptance ratio for several states (Shirts and Chodera 2008).

Z_k = Σ_i e^{−Φ_k(x_i)} / Σ_l N_l Z_l⁻¹ e^{−Φ_l(x_i)} over the samples of all states, and q_j* = Z_j/Σ_k Z_k (5.22).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

ROUNDS = 2000  # of the self-consistent iteration at most: it is as slow as the states overlap little


def bennett(actions: Float[Array, "samples d d"], weight: Float[Array, " samples"]) -> Float[Array, " d"]:
    """q_j* of d states, (d,), summing to 1.

    Args:
        actions: Φ_k(x_ij) of every state k (last axis) at sample i of state j.
        weight: (samples,) how often each sample counts: 1, or 0 to leave it out.

    Returns:
        (d,) q_j*.
    """
    d = actions.shape[1]
    phi = actions.reshape(-1, d)
    log_count = jnp.log(jnp.repeat(weight, d))
    log_n = jnp.log(jnp.sum(weight))  # of each state

    tolerance = 100 * jnp.finfo(phi.dtype).eps

    def improve(carry):
        count, log_z, _ = carry
        mixture = jax.nn.logsumexp(log_n - log_z[None, :] - phi, axis=1)
        new = jax.nn.logsumexp((log_count - mixture)[:, None] - phi, axis=0)
        new = new - new[0]
        return count + 1, new, jnp.max(jnp.abs(new - log_z))

    begin = (0, jnp.zeros(d, phi.dtype), jnp.asarray(jnp.inf, phi.dtype))
    _, log_z, _ = jax.lax.while_loop(lambda c: (c[0] < ROUNDS) & (c[2] > tolerance), improve, begin)
    return jax.nn.softmax(log_z)


def grouped(
    actions: Float[Array, "samples d d"], group: Float[Array, "G samples"]
) -> tuple[Float[Array, " d"], Float[Array, "samples d"]]:
    """q_j*, and for every sample the jackknife pseudo-value of its group, whose mean over groups is q_j*.

    Weighted with the pseudo-values the sums of a group carry the error of q_j* into every jackknife over groups.

    Args:
        actions: as in `bennett`.
        group: (G, samples) 1 where a sample belongs to a group; each group holds samples.

    Returns:
        q_j* (d,), and weights (samples, d) that sum to 1 over the states.
    """
    one = jnp.ones(actions.shape[0], actions.dtype)
    whole = bennett(actions, one)
    count = group.shape[0]
    if count == 1:
        return whole, jnp.broadcast_to(whole[None, :], (actions.shape[0], whole.shape[0]))
    share = jnp.sum(group, axis=1) / actions.shape[0]
    without = jax.vmap(lambda g: bennett(actions, one - g))(group)
    # q = Σ_g share_g pseudo_g to first order, also for groups of unequal size
    pseudo = whole[None, :] + ((1 - share) / share)[:, None] * (whole[None, :] - without)
    pseudo = pseudo + (whole - share @ pseudo)[None, :]
    return whole, group.T @ pseudo
