"""The shortest split v = Aᵀz, (AAᵀ) z = b, of (7.1) on many bonds, by preconditioned conjugate gradients.

A = (∂r/∂x)ᵀ is never formed: Aᵀz is ê·(zⁿ − zᵐ) on a bond with unit vector ê, A v is Σ_m ê v_nm. AAᵀ is the stiffness
of a network of springs. It vanishes on translations, in free space on rotations, and on whatever else leaves every bond
as long as it is; b does no work on them, so that v is unique though z is not.

Long waves are soft: on n particles plain conjugate gradients take ~ n^{1/D} steps. The preconditioner adds to the
inverse of the diagonal D × D blocks one for translations of whole cells of about `PER_CELL` particles, as if space were
homogeneous: cells are coupled by the mean of ê êᵀ over all pairs of cells so far apart, which a Fourier transform
inverts (the circulant of T. F. Chan, 1988, positive semidefinite as AAᵀ is). With it the steps hardly grow with n.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Float, Int

from jaxmd_iz.space import AbstractSpace, Edges, Periodic

PER_CELL = 8.0  # particles
MARGIN = 1.25  # room beside a cluster in free space, so that opposite ends are not neighbours
STEPS = 1000  # the most of a pass


class Network(eqx.Module):
    """Bonds as slots of their ends; `unit` is ê, and 0 in slots that carry nothing."""

    unit: Float[Array, "n K D"]
    to: Int[Array, "n K"]
    dense: bool = eqx.field(static=True)

    def stretch(self, z: Float[Array, "n D"]) -> Float[Array, "n K"]:
        """Aᵀz, the same on opposite slots."""
        other = z[None, :, :] if self.dense else z[self.to]
        return jnp.sum(self.unit * (z[:, None, :] - other), axis=-1)

    def pull(self, v: Float[Array, "n K"]) -> Float[Array, "n D"]:
        """A v."""
        return jnp.sum(self.unit * v[:, :, None], axis=1)

    def stiffness(self, z: Float[Array, "n D"]) -> Float[Array, "n D"]:
        """AAᵀz."""
        return self.pull(self.stretch(z))


def network(e: Edges, cutoff: float) -> Network:
    """The bonds shorter than `cutoff`, without coincident ends.

    Args:
        e: all pairs, or a neighbour list whatever its skin.
        cutoff: a length.
    """
    here = e.mask & (e.r2 < cutoff**2) & (e.r2 > 0)
    unit = e.d / jnp.sqrt(jnp.where(here, e.r2, 1.0))[:, :, None]
    return Network(jnp.where(here[:, :, None], unit, 0.0), e.to, e.dense)


class Preconditioner(eqx.Module):
    """r ↦ blocks⁻¹ r + Z C⁻¹ Zᵀ r, with Zᵀ the sum over the particles of a cell; without Z on all pairs."""

    blocks: Float[Array, "n D D"]  # inverses
    cell: Int[Array, " n"] | None
    coarse: Float[Array, "*k D D"] | None  # C⁻¹ at each wave vector of half of the space
    shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, r: Float[Array, "n D"]) -> Float[Array, "n D"]:
        """An approximation of (AAᵀ)⁺r."""
        fine = jnp.einsum("nij,nj->ni", self.blocks, r)
        if self.coarse is None or self.cell is None:
            return fine
        axes = tuple(range(len(self.shape)))
        q = jax.ops.segment_sum(r, self.cell, int(np.prod(self.shape))).reshape(*self.shape, -1)
        q = jnp.fft.rfftn(q, axes=axes)
        q = jnp.einsum("...ij,...j->...i", self.coarse.astype(q.dtype), q)
        q = jnp.fft.irfftn(q, self.shape, axes=axes).astype(r.dtype)
        return fine + q.reshape(-1, r.shape[1])[self.cell]


def preconditioner(net: Network, space: AbstractSpace, x: Float[Array, "n D"]) -> Preconditioner:
    """The preconditioner of a network; derivatives do not go through it.

    Args:
        net: bonds.
        space: of the particles.
        x: (n, D) positions, anywhere in or out of the cell.
    """
    unit, x = jax.lax.stop_gradient((net.unit, x))
    outer = jnp.einsum("nki,nkj->nkij", unit, unit)
    blocks = _inverse(jnp.sum(outer, axis=1))
    if net.dense:
        return Preconditioner(blocks, None, None, ())
    dim = x.shape[1]
    shape, place = _cells(space, x)
    size = int(np.prod(shape))
    axes = tuple(range(dim))

    def flat(k):
        return jnp.ravel_multi_index(tuple(jnp.moveaxis(k, -1, 0)), shape, mode="wrap")

    # C between cells so far apart: −Σ ê êᵀ over both directions of the bonds, for each cell that is not empty
    cell, apart = flat(place), flat(place[:, None, :] - place[net.to])
    filled = jnp.zeros(size, x.dtype).at[cell].set(1.0)
    row = -jax.ops.segment_sum(outer.reshape(-1, dim, dim), apart.reshape(-1), size) / jnp.sum(filled)
    row = row.at[0].add(-jnp.sum(row, axis=0))  # translations cost nothing
    c = jnp.real(jnp.fft.rfftn(row.reshape(*shape, dim, dim), axes=axes)).astype(x.dtype)
    return Preconditioner(blocks, cell, _inverse(c).at[(0,) * dim].set(0.0), shape)


def _inverse(m: Float[Array, "*b D D"]) -> Float[Array, "*b D D"]:
    """(m + tr m/1000)⁻¹ of positive semidefinite matrices by cofactors, and 0 for those that are only rounding."""
    dim, trace = m.shape[-1], jnp.trace(m, axis1=-2, axis2=-1)[..., None, None]
    some = trace > 8 * jnp.finfo(m.dtype).eps * jnp.max(trace)
    one = jnp.broadcast_to(jnp.eye(dim, dtype=m.dtype), m.shape)
    m = jnp.where(some, m + 1e-3 * trace * one, one)
    if dim == 1:
        cofactors = one
    elif dim == 2:
        cofactors = (2.0 * one - 1.0) * m[..., ::-1, ::-1]
    else:
        cofactors = jnp.cross(jnp.roll(m, -1, -2), jnp.roll(m, -2, -2))
    return jnp.where(some, cofactors / jnp.sum(m[..., :1, :] * cofactors[..., :1, :], -1, keepdims=True), 0.0)


def _cells(space: AbstractSpace, x: Float[Array, "n D"]) -> tuple[tuple[int, ...], Int[Array, "n D"]]:
    """How many cells there are along each axis, and in which of them each particle is."""
    n, dim = x.shape
    if isinstance(space, Periodic):
        side = (space.volume * PER_CELL / n) ** (1 / dim)
        shape = tuple(max(1, round(float(h) / side)) for h in space.heights)
        part = x @ jnp.asarray(np.linalg.inv(space.matrix), x.dtype)
        part = part - jnp.floor(part)
    else:
        shape = (max(1, round(MARGIN * (n / PER_CELL) ** (1 / dim))),) * dim
        low, high = jnp.min(x, axis=0), jnp.max(x, axis=0)
        width = jnp.where(high > low, high - low, 1.0)
        part = (x - low[None, :]) / (MARGIN * width)[None, :]
    counts = np.array(shape)
    place = jnp.floor(part * jnp.asarray(counts, x.dtype)[None, :]).astype(int)
    return shape, jnp.clip(place, 0, jnp.asarray(counts - 1)[None, :])


def shortest(
    net: Network, b: Float[Array, "n D"], space: AbstractSpace, x: Float[Array, "n D"], size: Float[Array, ""]
) -> Float[Array, "n K"]:
    """v = A⁺b on every slot, the least Σ v² with A v = b; its derivatives follow from A v = b and v = Aᵀz.

    A second pass on what the first one leaves of b takes A v − b to rounding: 1e-13 of the largest |b| (float32: 1e-5),
    if b is in the range of A. Whether it is, A v tells.

    Args:
        net: bonds.
        b: (n, D) what they are to add up to, a force.
        space: of the particles.
        x: (n, D) positions.
        size: () a force: how large the terms are that make up b, whose rounding is not to be split.
    """
    rest = jax.lax.stop_gradient((net.to, preconditioner(net, space, x), size))
    return _shortest(net.dense, net.unit, b, rest)[0]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _shortest(dense, unit, b, rest):
    """v and z."""
    to, close, size = rest
    net = Network(unit, to, dense)
    eps = float(jnp.finfo(b.dtype).eps)
    floor = eps * b.size**0.5 * size

    def again(_, vz):  # v collects Aᵀz pass by pass: what is left of b is known to the rounding of v, not to that of z
        v, z = vz
        step, _ = cg(net.stiffness, b - net.pull(v), tol=eps**0.45, atol=floor, maxiter=STEPS, M=close)
        return v + net.stretch(step), z + step

    return jax.lax.fori_loop(0, 2, again, (jnp.zeros(unit.shape[:2], b.dtype), jnp.zeros_like(b)))


@_shortest.defjvp
def _moved(dense, primals, tangents):
    """A dv = db − dA v, dv = dAᵀz + Aᵀdz."""
    (unit, b, rest), (d_unit, d_b, _) = primals, tangents
    to, close, _ = rest
    net, moved = Network(unit, to, dense), Network(d_unit, to, dense)
    v, z = _shortest(dense, unit, b, rest)
    turned = moved.stretch(z)
    right = d_b - moved.pull(v) - net.pull(turned)
    tolerance = float(jnp.finfo(b.dtype).eps) ** 0.75

    def solve(matvec, right):
        return cg(matvec, right, tol=tolerance, maxiter=STEPS, M=close)[0]

    d_z = jax.lax.custom_linear_solve(net.stiffness, right, solve, symmetric=True)  # linear: also backwards
    return (v, z), (turned + net.stretch(d_z), d_z)
