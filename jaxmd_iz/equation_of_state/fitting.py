"""Fit of an equation of state to state points (ρ, T; p, e) with the covariance of (p, e) at each.

χ² = Σ rᵀ C⁻¹ r is lowered by L-BFGS in coordinates in which the Gauss–Newton matrix JᵀJ is the unit matrix, renewed a
few times: a form that is linear in its parameters is there after one step. J. Nocedal, S. J. Wright, Numerical
Optimization, 2nd ed. (2006), chapters 7 and 10.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxmd_iz.checks import must
from jaxmd_iz.equation_of_state.base import AbstractEquationOfState


class StatePoints(eqx.Module):
    """State points of one fluid, as from canonical averages.

    Args:
        density: (P,) ρ, mass/lengthᴰ.
        temperature: (P,) k_B T, energy.
        pressure: (P,) p, energy/lengthᴰ.
        energy: (P,) e with its kinetic part, energy/mass.
        covariance: (P, 2, 2) of the errors of (p, e).

    Raises:
        InputError: shapes that differ, densities or temperatures that are not positive, a covariance that has no
            inverse.
    """

    density: Float[Array, " P"]
    temperature: Float[Array, " P"]
    pressure: Float[Array, " P"]
    energy: Float[Array, " P"]
    covariance: Float[Array, "P 2 2"]

    def __init__(self, density, temperature, pressure, energy, covariance):
        columns = [jnp.asarray(c) for c in (density, temperature, pressure, energy)]
        names = ("density", "temperature", "pressure", "energy")
        shape = columns[0].shape
        for name, column in zip(names, columns, strict=True):
            must(column.ndim == 1 and column.shape == shape, name, f"have shape {shape}", f"it is {column.shape}")
        self.density, self.temperature, self.pressure, self.energy = columns
        self.covariance = jnp.asarray(covariance)
        must(self.covariance.shape == (*shape, 2, 2), "covariance", f"have shape {(*shape, 2, 2)}",
             f"it is {self.covariance.shape}")  # fmt: skip
        for name, column in zip(names, columns, strict=True):
            whole = isinstance(column, Tracer) or bool(np.isfinite(np.asarray(column)).all())
            must(whole, name, "be finite", "it has NaN or infinite entries")
        for name, column in zip(names[:2], columns[:2], strict=True):
            if not isinstance(column, Tracer):
                least = float(np.min(np.asarray(column)))
                must(least > 0, name, "be positive", f"the smallest is {least:g}")
        if not isinstance(self.covariance, Tracer):
            least = float(np.min(np.linalg.eigvalsh(np.asarray(self.covariance))))
            must(least > 0, "covariance", "be positive definite", f"its smallest eigenvalue is {least:g}")


class EquationFit(NamedTuple):
    """A fitted model."""

    model: Any  # of the type that was given
    chi2: Float[Array, ""]  # Σ rᵀ C⁻¹ r, without the ridge
    degrees: int  # data minus parameters
    covariance: Float[Array, "parameters parameters"] | None  # (JᵀJ)⁻¹; None where parameters are not fewer than data


def normalised_residuals(model: AbstractEquationOfState, points: StatePoints) -> Float[Array, " two_P"]:
    """L⁻¹ (p − p_i, e − e_i) with C = L Lᵀ of every point: independent, with variance 1 where the model is right."""
    miss = jnp.stack([
        model.pressure(points.density, points.temperature) - points.pressure,
        model.energy(points.density, points.temperature) - points.energy,
    ], axis=-1)  # fmt: skip
    factor = jnp.linalg.cholesky(points.covariance)
    return jax.scipy.linalg.solve_triangular(factor, miss[..., None], lower=True)[..., 0].reshape(-1)


def fit_equation_of_state(
    model: AbstractEquationOfState, points: StatePoints, *, rounds: int = 3, steps: int = 40, ridge: float = 0.0
) -> EquationFit:
    """The model with its arrays of numbers moved to the least χ² + ridge |θ|².

    Everything in `model` that is an array of floats is a parameter θ: coefficients, weights of a network, electronic
    energies. Good values: the defaults for `FreeEnergySeries`; for `NeuralFreeEnergy` `rounds` 8 and a `ridge` of 0.1
    or more, which keeps weights small that the data do not fix.

    Args:
        model: where to begin.
        points: data.
        rounds: how often the coordinates are renewed.
        steps: of L-BFGS in each round.
        ridge: weight of |θ|².

    Returns:
        EquationFit; `covariance` is in the order of `jax.flatten_util.ravel_pytree` of the parameters.

    Raises:
        InputError: no parameters, or numbers of rounds and steps below 1, or a negative ridge.
    """
    must(min(rounds, steps) >= 1, "rounds", "be 1 or more, as `steps`", f"they are {rounds} and {steps}")
    must(ridge >= 0, "ridge", "be zero or more", f"it is {ridge}")
    free, fixed = eqx.partition(model, eqx.is_inexact_array)
    theta, unravel = ravel_pytree(free)
    must(theta.size > 0, "model", "have arrays to fit", "it has none")

    def residuals(theta):
        return normalised_residuals(eqx.combine(unravel(theta), fixed), points)

    @eqx.filter_jit
    def lower(theta):
        theta, _ = jax.lax.scan(lambda t, _: (_round(residuals, t, steps, ridge), None), theta, None, length=rounds)
        return theta, residuals(theta), jax.jacfwd(residuals)(theta)

    theta, r, jacobian = lower(theta)
    degrees = r.size - theta.size
    covariance = None
    if degrees > 0:
        _, upper = jnp.linalg.qr(jacobian)
        inverse = jax.scipy.linalg.solve_triangular(upper, jnp.eye(theta.size, dtype=theta.dtype))
        covariance = inverse @ inverse.T
    return EquationFit(eqx.combine(unravel(theta), fixed), jnp.sum(r**2), degrees, covariance)


def _round(residuals, theta, steps, ridge):
    """L-BFGS in φ, θ = θ₀ + W φ with W Wᵀ = (JᵀJ + ridge)⁻¹ at θ₀."""
    jacobian = jax.jacfwd(residuals)(theta)
    both = jnp.concatenate([jacobian, jnp.sqrt(ridge) * jnp.eye(theta.size, dtype=theta.dtype)])
    _, sizes, rows = jnp.linalg.svd(both, full_matrices=False)
    kept = (
        sizes > theta.size * float(jnp.finfo(theta.dtype).eps) * sizes[0]
    )  # the others the data do not see: they stay
    w = (rows * jnp.where(kept, 1 / jnp.where(kept, sizes, 1.0), 0.0)[:, None]).T

    def loss(phi):
        moved = theta + w @ phi
        return 0.5 * (jnp.sum(residuals(moved) ** 2) + ridge * jnp.sum(moved**2))

    solver = optax.lbfgs()
    with jax.numpy_dtype_promotion("standard"):
        evaluate = optax.value_and_grad_from_state(loss)

        def step(carry, _):
            phi, state = carry
            value, slope = evaluate(phi, state=state)
            updates, state = solver.update(slope, state, phi, value=value, grad=slope, value_fn=loss)
            new: Any = optax.apply_updates(phi, updates)
            return (jnp.where(jnp.all(jnp.isfinite(new)), new, phi), state), None

        start = jnp.zeros_like(theta)
        (phi, _), _ = jax.lax.scan(step, (start, solver.init(start)), None, length=steps)
    return theta + w @ phi
