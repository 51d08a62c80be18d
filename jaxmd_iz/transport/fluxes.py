"""Stress and heat flux of the whole cell, the volume integrals of (3.8) and (3.12), in the frame of its centre of mass.

These are what the fields of one big cell would be: with u = w, the velocity of the centre of mass, and c = p/M − w,
∫σ = Σ B d⊗f − Σ M c⊗c with ∫B = 1, ∫q = Σ (λ̄ⁿ + M c²/2) c + Σ d g(c).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmd_iz.checks import must
from jaxmd_iz.neighbours import Neighbours
from jaxmd_iz.pair_loop import channels, slopes
from jaxmd_iz.potentials.base import AbstractPairPotential
from jaxmd_iz.space import Periodic
from jaxmd_iz.system import System

BATCH = 32  # phase points together on a CPU: fewer and longer operations


class Fluxes(eqx.Module):
    """Integrals over the cell of one phase point (any leading axes). Tension is positive."""

    stress: Float[Array, "*g D D"]  # ∫σ, energy; minus its trace / (D V) is the pressure
    heat: Float[Array, "*g D"]  # ∫q, energy · velocity
    kinetic: Float[Array, "*g"]  # Σ M c²/2
    potential: Float[Array, "*g"]  # λ̄


def check_cell(system: System) -> None:
    """Refuse a system without a volume, or one that is not left to itself.

    Raises:
        InputError: free space, a confining V_b, a potential that depends on absolute positions.
    """
    but = f"it is {type(system.space).__name__}"
    must(isinstance(system.space, Periodic), "system", "have a periodic space for transport coefficients", but)
    must(system.external is None, "system", "have no external potential for transport coefficients", "it has one")
    moves = "have a potential that translations leave as it is for transport coefficients"
    must(bool(system.potential.invariant), "system", moves, "its potential depends on absolute positions")


def fluxes(
    system: System,
    x: Float[Array, "n D"],
    p: Float[Array, "n D"],
    k: int | Int[Array, ""],
    neighbours: Neighbours | None = None,
) -> Fluxes:
    """Stress and heat flux of the whole cell at one phase point on surface k, (3.8) and (3.12) integrated over y.

    Where several states need the bonds between all pairs, a neighbour list is not used.

    Args:
        system: n particles in a periodic cell, without V_b.
        x, p: (n, D) positions, momenta.
        k: state, 0 the lowest; may be traced.
        neighbours: a list that covers x, or None for all pairs.

    Returns:
        Fluxes.

    Raises:
        InputError: what `check_cell` refuses.
    """
    check_cell(system)
    masses = system.masses[:, None]
    c = p / masses - jnp.sum(p, axis=0, keepdims=True) / jnp.sum(masses)
    own_kinetic = jnp.sum(masses * c**2, axis=1) / 2
    if _is_scalar_pair(system):
        energy, virial, current = _on_pairs(system, x, c, neighbours)
    elif system.states == 1 and system.potential.own_bonds and system.split == "energy":
        energy, virial, current = _on_own_bonds(system, x, c, neighbours)
    else:
        energy, virial, current = _on_bonds(system, x, c, k, neighbours)
    return Fluxes(
        stress=virial - jnp.einsum("nl,nj->lj", masses * c, c),
        heat=own_kinetic @ c + current,
        kinetic=jnp.sum(own_kinetic),
        potential=energy,
    )


def _is_scalar_pair(system: System) -> bool:
    """Pair potentials of one state: all splits agree, and opposite bonds carry the same."""
    return system.states == 1 and isinstance(system.potential, AbstractPairPotential)


def _on_pairs(system, x, c, neighbours):
    """λ̄, S = 2 Σ φ′ d⊗d and the potential part of the flux, Σ [φ/2 − φ′ d⊗d] (cⁿ + cᵐ), φ′ = ∂φ/∂(r²), over all bonds.

    One bond of every particle at a time: those of n and n + s, or those of a slot of the list, which holds each twice.
    """
    potential, space = system.potential, system.space
    n, dim = x.shape
    columns = [*x.T, *c.T, system.species]
    both = [(a, b) for a in range(dim) for b in range(a, dim)]

    def bonds_of(k):
        if neighbours is None:
            once = jnp.where(2 * (k + 1) == n, 0.5, 1.0).astype(x.dtype)  # those of opposite numbers come twice
            ends = [jax.lax.dynamic_slice(jnp.concatenate([t, t]), (k + 1,), (n,)) for t in columns]
            return ends, jnp.full(n, once)
        j = neighbours.slots[k]
        return [t[j] for t in columns], jnp.where(j == jnp.arange(n, dtype=j.dtype), 0.0, 0.5).astype(x.dtype)

    def body(total, k):
        other, weight = bonds_of(k)
        d = space.wrap(tuple(u - v for u, v in zip(columns[:dim], other[:dim], strict=True)))
        r2 = jnp.where(weight > 0, sum(u * u for u in d), 1.0)
        (value,), (slope,) = slopes(lambda r2: channels(potential, r2, columns[-1], other[-1]), r2)
        value, slope = (jnp.where(weight > 0, weight * t, 0.0) for t in (value, slope))
        pair = [u + v for u, v in zip(columns[dim:-1], other[dim:-1], strict=True)]
        along = slope * sum(u * v for u, v in zip(d, pair, strict=True))
        current = [0.5 * value * v - along * u for u, v in zip(d, pair, strict=True)]
        found = [value, *current, *(2.0 * slope * d[a] * d[b] for a, b in both)]
        return [t + v for t, v in zip(total, found, strict=True)], None

    zero = [jnp.zeros(n, x.dtype)] * (1 + dim + len(both))
    count = n // 2 if neighbours is None else neighbours.slots.shape[-2]
    sums, _ = jax.lax.scan(body, zero, jnp.arange(count))
    energy, *rest = [jnp.sum(t) for t in sums]
    number = {pair: dim + i for i, pair in enumerate(both)}
    virial = [[rest[number[min(a, b), max(a, b)]] for b in range(dim)] for a in range(dim)]
    level = jnp.asarray(potential.level, x.dtype).reshape(())
    return energy + n * level, jnp.stack([jnp.stack(row) for row in virial]), jnp.stack(rest[:dim])


def _on_own_bonds(system, x, c, neighbours):
    """The same of any λⁿ of own bonds: ∂_{xᵐ}λⁿ = −∂λⁿ/∂d, so S = Σ d⊗∂λⁿ/∂d and Σ d g = −Σ d (cᵐ·∂λⁿ/∂d)."""
    e = system.edges(x, neighbours)
    surface = system.surface(x, 0, neighbours)
    power = jnp.sum((c[None, :, :] if e.dense else c[e.to]) * surface.own, axis=-1)
    virial = jnp.einsum("nkl,nkj->lj", e.d, surface.own)
    return jnp.sum(surface.energy), virial, surface.energy @ c - jnp.einsum("nkl,nk->l", e.d, power)


def _on_bonds(system, x, c, k, neighbours):
    """The same from the bonds of the fields: S = Σ d⊗f and Σ λ̄ⁿ cⁿ + Σ d g."""
    lists = neighbours if system.states == 1 else None
    surface, links = system.bonds(x, c * system.masses[:, None], k, lists)
    current = surface.energy @ c + links.g @ links.d
    return jnp.sum(surface.energy), jnp.einsum("pl,pj->lj", links.d, links.f), current


def deviatoric_basis(dimensions: int) -> Float[np.ndarray, "C D D"]:
    """The C = D(D + 1)/2 − 1 independent symmetric traceless tensors E, each of norm 1/√2.

    Then E : σ is σ_xy for the shears, and in an isotropic fluid all components have the same variance.

    Raises:
        InputError: one dimension, where there is no shear.
    """
    must(dimensions > 1, "system", "have two or three dimensions for shear", f"it has {dimensions}")
    found = []
    for i in range(dimensions):
        for j in range(i + 1, dimensions):
            shear = np.zeros((dimensions, dimensions))
            shear[i, j] = shear[j, i] = 0.5
            found.append(shear)
    for i in range(1, dimensions):
        diagonal = np.diag([1.0] * i + [-float(i)] + [0.0] * (dimensions - 1 - i))
        found.append(diagonal / np.linalg.norm(diagonal) / np.sqrt(2))
    return np.stack(found)


def pressure(flux: Fluxes) -> Float[Array, "*g"]:
    """p V = −tr ∫σ / D, an energy."""
    return -jnp.trace(flux.stress, axis1=-2, axis2=-1) / flux.heat.shape[-1]


def deviatoric(flux: Fluxes) -> Float[Array, "*g C"]:
    """Independent components of the traceless part of ∫σ, see `deviatoric_basis`."""
    basis = jnp.asarray(deviatoric_basis(flux.heat.shape[-1]), flux.stress.dtype)
    return jnp.einsum("clj,...lj->...c", basis, flux.stress)


def look(system: System, x, p, state, neighbours: Neighbours | None) -> Fluxes:
    """`fluxes` of B phase points; on a CPU, and where arrays of bonds are made, some at a time to fit the cache.

    Args:
        system: as in `fluxes`.
        x, p: (B, n, D).
        state: (B,).
        neighbours: lists with leading axis B, or None.

    Returns:
        Fluxes with leading axis B.
    """
    n, batch = x.shape[1], x.shape[0]
    if not _is_scalar_pair(system):
        slots = n if neighbours is None or system.states > 1 else neighbours.slots.shape[-2]
        batch = max(1, min(batch, 2**18 // (n * slots)))
    elif jax.default_backend() == "cpu":
        batch = min(batch, BATCH)

    def one(at):
        return fluxes(system, at[0], at[1], at[2], at[3])

    return jax.lax.map(one, (x, p, state, neighbours), batch_size=batch)
