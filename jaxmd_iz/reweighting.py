"""Averages over sampled positions and their derivatives in any parameter, by weights and score terms.

From samples xₛ of g_ref = e^{−Φ_ref}, averages over g = Σ_j ∫ f_j dp of other parameters a are those with the weights
Wₛ(a) = e^{Φ_ref(xₛ) − Φ(xₛ; a)}: ⟨A⟩ = Σₛ Wₛ Σ_j w_j A_j / Σₛ Wₛ, w_j = e^{−Φ_j}/Σ_k e^{−Φ_k}. The derivative of this
is that of the ensemble, ∂⟨A⟩ = ⟨∂A⟩ − ⟨A; ∂Φ⟩ with the change of q_j* = ⟨w_j⟩, and its error does not grow with time
as that of a derivative along trajectories does. Momenta follow the parameters through their exact Gaussians.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from jaxmd_iz.checks import must
from jaxmd_iz.dual import configurations
from jaxmd_iz.gibbs import AbstractDensity
from jaxmd_iz.local_gibbs import Cells, LocalGibbs, Natural
from jaxmd_iz.matching import Data, solve
from jaxmd_iz.neighbours import Neighbours
from jaxmd_iz.statistics import GROUPS, group_of, jackknife
from jaxmd_iz.system import System


class Average(eqx.Module):
    """An average with its standard error, and the number of equal samples that the weights amount to, (ΣW)²/ΣW²."""

    mean: Any
    error: Any
    effective: Float[Array, ""]


class Sensitivity(eqx.Module):
    """An average and its derivative in P parameters (leading axis of `slope`), with standard errors."""

    mean: Any
    error: Any
    slope: Any
    slope_error: Any
    effective: Float[Array, ""]


def actions(
    system: System,
    density: AbstractDensity,
    x: Float[Array, "S n D"],
    neighbours: Neighbours | None = None,
    batch: int = 16,
) -> Float[Array, "S d"]:
    """Φ_j of every sample and state; Φ = −log Σ_j e^{−Φ_j} is what `average` takes as `reference`."""

    def one(item):
        return density.actions(system, *item)

    return lax.map(jax.checkpoint(one), (x, neighbours), batch_size=min(batch, x.shape[0]))


def average(
    observe: Callable,
    system: System,
    density: AbstractDensity,
    x: Float[Array, "S n D"],
    *,
    key: PRNGKeyArray,
    reference: Float[Array, " S"] | None = None,
    estimate: Callable = lambda averages: averages,
    neighbours: Neighbours | None = None,
    batch: int = 16,
) -> Average:
    """estimate(⟨A⟩) of a density from samples of it, or of another one, differentiable in system and density.

    Args:
        observe: (system, x (n, D), p (n, D), state, neighbours) ↦ A, a pytree of arrays.
        system, density: of the average; differentiate in what they hold.
        x: (S, n, D) samples of g_ref, independent of each other.
        key: for the momenta; the same key gives the same noise for all parameters.
        reference: (S,) Φ_ref up to a constant; by default x are samples of `density` itself.
        estimate: averages ↦ result, such as quotients of averages.
        neighbours: lists with leading axis S, or None.
        batch: samples seen together.

    Returns:
        Average; few `effective` samples mean that `density` is far from the one that was sampled.

    Raises:
        InputError: a reference of another number of samples.
    """
    sums, weight, effective = _sums(observe, system, density, x, key, reference, neighbours, batch)
    count = _counts(x)
    mean, error = jackknife(lambda a: estimate(_divided(*a)), (sums, weight), count)
    return Average(mean, error, effective)


def sensitivity(
    observe: Callable,
    at: Callable[[Any], tuple[System, AbstractDensity]],
    parameters: Any,
    x: Float[Array, "S n D"],
    *,
    key: PRNGKeyArray,
    reference: Float[Array, " S"] | None = None,
    estimate: Callable = lambda averages: averages,
    neighbours: Neighbours | None = None,
    batch: int = 16,
) -> Sensitivity:
    """estimate(⟨A⟩) and its derivative in every parameter, both with standard errors by the jackknife.

    One pass in forward mode for each parameter: for few parameters. Of many, take the gradient of `average`.

    Args:
        observe, x, key, reference, estimate, neighbours, batch: as in `average`.
        at: parameters ↦ system and density.
        parameters: pytree of P numbers in all, in the order of `ravel_pytree`.

    Returns:
        Sensitivity; its `slope` has a leading axis of P.
    """
    numbers, back = ravel_pytree(parameters)

    def sums(numbers):
        found = _sums(observe, *at(back(numbers)), x, key, reference, neighbours, batch)
        return found[:2], found[2]

    def along(way):
        return jax.jvp(lambda a: sums(a)[0], (numbers,), (way,))[1]

    value, effective = sums(numbers)
    moved = lax.map(along, jnp.eye(numbers.size, dtype=numbers.dtype))
    moved = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), moved)  # groups first

    def both(averages):
        here, ways = averages

        def slope(way):
            value, moved = jax.jvp(lambda a: estimate(_divided(*a)), (here,), (way,))
            # a truth value has no slope
            return jax.tree.map(lambda v, m: m if jnp.issubdtype(v.dtype, jnp.inexact) else v & False, value, moved)

        return estimate(_divided(*here)), jax.vmap(slope)(ways)

    (mean, slope), (error, slope_error) = jackknife(both, (value, moved), _counts(x))
    return Sensitivity(mean, error, slope, slope_error, effective)


def rematched(
    system: System,
    cells: Cells,
    data: Data,
    x: Float[Array, "S n D"],
    start: Natural,
    beta_0: float | Float[Array, ""],
    *,
    reference: Float[Array, " S"] | None = None,
    neighbours: Neighbours | None = None,
) -> LocalGibbs:
    """The local Gibbs density whose fields stay at `data` when the parameters of the system change.

    By `matching.solve` on fixed samples, differentiable by the implicit function theorem: with `average` the matched
    fields keep their values and all others move.

    Args:
        system: what the levels λ̄_jⁿ come from.
        cells, data, beta_0: as in `matching.match`.
        x: (S, n, D) samples of the density of `start`.
        start: θ that they were drawn at.
        reference: (S,) log g_ref without V_b, as by `dual.log_densities`; by default that of `start` and this system.
        neighbours: lists with leading axis S, or None.

    Returns:
        LocalGibbs.

    Raises:
        As `matching.solve`.
    """
    seen = configurations(system, cells, x, neighbours)
    theta = solve(seen, data, cells, beta_0, system.masses, start, reference=reference)
    return LocalGibbs(cells, theta, beta_0)


def _counts(x):
    return jnp.bincount(group_of(x.shape[0]), length=GROUPS).astype(x.dtype)


def _divided(sums, weight):
    return jax.tree.map(lambda a: a / weight, sums)


def _sums(observe, system, density, x, key, reference, neighbours, batch):
    """Σ W Σ_j w_j A_j and Σ W of each group, and the number of equal samples."""
    samples, states = x.shape[0], system.states
    of_states = actions(system, density, x, neighbours, batch)
    total = -jax.nn.logsumexp(-of_states, axis=1)
    if reference is None:
        reference = lax.stop_gradient(total)
    must(reference.shape == (samples,), "reference", f"have shape ({samples},)", f"it is {reference.shape}")
    log_w = reference - total
    w = jnp.exp(log_w - lax.stop_gradient(jnp.max(log_w)))
    each = w[:, None] * jax.nn.softmax(-of_states, axis=1)
    member = (group_of(samples)[None, :] == jnp.arange(GROUPS)[:, None]).astype(x.dtype)

    def one(item):
        number, at, weight, nl = item
        p = density.momenta(jax.random.fold_in(key, number), system, at)
        seen = jax.vmap(lambda k: observe(system, at, p, k, nl))(jnp.arange(states))
        return jax.tree.map(lambda a: jnp.tensordot(weight, a.astype(weight.dtype), 1), seen)

    @jax.checkpoint
    def some(items, share):
        return jax.tree.map(lambda a: jnp.tensordot(share, a, 1), jax.vmap(one)(items))

    batch = min(batch, samples)
    rounds = -(-samples // batch)
    pick = jnp.minimum(jnp.arange(rounds * batch), samples - 1).reshape(rounds, batch)
    real = (jnp.arange(rounds * batch) < samples).reshape(rounds, batch)

    def of(pick, real):
        items = jax.tree.map(lambda a: a[pick], (jnp.arange(samples), x, each, neighbours))
        return some(items, member[:, pick] * real.astype(x.dtype)[None, :])

    shapes = jax.eval_shape(of, pick[0], real[0])
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    sums, _ = lax.scan(lambda sums, which: (jax.tree.map(jnp.add, sums, of(*which)), None), zero, (pick, real))
    return sums, member @ w, jnp.sum(w) ** 2 / jnp.sum(w**2)
