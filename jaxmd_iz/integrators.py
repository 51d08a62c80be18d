"""Time integrators of ẋ = p/M, ṗ = F(x): they see a force function, never a potential.

Symplectic schemes are palindromes of kicks and drifts (time reversible); BAOAB adds an exact Ornstein–Uhlenbeck step.
"""

import abc
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PRNGKeyArray

from jaxmd_iz.checks import fail, must, one_of
from jaxmd_iz.reversible import checkpointed, reversible

Force = Callable[[Float[Array, "n D"]], Float[Array, "n D"]]


class Phase(NamedTuple):
    """A phase point with the force at x, kept so that one step costs as few forces as it can."""

    x: Float[Array, "n D"]
    p: Float[Array, "n D"]
    force: Float[Array, "n D"]


class AbstractIntegrator(eqx.Module):
    """One step of length `step`."""

    step: eqx.AbstractVar[float]

    @abc.abstractmethod
    def __call__(self, phase: Phase, force: Force, masses: Float[Array, " n"], key: PRNGKeyArray | None) -> Phase:
        """The phase point one step later; `key` is used by stochastic schemes alone."""


def _check_step(step) -> None:
    if not isinstance(step, Tracer):
        must(
            bool(np.isfinite(step)) and bool(np.asarray(step) != 0),
            "step",
            "be a finite time step, not zero",
            f"it is {step}",
        )


def _verlet(phase: Phase, force: Force, masses, step) -> Phase:
    """Kick ½, drift, kick ½."""
    p = phase.p + 0.5 * step * phase.force
    x = phase.x + step * p / masses[:, None]
    new = force(x)
    return Phase(x, p + 0.5 * step * new, new)


class VelocityVerlet(AbstractIntegrator):
    """Velocity Verlet: second order, symplectic, reversible, one force a step.

    Args:
        step: time step; a negative one runs backwards.
    """

    step: float | Float[Array, ""]

    def __check_init__(self):
        _check_step(self.step)

    def __call__(self, phase, force, masses, key=None):
        """One step."""
        return _verlet(phase, force, masses, self.step)


class ForestRuth(AbstractIntegrator):
    """Fourth order: three velocity-Verlet steps of θ, 1 − 2θ, θ times `step`, θ = 1/(2 − 2^{1/3}).

    E. Forest and R. D. Ruth, Physica D 43, 105 (1990). Three forces a step.

    Args:
        step: time step; a negative one runs backwards.
    """

    step: float | Float[Array, ""]

    def __check_init__(self):
        _check_step(self.step)

    def __call__(self, phase, force, masses, key=None):
        """One step."""
        theta = 1.0 / (2.0 - 2.0 ** (1.0 / 3.0))
        for part in (theta, 1.0 - 2.0 * theta, theta):
            phase = _verlet(phase, force, masses, part * self.step)
        return phase


class OptimisedForestRuth(AbstractIntegrator):
    """Fourth order, with errors some forty times below those of `ForestRuth`; four forces a step.

    Kicks of ξ, χ, 1 − 2(ξ + χ), χ, ξ and drifts of ½ − λ, λ, λ, ½ − λ times `step` (VEFRL).
    I. P. Omelyan, I. M. Mryglod, R. Folk, Comput. Phys. Commun. 146, 188 (2002).

    Args:
        step: time step; a negative one runs backwards.
    """

    step: float | Float[Array, ""]

    def __check_init__(self):
        _check_step(self.step)

    def __call__(self, phase, force, masses, key=None):
        """One step."""
        xi, lam, chi = 0.1644986515575760, -0.02094333910398989, 1.235692651138917
        x, p, f = phase
        kicks = (xi, chi, 1.0 - 2.0 * (xi + chi), chi)
        for kick, drift in zip(kicks, (0.5 - lam, lam, lam, 0.5 - lam), strict=True):
            p = p + kick * self.step * f
            x = x + drift * self.step * p / masses[:, None]
            f = force(x)
        return Phase(x, p + xi * self.step * f, f)


