"""Density, momentum, energy and their fluxes of a density operator at points y, and the laws: (4.6)–(4.10).

n particles in D dimensions, n D = C ≤ 2 coordinates c = particle·D + component, and Ĥ = Σ p̂²/2m + V + V_b I with
V = Σ_n Eⁿ(x) of d × d matrices. The observables are Weyl quantisations of the classical ones of section 6, matrices
Eⁿ in place of λ̄ⁿ; they are polynomials in p with scalar leading terms, so that every law below is exact.

    ∂ρ + ∇·m = 0;   ∂m + ∇·(K − S) = F;   ∂E + ∇·(J + J_e) = P.

f_nm = ∇_{xⁿ}Eᵐ − ∇_{xᵐ}Eⁿ: the split by energies, the one that needs no more than the partition, so R + S = 0.
J_e is the flux of energy between particles within the electron states, which is there if the Eⁿ do not commute:
Σ_n η_n (i/ħ)[V, Eⁿ] = −∇·J_e with J_e = Σ_{n<m} B_nm d_nm (i/ħ)[Eᵐ, Eⁿ], as Σ_n Σ_m [Eᵐ, Eⁿ] = 0.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Inexact

from jaxmd_iz.checks import must
from jaxmd_iz.quantum.densities import Hamiltonian, LocalMoments, contract, local_moments, local_rates
from jaxmd_iz.quantum.grid import Grid
from jaxmd_iz.quantum.spectrum import Mixture


class QuantumMoments(eqx.Module):
    """Tr(Â_τ f̂) at points (any leading axes), with the names and meaning of section 6.

    The first index of K, S, R is the one contracted by ∇.
    """

    rho: Float[Array, "*g"]  # Σ m η
    momentum: Float[Array, "*g D"]  # Σ η p
    energy_kinetic: Float[Array, "*g"]  # Σ η |p|²/2m
    energy_potential: Float[Array, "*g"]  # Σ η Eⁿ
    k: Float[Array, "*g D D"]  # Σ η p⊗p/m
    s: Float[Array, "*g D D"]  # Σ B d⊗f
    j_kinetic: Float[Array, "*g D"]  # Σ η (p/m) |p|²/2m
    j_potential: Float[Array, "*g D"]  # Σ η (p/m) Eⁿ + Σ B d (pᵐ/m_m)·∇_{xᵐ}Eⁿ
    j_electronic: Float[Array, "*g D"]  # Σ B d (i/ħ)[Eᵐ, Eⁿ]; 0 if the Eⁿ commute
    r: Float[Array, "*g D D"]  # Σ B d⊗∇_{xᵐ}Eⁿ
    force: Float[Array, "*g D"]  # F = −Σ η (∇V_b + gⁿ), gⁿ = Σ_m ∇_{xᵐ}Eⁿ
    power: Float[Array, "*g"]  # P = −Σ η (p/m)·∇V_b


class Energies(eqx.Module):
    """The partition Eⁿ(x) of V, V_b, and their gradients, at the points of a grid.

    Raises:
        InputError: particles that do not share the coordinates evenly, or have different masses in x and y.
    """

    grid: Grid
    e: Inexact[Array, "N n d d"]
    gradient: Inexact[Array, "N n C d d"]  # ∂_{x_c}Eⁿ
    external: Float[Array, " N"]
    external_gradient: Float[Array, "N C"]

    def __check_init__(self):
        c, n = self.grid.coordinates, self.e.shape[1]
        must(c % n == 0, "e", f"be of a number of particles that divides the {c} coordinates", f"there are {n}")
        mass = self.grid.masses
        equal = isinstance(mass, Tracer) or bool(
            np.all(np.asarray(mass).reshape(n, -1).T == np.asarray(mass)[:: c // n])
        )
        must(equal, "masses", "be equal for all components of a particle", f"they are {mass}")

    @property
    def particles(self) -> int:
        """n."""
        return self.e.shape[1]

    @property
    def dimensions(self) -> int:
        """D = C/n."""
        return self.grid.coordinates // self.particles

    @property
    def v(self) -> Inexact[Array, "N d d"]:
        """V + V_b I, the potential of Ĥ."""
        unit = jnp.eye(self.e.shape[-1], dtype=self.e.dtype)
        return jnp.sum(self.e, axis=1) + self.external.astype(self.e.dtype)[:, None, None] * unit[None]


def energies(grid: Grid, partition: Callable, external: Callable | None = None) -> Energies:
    """Energies and their gradients from functions of x.

    Args:
        grid: the grid.
        partition: x (C,) ↦ Eⁿ(x) (n, d, d) Hermitian, differentiable.
        external: x (C,) ↦ V_b(x), differentiable; 0 by default.

    Raises:
        InputError: as `Energies`.
    """

    def of(x):
        outer = jax.value_and_grad(external)(x) if external else (jnp.zeros_like(x[0]), jnp.zeros_like(x))
        return partition(x), jnp.moveaxis(jax.jacfwd(partition)(x), -1, 1), *outer

    return Energies(grid, *jax.jit(jax.vmap(of))(grid.x))


def moments_at(
    f: Mixture, of: Energies, y: Float[Array, "Y D"], eta: Callable, bond: Callable, block: int = 64
) -> QuantumMoments:
    """Tr(Â f̂) of all densities, fluxes and sources at points y.

    Args:
        f: the density operator, of unit trace.
        of: the partition of its energy.
        y: points.
        eta: u (…, D) ↦ η(u) (…).
        bond: y (D,), xⁿ (…, D), xᵐ (…, D) ↦ B (…).
        block: states at a time.

    Returns:
        QuantumMoments.

    Raises:
        InputError: points of another dimension than the particles, or a density operator on another grid.
    """
    _check(f, of, y)
    return _spread(of, _columns(of, local_moments(f, *_powers(of), block)), y, eta, bond)


def time_derivative(
    f: Mixture,
    of: Energies,
    y: Float[Array, "Y D"],
    eta: Callable,
    bond: Callable,
    hamiltonian: Callable | None = None,
    block: int = 64,
) -> QuantumMoments:
    """∂_τ Tr(Â_τ f̂) of all of them, exactly, by ∂_τ f̂ = −(i/ħ)[Ĥ, f̂].

    Args:
        f, of, y, eta, bond, block: as in `moments_at`.
        hamiltonian: φ ↦ Ĥφ; that of the energies by default.

    Raises:
        InputError: as `moments_at`.
    """
    _check(f, of, y)
    moves = Hamiltonian(of.grid, of.v) if hamiltonian is None else hamiltonian
    return _spread(of, _columns(of, local_rates(f, moves, *_powers(of), block)), y, eta, bond)


def law_terms(
    f: Mixture,
    of: Energies,
    y: Float[Array, "Y D"],
    eta: Callable,
    bond: Callable,
    hamiltonian: Callable | None = None,
    block: int = 64,
) -> tuple[Array, Array, Array]:
    """The terms of (4.8)–(4.10), signed so that they sum to zero: divergences by `jacfwd` in y.

    Args:
        f, of, y, eta, bond, hamiltonian, block: as in `time_derivative`.

    Returns:
        mass (2, Y): ∂ρ, ∇·m; momentum (4, Y, D): ∂m, ∇·K, −∇·S, −F; energy (5, Y): ∂E, ∇·J_kinetic, ∇·J_potential,
        ∇·J_e, −P.

    Raises:
        InputError: as `moments_at`.
    """
    _check(f, of, y)
    rate = time_derivative(f, of, y, eta, bond, hamiltonian, block)
    now, slope = _with_slopes(of, _columns(of, local_moments(f, *_powers(of), block)), y, eta, bond)

    def divergence(j):
        return jnp.trace(j, axis1=1, axis2=j.ndim - 1)

    return (
        jnp.stack([rate.rho, divergence(slope.momentum)]),
        jnp.stack([rate.momentum, divergence(slope.k), -divergence(slope.s), -now.force]),
        jnp.stack(
            [
                rate.energy_kinetic + rate.energy_potential,
                *(divergence(j) for j in (slope.j_kinetic, slope.j_potential, slope.j_electronic)),
                -now.power,
            ]
        ),
    )


@jax.jit
def relative_residual(terms: tuple[Array, Array, Array]) -> Float[Array, " 3"]:
    """max_y |Σ terms| / max_y Σ |terms| of mass, momentum and energy, (3,); 0/0 = 0.

    Args:
        terms: of `law_terms`.
    """

    def ratio(t):
        size = jnp.abs(t) if t.ndim == 2 else jnp.sqrt(jnp.sum(t**2, axis=-1))
        whole = jnp.sum(t, axis=0)
        misfit = jnp.max(jnp.abs(whole) if t.ndim == 2 else jnp.sqrt(jnp.sum(whole**2, axis=-1)))
        scale = jnp.max(jnp.sum(size, axis=0))
        return jnp.where(scale > 0, misfit / jnp.where(scale > 0, scale, 1.0), 0.0)

    return jnp.stack([ratio(t) for t in terms])


def _check(f, of, y):
    must(f.grid.points == of.grid.points, "f", f"be on the grid of {of.grid.points}", f"its grid is {f.grid.points}")
    must(y.shape[-1] == of.dimensions, "y", f"have {of.dimensions} components", f"it has {y.shape[-1]}")


def _unit(c, *which):
    """The power Π p_w."""
    return tuple(which.count(i) for i in range(c))


def _powers(of):
    """Powers of which matrices, and of which traces, are needed."""
    c, dim = of.grid.coordinates, of.dimensions
    traces = []
    for n in range(of.particles):
        mine = range(n * dim, (n + 1) * dim)
        traces += [_unit(c, i, j) for i in mine for j in mine] + [_unit(c, i, j, j) for i in mine for j in mine]
    return (_unit(c), *(_unit(c, i) for i in range(c))), tuple(dict.fromkeys(traces))


@eqx.filter_jit
def _columns(of: Energies, local: LocalMoments):
    """What η spreads of each particle, (N, n, …), and what B d spreads of the pair 0, 1, (N, …), by field."""
    c, dim, count = of.grid.coordinates, of.dimensions, of.particles
    whole, once = local.matrix[_unit(c)], [local.matrix[_unit(c, i)] for i in range(c)]
    density, current = (
        jnp.real(jnp.trace(whole, axis1=1, axis2=2)),
        [jnp.real(jnp.trace(m, axis1=1, axis2=2)) for m in once],
    )
    mass = of.grid.masses[::dim]
    own = []
    for n in range(count):
        mine, m = range(n * dim, (n + 1) * dim), mass[n]
        push = jnp.sum(of.gradient[:, n].reshape(-1, count, dim, *whole.shape[1:]), axis=1)  # gⁿ
        pull = of.external_gradient[:, n * dim : (n + 1) * dim]
        p = jnp.stack([current[i] for i in mine], axis=-1)
        k = jnp.stack([jnp.stack([local.trace[_unit(c, i, j)] for j in mine], axis=-1) for i in mine], axis=-2) / m
        cube = jnp.stack([sum(local.trace[_unit(c, i, j, j)] for j in mine) for i in mine], axis=-1)
        own.append(
            {
                "rho": m * density,
                "momentum": p,
                "energy_kinetic": jnp.trace(k, axis1=1, axis2=2) / 2,
                "energy_potential": contract(of.e[:, n], whole),
                "k": k,
                "j_kinetic": cube / (2 * m**2),
                "j_potential": jnp.stack([contract(of.e[:, n], once[i]) for i in mine], axis=-1) / m,
                "force": -(pull * density[:, None] + contract(push, whole)),
                "power": -jnp.sum(pull * p, axis=-1) / m,
            }
        )
    own = jax.tree.map(lambda *parts: jnp.stack(parts, axis=1), *own)
    if count == 1:
        return own, None
    to, back = of.gradient[:, 0, dim:], of.gradient[:, 1, :dim]  # ∂_{x¹}E⁰ and ∂_{x⁰}E¹
    turn = (of.e[:, 1] @ of.e[:, 0] - of.e[:, 0] @ of.e[:, 1]).astype(whole.dtype)  # [E¹, E⁰]
    work = [sum(contract(g[:, i], once[n * dim + i]) for i in range(dim)) / mass[n] for n, g in ((1, to), (0, back))]
    unit = jax.lax.complex(jnp.zeros_like(of.grid.hbar), 1 / of.grid.hbar)  # i/ħ
    return own, {
        "s": contract(back - to, whole),  # f₀₁
        "r": contract(to - back, whole),
        "j_potential": work[0] - work[1],
        "j_electronic": contract(unit.astype(turn.dtype) * turn, whole),
    }


def _at(of, columns, point, eta, bond):
    """All fields at one point."""
    own, pair = columns
    dim = of.dimensions
    x = of.grid.x.reshape(-1, of.particles, dim)
    weight = eta(point[None, None] - x)
    field = {name: jnp.tensordot(weight, column, axes=2) for name, column in own.items()}
    nothing = jnp.zeros((dim, dim), weight.dtype)
    field |= {"s": nothing, "r": nothing, "j_electronic": nothing[0]}
    if pair is not None:
        reach = bond(point, x[:, 0], x[:, 1])[:, None] * (x[:, 0] - x[:, 1])  # B d
        for name, column in pair.items():
            field[name] = field[name] + jnp.tensordot(reach, column, axes=((0,), (0,)))
    return QuantumMoments(**field)


@eqx.filter_jit
def _spread(of, columns, y, eta, bond):
    return jax.lax.map(lambda point: _at(of, columns, point, eta, bond), y, batch_size=min(16, y.shape[0]))


@eqx.filter_jit
def _with_slopes(of, columns, y, eta, bond):
    """Fields at points y and their derivatives, with the component of y as the last axis."""

    def at(point):
        now = _at(of, columns, point, eta, bond)
        return now, jax.jacfwd(lambda z: _at(of, columns, z, eta, bond))(point)

    return jax.lax.map(at, y, batch_size=min(16, y.shape[0]))
