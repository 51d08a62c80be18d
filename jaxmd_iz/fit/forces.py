"""Force and stress matching: parameters of a potential from forces, energies, pressures, stresses at given positions.

Least Σ r², r = (found − given)/error, by the Levenberg–Marquardt method, in coordinates in which every parameter moves
r by as much: F. Ercolessi and J. B. Adams, Europhys. Lett. 26, 583 (1994), with stresses beside the forces.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax import lax
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxmd_iz import surfaces
from jaxmd_iz.checks import must
from jaxmd_iz.chunks import ListKeeper, wants_list
from jaxmd_iz.mollifiers import AbstractMollifier
from jaxmd_iz.neighbours import Neighbours
from jaxmd_iz.space import Periodic
from jaxmd_iz.system import System

KINDS = ("forces", "energies", "pressure", "stress")


class Snapshots(eqx.Module):
    """Positions and what is known of the interactions there; at least one of the four kinds.

    Args:
        x: (S, n, D) positions, length.
        forces: (S, n, D) with those of the external potential, energy/length.
        energies: (S, n) λ̄ⁿ or (S,) their sums, without V_b.
        pressure: (S, D, D) pressure tensor (Σ p⊗p/M − ∂λ̄/∂strain)/V; without `momenta` its configurational part.
        stress: (S, Y, D, D) S(y), the configurational part of σ at the points of `match_forces`, tension positive.
        momenta: (S, n, D), used in `pressure`.

    Raises:
        InputError: shapes that do not fit, numbers that are not finite, no kind at all.
    """

    x: Float[Array, "S n D"]
    forces: Float[Array, "S n D"] | None = None
    energies: Float[Array, "S n"] | Float[Array, " S"] | None = None
    pressure: Float[Array, "S D D"] | None = None
    stress: Float[Array, "S Y D D"] | None = None
    momenta: Float[Array, "S n D"] | None = None

    def __init__(self, x, forces=None, energies=None, pressure=None, stress=None, momenta=None):
        self.x = jnp.asarray(x)
        must(self.x.ndim == 3, "x", "have shape (S, n, D)", f"its shape is {self.x.shape}")
        s, n, dim = self.x.shape
        given = {"forces": forces, "energies": energies, "pressure": pressure, "stress": stress, "momenta": momenta}
        points = "Y" if stress is None or np.ndim(stress) != 4 else np.shape(stress)[1]
        fits = {
            "forces": [(s, n, dim)],
            "energies": [(s, n), (s,)],
            "pressure": [(s, dim, dim)],
            "stress": [(s, points, dim, dim)],
            "momenta": [(s, n, dim)],
        }
        must(any(given[k] is not None for k in KINDS), "forces", "be given, or another kind of data", "all are None")
        for name, value in {"x": x, **given}.items():
            if value is None or name == "x":
                setattr(self, name, None if value is None else self.x)
            else:
                array, shapes = jnp.asarray(value, self.x.dtype), fits[name]
                words = " or ".join(str(shape).replace("'", "") for shape in shapes)
                must(array.shape in shapes, name, f"have shape {words}", f"it is {array.shape}")
                setattr(self, name, array)
            if value is not None and not isinstance(value, Tracer):
                whole = bool(np.all(np.isfinite(np.asarray(value))))
                must(whole, name, "be finite", "it has NaN or infinite entries")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are given."""
        return tuple(k for k in KINDS if getattr(self, k) is not None)


class ForceFit(NamedTuple):
    """A system whose free parameters fit the data best."""

    system: Any  # of the type that was given
    parameters: Any  # what `free` takes of it
    covariance: Float[Array, "P P"] | None  # in the order of `ravel_pytree`; None without more data than parameters
    chi2: Float[Array, ""]  # Σ r²
    degrees: int  # data minus parameters
    misfit: dict[str, Float[Array, ""]]  # root mean square of found − given, of each kind, in its own units
    steps: int
    converged: bool


def interactions(
    system: System,
    data: Snapshots,
    grid: tuple[Float[Array, "Y D"], AbstractMollifier] | None = None,
    *,
    state: int = 0,
    neighbours: Neighbours | None = None,
    batch: int = 4,
) -> dict[str, Array]:
    """What the system has at the positions of the data, of the kinds and shapes given there; differentiable.

    Args:
        system: potential, space, masses, surfaces.
        data: S snapshots.
        grid: y (Y, D) and mollifier of `stress`.
        state: surface k.
        neighbours: lists with leading axis S, or None for all pairs.
        batch: snapshots seen together.

    Returns:
        By kind, in the order of `KINDS`.

    Raises:
        InputError: a pressure outside a periodic space, a stress without a grid.
    """
    space, kinds = system.space, data.kinds
    if "pressure" in kinds:
        must(isinstance(space, Periodic), "pressure", "belong to a periodic space", f"it is {type(space).__name__}")
    must("stress" not in kinds or grid is not None, "grid", "be given with `stress`", "it is None")

    def one(item):
        x, p, nl = item
        found = {}
        if "forces" in kinds:
            found["forces"] = system.force(x, state, nl)
        if "energies" in kinds:
            each = system.surface(x, state, nl).energy
            found["energies"] = each if data.energies is not None and data.energies.ndim == 2 else jnp.sum(each)
        if "pressure" in kinds:
            assert isinstance(space, Periodic)
            e = system.edges(x, nl)
            strain = surfaces.virial(system.potential, e, system.masses, state, system.correction)
            kinetic = 0.0 if p is None else jnp.einsum("ni,nj->ij", p / system.masses[:, None], p)
            found["pressure"] = (kinetic - strain) / space.volume
        if "stress" in kinds:
            assert grid is not None
            found["stress"] = system.moments(grid[0], x, jnp.zeros_like(x), state, grid[1], nl).s
        return found

    return lax.map(jax.checkpoint(one), (data.x, data.momenta, neighbours), batch_size=min(batch, data.x.shape[0]))


