"""The quantum side: canonical averages, correlations and conservation fields of Ĥ on a Fourier grid, no limit taken."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from jaxmd_iz.limit.problem import Problem
from jaxmd_iz.mollifiers import AbstractMollifier
from jaxmd_iz.moments import Moments
from jaxmd_iz.quantum import conservation, spectrum
from jaxmd_iz.quantum.grid import Grid, must_fit
from jaxmd_iz.simulation import Grid as FieldGrid

SPAN = 1e-5  # share of the low electron states that a fixed basis may leave out


class Quantum(eqx.Module):
    """A problem at one M: its grid, V + V_b at the points, and every level that matters below one temperature."""

    problem: Problem
    grid: Grid
    x: Float[Array, "N C"]
    v: Inexact[Array, "N r r"]  # V + V_b I in the electron basis
    basis: Inexact[Array, "d r"]  # which does not depend on x
    of: spectrum.Spectrum
    before: spectrum.Spectrum  # with the push and squeeze of the problem


def solve(problem: Problem, mass: float, temperature: float, tolerance: float = 1e-11, pushed: bool = False) -> Quantum:
    """Diagonalises Ĥ at one M.

    Of many electron states the span of those is kept that lie below the highest energy somewhere, and of their
    neighbours as far as the span turns with x; it converges faster than any power of its size.

    Args:
        problem: the model.
        mass: M, so that ħ = M^{−1/2}.
        temperature: the highest T that will be asked for.
        tolerance: relative weight of what is left out.
        pushed: also with the push and squeeze of the problem, from which fields start.

    Raises:
        InputError: more than fits the memory of the machine.
    """
    grid = problem.grid(mass, temperature, tolerance)
    states = problem.potential.states
    must_fit(64.0 * grid.size * states**2, "mass", f"V on {grid.points} points")
    x = grid.x
    v = _matrices(problem, x)
    height = -temperature * np.log(tolerance)
    basis = _electron_basis(np.asarray(v), height)
    v = jnp.asarray(basis.conj().T @ np.asarray(v) @ basis)
    of = before = _below(problem, grid, v, height)
    if pushed and (bool(jnp.any(problem.push != 0)) or float(problem.squeeze) != 0):
        before = _below(problem, grid, v + _scalar(v, jax.vmap(problem.pushed)(x)), height)
    return Quantum(problem, grid, x, v, jnp.asarray(basis), of, before)


def _electron_basis(v: np.ndarray, height: float) -> np.ndarray:
    """An orthonormal basis (d, r) of what the low electron states span at all places together."""
    levels, psi = np.linalg.eigh(v)
    allowed = levels[:, 0] <= levels.min() + height
    most = int((levels[allowed] <= levels.min() + height).sum(axis=1).max())
    low = psi[allowed][:, :, :most]
    share, vectors = np.linalg.eigh(np.einsum("xak,xbk->ab", low, low.conj()) / allowed.sum())
    kept = vectors[:, share > SPAN]
    return np.eye(v.shape[1], dtype=v.dtype) if kept.shape[1] == v.shape[1] else kept


def _below(problem: Problem, grid: Grid, v: Inexact[Array, "N d d"], height: float) -> spectrum.Spectrum:
    """The spectrum up to a height above the lowest λ, on the part of the grid that is reached from the start."""
    lowest = np.linalg.eigvalsh(np.asarray(v))[:, 0]
    cutoff = float(lowest.min()) + height
    reached = problem.reached(np.asarray(grid.x), lowest <= cutoff, grid.points)
    wall = jnp.asarray(np.where(reached, 0.0, 1e6 + 2 * abs(cutoff)))  # what lies beyond is left out by the cutoff
    return spectrum.spectrum(grid, v + _scalar(v, wall), cutoff)


@eqx.filter_jit
def _matrices(problem: Problem, x: Float[Array, "N C"]) -> Array:
    return jax.lax.map(problem.matrix, x, batch_size=1024)


def _scalar(v: Inexact[Array, "N d d"], value: Float[Array, " N"]) -> Inexact[Array, "N d d"]:
    """A function of x times I, like v."""
    return value[:, None, None].astype(v.dtype) * jnp.eye(v.shape[1], dtype=v.dtype)[None]


def statics(of: Quantum, temperature: float) -> dict[str, float]:
    """Tr(Â e^{−βĤ})/Tr e^{−βĤ} for the observables of `classical.statics`."""
    density, electrons = _densities(spectrum.gibbs(of.of, temperature), of.basis)
    found = {"x": float(density @ of.x[:, 0]), "x2": float(density @ jnp.sum(of.x**2, axis=1))}
    return found | ({"population": float(electrons[0])} if of.problem.potential.states > 1 else {})


@eqx.filter_jit
def _densities(f: spectrum.Mixture, basis: Inexact[Array, "d r"]) -> tuple[Float[Array, " N"], Float[Array, " d"]]:
    """⟨δ(x̂ − x)⟩ at the points, and the populations of the electron states of V."""
    where = jnp.real(jnp.einsum("xai,xai,i->x", f.vectors.conj(), f.vectors, f.weights.astype(f.vectors.dtype)))
    moved = jnp.einsum("ba,xai->xbi", basis.astype(f.vectors.dtype), f.vectors)
    return where, jnp.real(jnp.einsum("xbi,xbi,i->b", moved.conj(), moved, f.weights.astype(moved.dtype)))


def correlations(of: Quantum, temperatures, times) -> Float[Array, "temperatures times"]:
    """Σ_c Re Tr(x̂_c(τ) x̂_c e^{−βĤ})/Tr e^{−βĤ} for every T and τ."""
    return _correlations(of, jnp.asarray(temperatures, float), jnp.asarray(times, float))


@eqx.filter_jit
def _correlations(of: Quantum, temperatures: Float[Array, " T"], times: Float[Array, " t"]) -> Array:
    total = jnp.zeros((temperatures.shape[0], times.shape[0]))
    for c in range(of.x.shape[1]):
        a = spectrum.elements(of.of, _scalar(of.v, of.x[:, c]))
        total = total + jax.lax.map(lambda t, a=a: spectrum.correlation(of.of, t, a, a, times), temperatures)
    return total


def start(of: Quantum, temperature: float) -> spectrum.Mixture:
    """f̂ = e^{−βĤ₀}/Tr e^{−βĤ₀}, Ĥ₀ with the push of the problem: what fields start from."""
    return spectrum.gibbs(of.before, temperature)


def moments(of: Quantum, f: spectrum.Mixture, time: float, field: FieldGrid) -> tuple[Moments, Float[Array, " D"]]:
    """Raw moments at time τ from the symbols of (5.22), with Vⁿ and p in the basis of V, and w = 0.

    The split by energies has R + S = 0, so that w drops out of every field.

    Args:
        of: the problem at one M.
        f: the density operator at τ = 0.
        time: τ.
        field: points y with the mollifier.
    """
    problem = of.problem
    moved = spectrum.evolved(of.of, f, time) if time else f
    found = conservation.moments_at(moved, _energies(of), field.y, _Eta(field.mollifier), _Bond(field.mollifier))
    nothing = jnp.zeros(field.y.shape[1])
    names = ("rho", "momentum", "energy_kinetic", "energy_potential", "k", "s", "j_kinetic", "r", "force", "power")
    number = found.rho[:, None] / jnp.mean(problem.masses)  # for T alone, which is not compared
    rest = {name: getattr(found, name) for name in names}
    return Moments(number=number, j_potential=found.j_potential + found.j_electronic, **rest), nothing


def _energies(of: Quantum) -> conservation.Energies:
    energy, slope, outside, confinement = _partition(of.problem, of.x)
    energy, slope = (of.basis.conj().T @ a.astype(of.basis.dtype) @ of.basis for a in (energy, slope))
    return conservation.Energies(of.grid, energy, slope, outside, confinement)


@eqx.filter_jit
def _partition(problem: Problem, x: Float[Array, "N C"]):
    def at(one):
        return *problem.partition(one), problem.outside(one), problem.confinement(one)

    return jax.lax.map(at, x, batch_size=256)


class _Eta(eqx.Module):
    """u (…, D) ↦ η(u)."""

    mollifier: AbstractMollifier

    def __call__(self, u):
        return self.mollifier.density(jnp.moveaxis(u, -1, 0))


class _Bond(eqx.Module):
    """y, xⁿ, xᵐ (…, D) ↦ B."""

    mollifier: AbstractMollifier

    def __call__(self, y, one, other):
        at = y.reshape((1,) * (one.ndim - 1) + (-1,))
        u, d = at - (one + other) / 2, one - other
        return self.mollifier.bond(jnp.moveaxis(u, -1, 0), jnp.moveaxis(d, -1, 0))
