"""Raw moments of one phase point at points y, linear in the density: section 6, (2.17), (3.7)–(3.13).

Averages over samples, states and time are plain weighted sums of these; u, σ and q come afterwards (`fields`).
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxmd_iz.checks import must
from jaxmd_iz.mollifiers import AbstractMollifier
from jaxmd_iz.pair_split import Bonds, Everywhere
from jaxmd_iz.space import AbstractSpace
from jaxmd_iz.surfaces import Surface
from jaxmd_iz.tile_sums import on_tiles
from jaxmd_iz.tiles import RegularGrid, tiling


class Moments(eqx.Module):
    """Moments at Y points (any leading axes). The first index of K, S, R is the one contracted by ∇."""

    rho: Float[Array, "*g Y"]  # Σ M η
    number: Float[Array, "*g Y species"]  # Σ η of each species
    momentum: Float[Array, "*g Y D"]  # m = Σ η p
    energy_kinetic: Float[Array, "*g Y"]  # Σ η |p|²/2M
    energy_potential: Float[Array, "*g Y"]  # Σ η λ̄ⁿ
    k: Float[Array, "*g Y D D"]  # Σ η p⊗p/M
    s: Float[Array, "*g Y D D"]  # Σ B d⊗f
    j_kinetic: Float[Array, "*g Y D"]  # Σ η (p/M) |p|²/2M
    j_potential: Float[Array, "*g Y D"]  # Σ η (p/M) λ̄ⁿ + Σ B d (pᵐ/M_m)·∇_{xᵐ}λ̄ⁿ
    r: Float[Array, "*g Y D D"]  # Σ B d⊗∇_{xᵐ}λ̄ⁿ
    force: Float[Array, "*g Y D"]  # F = −Σ η (∇V_b + gⁿ)
    power: Float[Array, "*g Y"]  # P = −Σ η (p/M)·∇V_b


class Totals(eqx.Module):
    """Sums over the whole system of one phase point (any leading axes)."""

    momentum: Float[Array, "*g D"]
    kinetic: Float[Array, "*g"]
    drift: Float[Array, "*g"]  # |Σp|²/2ΣM, the kinetic energy of the centre of mass
    potential: Float[Array, "*g"]  # λ̄, without V_b
    virial: Float[Array, "*g D D"]  # ∂λ̄/∂(strain): the pressure tensor is (Σ p⊗p/M − virial)/V
    adiabatic: Float[Array, "*g d"]  # 1 for the surface that is followed
    diabatic: Float[Array, "*g N"]  # |⟨χ_a, Ψ_k⟩|²
    crossing: Float[Array, "*g"]  # 1 where the surface touches another one, else 0


def particle_densities(
    p: Float[Array, "n D"],
    masses: Float[Array, " n"],
    species: Int[Array, " n"],
    kinds: int,
    energy: Float[Array, " n"],
    external: Float[Array, "n D"],
    confinement: Float[Array, "n D"],
) -> Float[Array, "n C"]:
    """What each particle carries: the columns that η(y − xⁿ) spreads, in the order of `Moments`, bonds left out."""
    velocity = p / masses[:, None]
    kinetic = jnp.sum(p * velocity, axis=-1) / 2
    kind = (species[:, None] == jnp.arange(kinds)[None, :]).astype(p.dtype)
    return jnp.concatenate(
        [
            masses[:, None],
            kind,
            p,
            kinetic[:, None],
            energy[:, None],
            _outer(p, velocity),
            velocity * kinetic[:, None],
            velocity * energy[:, None],
            -(confinement + external),
            -jnp.sum(velocity * confinement, axis=-1)[:, None],
        ],
        axis=1,
    )


def _outer(a, b):
    return (a[:, :, None] * b[:, None, :]).reshape(a.shape[0], a.shape[1] * b.shape[1])


def spread(
    y: Float[Array, "Y D"],
    x: Float[Array, "n D"],
    density: Float[Array, "n C"],
    mollifier: AbstractMollifier,
    space: AbstractSpace,
    regular: RegularGrid | None = None,
) -> Float[Array, "Y C"]:
    """Σ_n η(y − xⁿ) density over every image that reaches y; tile by tile where y is `regular` and it pays."""
    tiles = tiling(regular, mollifier, space, 0.0, x.shape[0])
    if tiles is not None:
        return on_tiles(tiles, y[0], x, None, density)
    near = jnp.asarray(mollifier.images(space, 0.0), x.dtype).T

    def at(point):
        u = space.displacement(point[None, :] - x).T[:, None, :] + near[:, :, None]
        return jnp.sum(mollifier.density(u), axis=0) @ density

    return jax.lax.map(at, y, batch_size=_block(y, near.shape[1] * x.shape[0]))


def spread_bonds(
    y: Float[Array, "Y D"],
    x: Float[Array, "n D"],
    bonds: Bonds,
    mollifier: AbstractMollifier,
    space: AbstractSpace,
    regular: RegularGrid | None = None,
    live: Bool[Array, " P"] | None = None,
) -> Float[Array, "Y C"]:
    """Σ B (d⊗f, d⊗r, d g) over every image that reaches y, (Y, 2D² + D).

    Tile by tile where y is `regular` and it pays; then bonds that are not `live` are left out. They must carry nothing.
    """
    tiles = tiling(regular, mollifier, space, bonds.reach, bonds.i.shape[0])
    if tiles is not None:
        dim, held = x.shape[1], jnp.concatenate([bonds.f, bonds.r, bonds.g[:, None]], axis=1)
        found = on_tiles(tiles, y[0], x[bonds.i] - bonds.d / 2, bonds.d, held, live)
        parts = [found[:, :, :dim], found[:, :, dim : 2 * dim], found[:, :, 2 * dim :]]
        return jnp.concatenate([part.reshape(y.shape[0], -1) for part in parts], axis=1)
    density = jnp.concatenate([_outer(bonds.d, bonds.f), _outer(bonds.d, bonds.r), bonds.d * bonds.g[:, None]], axis=1)
    middle = x[bonds.i] - bonds.d / 2
    far = jnp.asarray(mollifier.images(space, bonds.reach), x.dtype).T
    along = bonds.d.T[:, None, :]

    def at(point):
        u = space.displacement(point[None, :] - middle).T[:, None, :] + far[:, :, None]
        return jnp.sum(mollifier.bond(u, along), axis=0) @ density

    return jax.lax.map(at, y, batch_size=_block(y, far.shape[1] * middle.shape[0]))


def spread_everywhere(
    y: Float[Array, "Y D"],
    x: Float[Array, "n D"],
    part: Everywhere,
    mollifier: AbstractMollifier,
    space: AbstractSpace,
) -> Float[Array, "Y C"]:
    """Σ B (d⊗f, d⊗r, d g) over all pairs of the outer products Σ_L a bᵀ, n pairs at a time: those of n and n + s.

    Args:
        y: (Y, D) field points.
        x: (n, D).
        part: a, b and the velocities.
        mollifier, space: as in `spread_bonds`.

    Returns:
        (Y, 2D² + D).
    """
    count, reach = x.shape[0], space.longest()
    one = jnp.arange(count)

    def add(total, s):
        other = (one + s) % count
        to = jnp.einsum("Ln,LnD->nD", part.a, part.b[:, other])  # ∂_{xᵐ}λ̄ⁿ, m = n + s
        back = jnp.einsum("Ln,LnD->nD", part.a[:, other], part.b)
        once = jnp.where(2 * s == count, 0.5, 1.0).astype(x.dtype)  # the pairs of opposite numbers come twice
        r = once * (to - back)
        g = once * jnp.sum(part.velocity[other] * to - part.velocity * back, axis=-1)
        f = -r if part.in_stress else jnp.zeros_like(r)
        bonds = Bonds(one, other, space.displacement(x - x[other]), f, r, g, reach)
        return total + spread_bonds(y, x, bonds, mollifier, space), None

    dim = x.shape[1]
    zero = jnp.zeros((y.shape[0], 2 * dim * dim + dim), x.dtype)
    return jax.lax.scan(add, zero, 1 + jnp.arange(count // 2))[0]


def _block(y, work: int) -> int:
    """Points evaluated together: about 10⁶ values of η or B."""
    return max(1, min(y.shape[0], 1_000_000 // max(work, 1)))


def moments(
    y: Float[Array, "Y D"],
    x: Float[Array, "n D"],
    p: Float[Array, "n D"],
    masses: Float[Array, " n"],
    species: Int[Array, " n"],
    kinds: int,
    surface: Surface,
    bonds: Bonds,
    confinement: Float[Array, "n D"],
    mollifier: AbstractMollifier,
    space: AbstractSpace,
    regular: RegularGrid | None = None,
) -> Moments:
    """The moments of one phase point on one surface.

    Args:
        y: (Y, D) field points.
        x, p: (n, D) positions and momenta.
        masses: (n,) M_n.
        species: (n,) species numbers below `kinds`.
        kinds: number of species.
        surface: energies λ̄ⁿ and gⁿ.
        bonds: f, r, g on bonds.
        confinement: (n, D) ∇V_b.
        mollifier: η and B.
        space: for the images that reach y.
        regular: the grid that y is, so that time and memory can be linear in particles and points; None for others.

    Returns:
        Moments at Y points.

    Raises:
        InputError: a regular grid with another number of points.
    """
    count, dim = y.shape
    size = count if regular is None else math.prod(regular.shape)
    must(size == count, "regular", f"have the {count} points of `y`", f"it has {size}")
    density = particle_densities(p, masses, species, kinds, surface.energy, surface.external, confinement)
    atoms = spread(y, x, density, mollifier, space, regular)
    half = surface.on.half_mask  # the first bonds are those of the surface
    live = jnp.concatenate([half, jnp.ones(bonds.i.shape[0] - half.shape[0], bool)])
    pairs = spread_bonds(y, x, bonds, mollifier, space, regular, live)
    if bonds.everywhere is not None:
        pairs = pairs + spread_everywhere(y, x, bonds.everywhere, mollifier, space)
    widths = [1, kinds, dim, 1, 1, dim * dim, dim, dim, dim, 1]
    starts = [sum(widths[:i]) for i in range(1, len(widths))]
    rho, number, m, ek, ep, k, jk, jp, force, power = jnp.split(atoms, starts, axis=1)
    s, r, jb = jnp.split(pairs, [dim * dim, 2 * dim * dim], axis=1)
    return Moments(
        rho=rho[:, 0],
        number=number,
        momentum=m,
        energy_kinetic=ek[:, 0],
        energy_potential=ep[:, 0],
        k=k.reshape(count, dim, dim),
        s=s.reshape(count, dim, dim),
        j_kinetic=jk,
        j_potential=jp + jb,
        r=r.reshape(count, dim, dim),
        force=force,
        power=power[:, 0],
    )
