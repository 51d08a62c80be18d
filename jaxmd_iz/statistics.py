"""Averages of moments over fixed groups of chains, and jackknife errors of the fields that follow from them."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxmd_iz.fields import Fields, fields
from jaxmd_iz.moments import Moments, Totals

GROUPS = 16


class GroupSums(eqx.Module):
    """Weighted sums over the samples and states of each of G groups, at one time: everything that leaves the device.

    Each sample has total weight 1 over its states, so `weight` counts the samples of a group.
    """

    moments: tuple[Moments, ...]  # one per grid, leading axis G
    totals: Totals  # leading axis G
    weight: Float[Array, " G"]


class FieldSeries(eqx.Module):
    """Fields at several times on one grid, with standard errors and the group sums behind them.

    `errors` has the shape of `fields`; entries are infinite where fewer than two groups hold samples.
    `y` are the field points; `axis` is the cell vector of a slab profile, or None for points in space.
    """

    time: Float[Array, " T"]
    y: Float[Array, "Y D"]
    fields: Fields  # (T, Y, …)
    errors: Fields  # (T, Y, …)
    moments: Moments  # (T, G, Y, …) weighted sums
    weight: Float[Array, "T G"]
    w: Float[Array, "T D"]  # centre-of-mass velocity used in q
    axis: int | None = eqx.field(static=True, default=None)


def group_of(samples: int, groups: int = GROUPS) -> Int[Array, " samples"]:
    """Group of each sample: contiguous blocks of whole chains, as even as can be."""
    return jnp.arange(samples) * groups // max(samples, 1) if samples >= groups else jnp.arange(samples)


def jackknife(estimate, sums, weight: Float[Array, " G"]):
    """A function of averages and its standard error by deleting one group at a time.

    θ̂ = θ(Σ_g s_g/Σ_g w_g), error² = (G′ − 1)/G′ Σ_g |θ_(g) − mean θ_(g)|² over the G′ groups that hold samples.

    Args:
        estimate: pytree of averages → pytree of results.
        sums: pytree of weighted sums with leading axis G.
        weight: (G,) total weight of each group.

    Returns:
        (θ̂, standard errors); errors are infinite if G′ < 2.
    """
    here = weight > 0
    count = jnp.sum(here).astype(weight.dtype)
    total = jax.tree.map(lambda s: jnp.sum(s, axis=0), sums)
    mass = jnp.sum(weight)

    def average(part, of):
        return jax.tree.map(lambda s: s / jnp.where(of > 0, of, 1.0), part)

    value = estimate(average(total, mass))

    def without(g):
        rest = jax.tree.map(lambda t, s: t - s[g], total, sums)
        return estimate(average(rest, mass - weight[g]))

    deleted = jax.vmap(without)(jnp.arange(weight.shape[0]))

    def error(d):
        mask = here.reshape((-1,) + (1,) * (d.ndim - 1))
        mean = jnp.sum(jnp.where(mask, d, 0.0), axis=0) / jnp.maximum(count, 1.0)
        spread = jnp.sum(jnp.where(mask, (d - mean[None]) ** 2, 0.0), axis=0)
        sigma = jnp.sqrt(spread * (count - 1.0) / jnp.maximum(count, 1.0))
        return jnp.where(count > 1, sigma, jnp.inf)

    def error_or_same(d, v):
        return v if v.dtype == bool else error(d)

    return value, jax.tree.map(error_or_same, deleted, value)


@eqx.filter_jit
def fields_with_errors(
    moments: Moments, momentum: Float[Array, "G D"], weight: Float[Array, " G"], mass: Float[Array, ""]
) -> tuple[Fields, Fields, Float[Array, " D"]]:
    """Fields in the centre-of-mass frame w = ⟨Σp⟩/ΣM of the averaged moments, and their standard errors.

    Args:
        moments: weighted sums of G groups at Y points.
        momentum: (G, D) weighted sums of the total momentum.
        weight: (G,) samples of each group.
        mass: ΣM_n.

    Returns:
        Fields, their errors, w (D,).
    """

    def estimate(averages):
        raw, total = averages
        return fields(raw, total / mass)

    value, error = jackknife(estimate, (moments, momentum), weight)
    w = jnp.sum(momentum, axis=0) / jnp.sum(weight) / mass
    return value, error, w


def has_errors(series: FieldSeries) -> Bool[Array, " T"]:
    """Whether at least two groups hold samples at each time."""
    return jnp.sum(series.weight > 0, axis=1) > 1
