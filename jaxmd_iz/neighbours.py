"""A fixed-capacity neighbour list, built on the host, behind the same `Edges` as the dense pairs."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.spatial import KDTree

from jaxmd_iz.checks import must
from jaxmd_iz.space import AbstractSpace, Edges


class Neighbours(eqx.Module):
    """Slots of a neighbour list: valid while no particle has moved more than `skin`/2 from `x`."""

    x: Float[Array, "n D"]  # positions at the build
    to: Int[Array, "n K"]
    back: Int[Array, "n K"]
    mask: Bool[Array, "n K"]
    half: Int[Array, " P"]
    half_mask: Bool[Array, " P"]
    overflow: Bool[Array, ""]
    cutoff: float = eqx.field(static=True)
    skin: float = eqx.field(static=True)

    def edges(self, space: AbstractSpace, x: Float[Array, "n D"], species: Int[Array, " n"]) -> Edges:
        """The bonds of positions x near those of the build."""
        d = space.displacement(x[:, None, :] - x[self.to])
        unit = jnp.zeros_like(d).at[..., 0].set(self.cutoff)
        d = jnp.where(self.mask[:, :, None], d, unit)
        return Edges(
            x=x,
            species=species,
            d=d,
            to=self.to,
            back=self.back,
            mask=self.mask,
            half=self.half,
            half_mask=self.half_mask,
            reach=self.cutoff + 2 * self.skin,
            dense=False,
        )

    def moved(self, space: AbstractSpace, x: Float[Array, "n D"]) -> Bool[Array, ""]:
        """True when the list no longer covers `cutoff`: some particle moved more than skin/2."""
        step = space.displacement(x - self.x)
        return jnp.max(jnp.sum(step**2, axis=-1)) > (self.skin / 2) ** 2


def check_cutoff(space: AbstractSpace, cutoff: float) -> None:
    """Refuse a cell in which the nearest image is not the only one in range.

    Raises:
        InputError: the cutoff exceeds half the smallest height of the cell.
    """
    largest = space.largest_cutoff()
    must(
        not np.isfinite(cutoff) or cutoff <= largest,
        "space.cell",
        f"leave room for the cutoff {cutoff:g} within half its smallest height",
        f"half that height is {largest:g}",
        "Enlarge the cell, for instance by replicating it, or shorten the cutoff.",
    )


def _pairs(space: AbstractSpace, x: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Ordered pairs (i, j), i ≠ j, whose nearest images are closer than `radius`, sorted by i then j."""
    n = len(x)
    if space.largest_cutoff() == np.inf:
        everything, owner = x, np.arange(n)
        home = x
    else:
        cell = space.matrix  # type: ignore[attr-defined]
        fractional = x @ np.linalg.inv(cell)
        home = (fractional - np.floor(fractional)) @ cell
        margin = np.minimum(radius / space.heights, 1.0)  # type: ignore[attr-defined]
        inside = fractional - np.floor(fractional)
        images, owners = [inside], [np.arange(n)]
        for axis in range(space.dimensions):  # ghost particles within `radius` of each face
            stacked, owner = np.concatenate(images), np.concatenate(owners)
            for step in (1.0, -1.0):
                near = stacked[:, axis] < margin[axis] if step > 0 else stacked[:, axis] >= 1 - margin[axis]
                ghost = stacked[near].copy()
                ghost[:, axis] += step
                images.append(ghost)
                owners.append(owner[near])
        everything, owner = np.concatenate(images) @ cell, np.concatenate(owners)
    found = KDTree(home).query_ball_tree(KDTree(everything), radius)
    i = np.repeat(np.arange(n), [len(f) for f in found])
    j = owner[np.concatenate([np.asarray(f, int) for f in found])] if n else np.zeros(0, int)
    codes = np.unique(i[i != j] * n + j[i != j])
    return codes // n, codes % n


def neighbour_list(
    space: AbstractSpace, x, cutoff: float, skin: float = 0.0, capacity: int | None = None
) -> Neighbours:
    """Build the list of all pairs closer than cutoff + skin.

    Args:
        space: free or periodic.
        x: (n, D) positions, anywhere in or out of the cell.
        cutoff: interaction range, a length.
        skin: extra length, so that the list stays valid while particles move less than skin/2.
        capacity: slots K a particle; by default the largest count found. If too small, `overflow` is set
            and the list must not be used.

    Returns:
        Neighbours.

    Raises:
        InputError: positions that are not finite, or a cell too small for the cutoff.
    """
    positions = np.asarray(x, float)
    must(bool(np.isfinite(positions).all()), "x", "be finite", "it has NaN or infinite entries")
    must(bool(np.isfinite(cutoff)), "cutoff", "be finite for a neighbour list", f"it is {cutoff}")
    check_cutoff(space, cutoff)
    n = len(positions)
    i, j = _pairs(space, positions, cutoff + skin)
    counts = np.bincount(i, minlength=n)
    most = int(counts.max(initial=0))
    slots = max(most if capacity is None else capacity, 1)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    slot = np.arange(len(i)) - first[i]
    fits = slot < slots
    i, j, slot = i[fits], j[fits], slot[fits]
    to = np.zeros((n, slots), int)
    mask = np.zeros((n, slots), bool)
    to[i, slot], mask[i, slot] = j, True
    codes = i * n + j  # sorted, so the opposite pair is found by bisection
    opposite = np.searchsorted(codes, j * n + i)
    back = np.zeros((n, slots), int)
    back[i, slot] = slot[np.minimum(opposite, max(len(slot) - 1, 0))]
    lower = i < j
    size = n * slots // 2 + 1 if capacity is not None else max(int(lower.sum()), 1)
    half = np.zeros(size, int)
    half_mask = np.zeros(size, bool)
    chosen = (i * slots + slot)[lower][:size]  # all of them unless the capacity was too small
    half[: len(chosen)], half_mask[: len(chosen)] = chosen, True
    dtype = x.dtype if hasattr(x, "dtype") else float
    return Neighbours(
        x=jnp.asarray(positions, dtype),
        to=jnp.asarray(to),
        back=jnp.asarray(back),
        mask=jnp.asarray(mask),
        half=jnp.asarray(half),
        half_mask=jnp.asarray(half_mask),
        overflow=jnp.asarray(most > slots),
        cutoff=float(cutoff),
        skin=float(skin),
    )