def scales(data: Snapshots) -> dict[str, Float[Array, ""]]:
    """The root mean square of the data of each kind: errors with which all kinds count alike."""
    size = {k: jnp.sqrt(jnp.mean(getattr(data, k) ** 2)) for k in data.kinds}
    return {k: jnp.where(s > 0, s, 1.0) for k, s in size.items()}


def mismatch(found: Mapping[str, Array], data: Snapshots, errors: Mapping[str, Any]) -> Float[Array, " N"]:
    """r = (found − given)/error of all kinds, one after the other; ½ Σ r² is the loss of the fit."""
    rows = [(found[k] - getattr(data, k)) / jnp.asarray(errors[k], data.x.dtype) for k in data.kinds]
    return jnp.concatenate([r.reshape(-1) for r in rows])


def match_forces(
    system: System,
    data: Snapshots,
    free: Callable[[System], Any],
    *,
    errors: Mapping[str, Any] | None = None,
    grid: tuple[Float[Array, "Y D"], AbstractMollifier] | None = None,
    state: int = 0,
    neighbours: str = "auto",
    tolerance: float = 1e-10,
    steps: int = 64,
    batch: int = 4,
) -> ForceFit:
    """The free parameters of a system with which forces, energies, pressures and stresses are closest to given ones.

    The cutoff stays. Take a potential whose `cutoff` leaves room where lengths may grow.

    Args:
        system: where to begin.
        data: S snapshots.
        free: system ↦ pytree of its arrays that are to be found, each of them whole: `lambda s: s.potential.epsilon`.
        errors: standard errors by kind, numbers. By default the root mean square of the data, and the covariance
            comes from what the fit leaves.
        grid, state, batch: as in `interactions`.
        neighbours: `auto`, `dense` or `list`.
        tolerance: of a step, relative to the parameters, and of Σ r².
        steps: at most so many.

    Returns:
        ForceFit; `converged` tells whether the tolerance was met within `steps`.

    Raises:
        InputError: errors of other kinds than the data or not positive, `free` without arrays of numbers, a parameter
            that the data do not depend on, and what `interactions` refuses.
    """
    must(0 <= state < system.states, "state", f"be from 0 to {system.states - 1}", f"it is {state}")
    weights = _errors(data, errors)
    theta, back = ravel_pytree(free(system))
    fine = theta.size > 0 and jnp.issubdtype(theta.dtype, jnp.floating)
    must(fine, "free", "take arrays of floating-point numbers", f"it takes {theta.size} of {theta.dtype}")
    particles = data.x.shape[1]
    lists = ListKeeper(system, wants_list(system, particles, neighbours), 0.0).build(data.x)

    def at(theta, system):
        return eqx.tree_at(lambda s: jax.tree.leaves(free(s)), system, jax.tree.leaves(back(theta)))

    def residuals(theta, known):
        system, data, lists, weights = known
        found = interactions(at(theta, system), data, grid, state=state, neighbours=lists, batch=batch)
        return mismatch(found, data, weights)

    @eqx.filter_jit
    def linear(theta, known):
        return residuals(theta, known), jax.jacfwd(residuals)(theta, known)

    known = system, data, lists, weights
    size = jnp.linalg.norm(linear(theta, known)[1], axis=0)
    unseen = np.flatnonzero(np.asarray(size) == 0)
    but = f"the data do not depend on number {', '.join(map(str, unseen))} of them"
    must(unseen.size == 0, "free", "take parameters that the data depend on", but)

    with jax.numpy_dtype_promotion("standard"):
        found = optx.least_squares(
            lambda t, both: residuals(t / both[0], both[1]),
            optx.LevenbergMarquardt(rtol=tolerance, atol=tolerance),
            size * theta, (size, known), max_steps=steps, throw=False,
        )  # fmt: skip
    theta = found.value / size
    r, slope = linear(theta, known)
    degrees = r.size - theta.size
    chi2 = jnp.sum(r**2)
    covariance = None
    if degrees > 0:
        covariance = _inverse(slope) * (chi2 / degrees if errors is None else 1.0)
    done = bool(found.result == optx.RESULTS.successful)
    misfit, first = {}, 0
    for k in data.kinds:
        last = first + getattr(data, k).size
        misfit[k] = weights[k] * jnp.sqrt(jnp.mean(r[first:last] ** 2))
        first = last
    return ForceFit(
        at(theta, system), back(theta), covariance, chi2, degrees, misfit, int(found.stats["num_steps"]), done
    )


def _errors(data, errors):
    if errors is None:
        return scales(data)
    must(set(errors) == set(data.kinds), "errors", f"name {', '.join(data.kinds)}", f"it names {', '.join(errors)}")
    for name, value in errors.items():
        must(np.ndim(value) == 0 and float(value) > 0, f"errors[{name}]", "be a positive number", f"it is {value}")
    return {k: jnp.asarray(v, data.x.dtype) for k, v in errors.items()}


def _inverse(jacobian):
    """(JᵀJ)⁻¹ by QR."""
    upper = jnp.linalg.qr(jacobian)[1]
    inverse = jax.scipy.linalg.solve_triangular(upper, jnp.eye(upper.shape[0], dtype=upper.dtype))
    return inverse @ inverse.T
