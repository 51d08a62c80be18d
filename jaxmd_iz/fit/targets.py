"""Targets of inverse design: values with the covariance of their errors, and profiles of stress and energy."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from jaxmd_iz.checks import must
from jaxmd_iz.fields import fields
from jaxmd_iz.gibbs import AbstractDensity
from jaxmd_iz.mollifiers import AbstractMollifier
from jaxmd_iz.neighbours import Neighbours
from jaxmd_iz.reweighting import average
from jaxmd_iz.system import System


class Target(eqx.Module):
    """Values to be met, a pytree of N numbers in all, and the covariance of their errors.

    Args:
        value: pytree of arrays, as `estimate` gives them.
        covariance: (N, N) in the order of `ravel_pytree`; its diagonal weighs the fit, all of it gives the errors.

    Raises:
        InputError: a covariance of another shape.
    """

    value: Any
    covariance: Float[Array, "N N"]

    def __check_init__(self):
        n = ravel_pytree(self.value)[0].size
        fits = self.covariance.shape == (n, n)
        must(fits, "covariance", f"have shape {(n, n)}", f"it is {self.covariance.shape}")

    @classmethod
    def independent(cls, value: Any, error: Any) -> "Target":
        """Values with independent standard errors, a pytree like `value`."""
        return cls(value, jnp.diag(ravel_pytree(error)[0] ** 2))


def profiles(
    y: Float[Array, "Y D"], mollifier: AbstractMollifier, temperature: float | Float[Array, ""] | None = None
) -> tuple[Callable, Callable]:
    """`observe` and `estimate` for profiles of stress and energy: {"stress": (Y, D(D + 1)/2), "energy": (Y,)}.

    The entries of σ are those on and above the diagonal, row by row.

    Args:
        y: points.
        mollifier: η.
        temperature: k_B T of Maxwellian momenta at rest, if they are that; then kinetic parts are exact, −N T on the
            diagonal and D N T/2, and their noise does not hide the interactions.

    Returns:
        Two functions for `recover`, `measured` and `reweighting`.
    """
    dim = y.shape[1]
    upper = np.triu_indices(dim)

    def observe(system, x, p, k, neighbours):
        p = p if temperature is None else jnp.zeros_like(p)
        return system.moments(y, x, p, k, mollifier, neighbours)

    def estimate(moments):
        found = fields(moments, jnp.zeros(dim, moments.rho.dtype))
        sigma, energy = found.sigma, found.E
        if temperature is not None:
            thermal = jnp.sum(moments.number, axis=-1) * temperature
            sigma = sigma - thermal[:, None, None] * jnp.eye(dim, dtype=sigma.dtype)[None]
            energy = energy + 0.5 * dim * thermal
        return {"stress": sigma[:, upper[0], upper[1]], "energy": energy}

    return observe, estimate


def measured(
    observe: Callable,
    system: System,
    density: AbstractDensity,
    x: Float[Array, "S n D"],
    *,
    key: PRNGKeyArray,
    estimate: Callable = lambda averages: averages,
    neighbours: Neighbours | None = None,
    parts: int = 4,
) -> Target:
    """A target from samples of a system, with the covariance of its noise.

    Args:
        observe, system, density, x, key, estimate, neighbours: as in `reweighting.average`; samples of one chain stand
            next to each other.
        parts: blocks of samples, each with groups of its own: the covariance is the mean of theirs, over their number.
            One block has 15 degrees of freedom, and the parameters would get errors that are too small.

    Returns:
        Target.

    Raises:
        InputError: samples that do not make whole blocks of 16 or more.
    """
    whole = parts >= 1 and x.shape[0] % parts == 0 and x.shape[0] >= 16 * parts
    must(whole, "parts", "divide the samples into blocks of 16 or more", f"{x.shape[0]} samples make {parts} blocks")

    @eqx.filter_jit
    def look(system, density, x, key, neighbours):
        found = average(observe, system, density, x, key=key, estimate=with_sums(estimate), neighbours=neighbours)
        return found.mean[0], covariance_of(found.error[1])

    size = x.shape[0] // parts
    seen = []
    for number in range(parts):
        block = jax.tree.map(lambda a, k=number: a[k * size : (k + 1) * size], (x, neighbours))
        seen.append(look(system, density, block[0], jax.random.fold_in(key, number), block[1]))
    value, covariance = jax.tree.map(lambda *a: sum(a) / parts, *seen)
    return Target(value, covariance / parts)


def with_sums(estimate: Callable) -> Callable:
    """An estimate that gives the result, v_i + v_j of all its numbers, whose errors tell the covariance, and v."""

    def both(averages):
        result = estimate(averages)
        v, _ = ravel_pytree(result)
        return result, v[:, None] + v[None, :], v

    return both


def covariance_of(error: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """That of v from the standard errors of v_i + v_j: var(v_i + v_i) = 4 var v_i."""
    of_sums = error**2
    own = jnp.diag(of_sums) / 4
    return (of_sums - own[:, None] - own[None, :]) / 2