class Baoab(AbstractIntegrator):
    """Langevin dynamics by the BAOAB splitting: kick, drift, exact friction and noise, drift, kick.

    B. Leimkuhler and C. Matthews, Appl. Math. Res. Express 2013, 34. Positions are accurate to fourth order in the
    step in the limit of large friction.

    Args:
        step: time step.
        friction: γ, 1/time.
        temperature: k_B T, energy.
    """

    step: float | Float[Array, ""]
    friction: float | Float[Array, ""]
    temperature: float | Float[Array, ""]

    def __check_init__(self):
        _check_step(self.step)
        for name in ("friction", "temperature"):
            value = getattr(self, name)
            if not isinstance(value, Tracer):
                must(bool(np.asarray(value) >= 0), name, "be zero or more", f"it is {value}")

    def __call__(self, phase, force, masses, key=None):
        """One step; needs a key."""
        if key is None:
            fail("key", "be given for Langevin dynamics", "it is None")
        m = masses[:, None]
        p = phase.p + 0.5 * self.step * phase.force
        x = phase.x + 0.5 * self.step * p / m
        keep = jnp.exp(-jnp.asarray(self.friction * self.step, p.dtype))
        noise = jax.random.normal(key, p.shape, p.dtype)
        p = keep * p + jnp.sqrt((1.0 - keep**2) * self.temperature) * jnp.sqrt(m) * noise
        x = x + 0.5 * self.step * p / m
        new = force(x)
        return Phase(x, p + 0.5 * self.step * new, new)


def trajectory(
    integrator: AbstractIntegrator,
    force: Force,
    masses: Float[Array, " n"],
    x: Float[Array, "n D"],
    p: Float[Array, "n D"],
    steps: int,
    key: PRNGKeyArray | None = None,
    gradient: str = "store",
) -> tuple[Float[Array, "n D"], Float[Array, "n D"]]:
    """Positions and momenta after `steps` steps: one loop on the device, differentiable.

    Small changes of the start or of a parameter grow as e^{Λt}, Λ the largest Lyapunov exponent (about 1 to 2 in units
    of the Lennard-Jones time for a liquid), and so do gradients: after some 10/Λ take averages, and differentiate those
    by `reweighting`.

    Args:
        integrator: scheme.
        force: x ↦ F(x).
        masses: (n,).
        x, p: (n, D).
        steps: number of steps, static.
        key: for stochastic schemes.
        gradient: what reverse mode keeps. `store` (default): every intermediate array of every step; the fastest.
            `checkpoint`: about 32 log₃₂(steps) phase points; one more force a step for each level of 32, 32², …
            `reversible`: nothing, since steps in whole numbers are undone exactly; for `VelocityVerlet`, reverse mode
            alone. `jax.jvp` passes through the other two and needs no memory that grows with `steps` in either.

    Returns:
        x, p after the last step.

    Raises:
        InputError: a name that is not known; `reversible` for another scheme; shapes that do not fit; steps below 0.
    """
    must(steps >= 0, "steps", "be 0 or more", f"it is {steps}")
    must(p.shape == x.shape, "p", f"have the shape {x.shape} of `x`", f"it is {p.shape}")
    must(masses.shape == x.shape[:1], "masses", f"have shape {x.shape[:1]}", f"it is {masses.shape}")
    one_of(gradient, "gradient", ("store", "checkpoint", "reversible"))
    if gradient == "reversible":
        name = type(integrator).__name__
        must(
            isinstance(integrator, VelocityVerlet),
            "gradient",
            "be `reversible` for `VelocityVerlet` alone",
            f"the scheme is `{name}`",
        )
        return reversible(force, masses, integrator.step, x, p, steps)

    def body(phase, i):
        sub = None if key is None else jax.random.fold_in(key, i)
        return integrator(phase, force, masses, sub)

    begin = Phase(x, p, force(x))
    if gradient == "checkpoint":
        last = checkpointed(body, begin, 0, steps)
    else:
        last, _ = jax.lax.scan(lambda phase, i: (body(phase, i), None), begin, jnp.arange(steps))
    return last.x, last.p
