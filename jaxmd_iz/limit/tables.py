"""Surfaces of many electron states in one coordinate, tabulated once and interpolated along trajectories."""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmd_iz import surfaces
from jaxmd_iz.potentials.base import AbstractPotential

STATES = 5  # from so many states on, an eigenproblem a step costs more than a table


def wants_table(potential: AbstractPotential, coordinates: int) -> bool:
    """Whether surfaces are worth tabulating: many states of one coordinate."""
    return coordinates == 1 and potential.states >= STATES and not isinstance(potential, Tabulated)


class Tabulated(AbstractPotential):
    """λ̄_k(x) on a line, a cubic spline through values at equal steps h: the error is 5h⁴λ⁗/384."""

    lower: Float[Array, ""]
    step: Float[Array, ""]
    values: Float[Array, "P d"]
    slopes: Float[Array, "P d"]
    states: int = eqx.field(static=True)
    own_bonds: ClassVar[bool] = True  # and on xⁿ
    invariant: ClassVar[bool] = False
    complex: ClassVar[bool] = False
    cutoff: ClassVar[float] = math.inf

    @staticmethod
    def of(problem, x: np.ndarray, masses: Float[Array, " n"], correction: str, states: int, points: int = 1201):
        """The lowest surfaces of a problem of one coordinate between the ends of x."""
        from scipy.interpolate import CubicSpline

        place = jnp.linspace(float(np.min(x)), float(np.max(x)), points)

        @jax.jit
        def table(place):
            def levels(one):
                return surfaces.levels(problem.potential, problem.edges(one), masses, correction)[:states]

            return jax.lax.map(levels, place[:, None], batch_size=64)

        values = table(place)
        slopes = jnp.asarray(CubicSpline(place, values)(place, 1))
        return Tabulated(lower=place[0], step=place[1] - place[0], values=values, slopes=slopes, states=states)

    def levels(self, x: Float[Array, ""]) -> Float[Array, " d"]:
        """λ̄_k(x); constant slope beyond the ends of the table."""
        t = (x - self.lower) / self.step
        i = jnp.clip(jnp.floor(t), 0, self.values.shape[0] - 2).astype(int)
        u = t - i.astype(t.dtype)
        a, b = jnp.take(self.values, i, axis=0), jnp.take(self.values, i + 1, axis=0)
        da, db = jnp.take(self.slopes, i, axis=0) * self.step, jnp.take(self.slopes, i + 1, axis=0) * self.step
        inside = (1 + 2 * u) * (1 - u) ** 2 * a + u * (1 - u) ** 2 * da + u**2 * (3 - 2 * u) * b - u**2 * (1 - u) * db
        return jnp.where(u < 0, a + da * u, jnp.where(u > 1, b + db * (u - 1), inside))

    def partition(self, e):
        """diag λ̄_k, (1, d, d)."""
        return jnp.diag(self.levels(e.x[0, 0]))[None]
