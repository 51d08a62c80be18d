"""Thermodynamics from one function: a(ρ, T), the Helmholtz free energy per mass; the rest are its derivatives.

p = ρ² ∂a/∂ρ, s = −∂a/∂T, e = a + Ts: Maxwell's relations, such as ∂p/∂T = −ρ² ∂s/∂ρ, hold by construction.
H. B. Callen, Thermodynamics and an Introduction to Thermostatistics, 2nd ed. (1985), chapters 5 to 7. k_B = 1.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmd_iz.shapes import Scalar

Values = Float[Array | np.ndarray, "..."] | float | int


class AbstractEquationOfState(eqx.Module):
    """One phase, or several as far as a is smooth, of a fluid: a(ρ, T), with ρ in mass/lengthᴰ and k_B T in energy.

    Methods take numbers or arrays that broadcast with each other, and differentiate to any order.
    """

    @abc.abstractmethod
    def helmholtz(self, rho: Scalar, temperature: Scalar) -> Scalar:
        """a(ρ, T), energy/mass, at one ρ and one T, both scalars and positive."""

    def free_energy(self, rho: Values, temperature: Values) -> Array:
        """a(ρ, T), energy/mass."""
        return _each(self.helmholtz, rho, temperature)

    def pressure(self, rho: Values, temperature: Values) -> Array:
        """p = ρ² ∂a/∂ρ, energy/lengthᴰ."""
        return _each(self._pressure, rho, temperature)

    def entropy(self, rho: Values, temperature: Values) -> Array:
        """s = −∂a/∂T, 1/mass."""
        return _each(self._entropy, rho, temperature)

    def energy(self, rho: Values, temperature: Values) -> Array:
        """e = a + Ts, internal energy, energy/mass."""
        return _each(self._energy, rho, temperature)

    def heat_capacity_volume(self, rho: Values, temperature: Values) -> Array:
        """c_v = T ∂s/∂T, 1/mass."""
        return _each(self._heat_capacity, rho, temperature)

    def heat_capacity_pressure(self, rho: Values, temperature: Values) -> Array:
        """c_p = c_v + T p_T²/(ρ² p_ρ), 1/mass; p_ρ = 0 at the limit of stability, where it diverges."""
        return _each(self._heat_capacity_pressure, rho, temperature)

    def pressure_slopes(self, rho: Values, temperature: Values) -> tuple[Array, Array]:
        """p_ρ = ∂p/∂ρ at constant T, velocity², and p_T = ∂p/∂T at constant ρ, 1/lengthᴰ."""
        return _each(self._pressure_slopes, rho, temperature)

    def sound_speed(self, rho: Values, temperature: Values) -> Array:
        """c = √(∂p/∂ρ at constant s) = √(p_ρ + T p_T²/(ρ² c_v)); NaN where the state is mechanically unstable."""
        return _each(self._sound_speed, rho, temperature)

    def temperature(self, rho: Values, energy: Values, guess: Values = 1.0) -> Array:
        """T with e(ρ, T) = e, by Newton's method kept in a bracket; its derivative by the implicit function theorem.

        e grows with T wherever c_v > 0, so that there is one T at most.

        Args:
            rho: ρ.
            energy: e, energy/mass.
            guess: where to begin; of the right order of magnitude, such as T of the last step, it saves time.

        Returns:
            T, energy; NaN where there is none, as for an e below the lowest that the fluid can have.
        """

        return _each(self._temperature, rho, energy, guess)

    def _temperature(self, r, e, start):
        def miss(t):
            return self._energy(r, t) - e

        def tangent(linear, value):
            return value / linear(jnp.ones_like(value))

        return jax.lax.custom_root(miss, jax.lax.stop_gradient(start), _rising_root, tangent)

    def _pressure(self, r, t):
        return r**2 * jax.grad(self.helmholtz, 0)(r, t)

    def _entropy(self, r, t):
        return -jax.grad(self.helmholtz, 1)(r, t)

    def _energy(self, r, t):
        value, slope = jax.value_and_grad(self.helmholtz, 1)(r, t)
        return value - t * slope

    def _heat_capacity(self, r, t):
        return t * jax.grad(self._entropy, 1)(r, t)

    def _pressure_slopes(self, r, t):
        return jax.grad(self._pressure, (0, 1))(r, t)

    def _heat_capacity_pressure(self, r, t):
        p_r, p_t = self._pressure_slopes(r, t)
        return self._heat_capacity(r, t) + t * p_t**2 / (r**2 * p_r)

    def _sound_speed(self, r, t):
        p_r, p_t = self._pressure_slopes(r, t)
        return jnp.sqrt(p_r + t * p_t**2 / (r**2 * self._heat_capacity(r, t)))


def _rising_root(function: Callable, start: Array) -> Array:
    """The positive zero of a rising function: Newton's steps inside a bracket, else halves or quarters."""
    most, eps = 200, float(jnp.finfo(start.dtype).eps)

    def go_on(carry):
        t, last, _, _, k = carry
        return (jnp.abs(t - last) > 4 * eps * t) & (k < most)

    def step(carry):
        t, _, low, high, k = carry
        value, slope = jax.jvp(function, (t,), (jnp.ones_like(t),))
        low, high = jnp.where(value <= 0, t, low), jnp.where(value >= 0, t, high)
        newton = t - value / slope
        wide = jnp.where(high < jnp.inf, 0.5 * (low + high), 4 * t)
        narrow = jnp.where(low > 0, wide, 0.25 * t)
        inside = (newton >= low) & (newton <= high) & (newton > 0) & (slope > 0)
        return jnp.where(inside, newton, jnp.where(value > 0, narrow, wide)), t, low, high, k + 1

    first = (start, jnp.full_like(start, -1.0), jnp.zeros_like(start), jnp.full_like(start, jnp.inf), 0)
    t, last, *_ = jax.lax.while_loop(go_on, step, first)
    good = (jnp.abs(t - last) <= 64 * eps * t) & (t > 1e-30)
    return jnp.where(good, t, jnp.nan)


def _each(method: Callable, *values: Values) -> Any:
    """A method of scalars at every element of arrays that broadcast, compiled once for each shape."""
    kinds = [v.dtype for v in values if not isinstance(v, float | int)]
    dtype = jnp.result_type(*kinds) if kinds else jnp.result_type(float)
    return _compiled(method, *(jnp.asarray(v, dtype) for v in values))


@eqx.filter_jit
def _compiled(method, *values):
    return jnp.vectorize(method)(*values)
