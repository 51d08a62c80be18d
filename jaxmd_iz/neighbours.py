"""A fixed-capacity neighbour list, built on the device, behind the same `Edges` as the dense pairs."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, Int

from jaxmd_iz.cells import cell_order, pairs_within
from jaxmd_iz.checks import must
from jaxmd_iz.pieces import each
from jaxmd_iz.space import AbstractSpace, Edges

TRIAL = 160  # slots of a first build whose capacity is not known


class Neighbours(eqx.Module):
    """Slots of a neighbour list: valid while no particle has moved more than `skin`/2 from `x`.

    What pair forces need is stored, slots first; the rest of `Edges` is made of it where it is used.
    """

    x: Float[Array, "*B n D"]  # positions at the build
    slots: Int[Array, "*B K n"]  # neighbours; an empty slot holds the particle itself
    opposite: Int[Array, "*B K n"] | None  # `back` with slots first, or None: found where it is used
    most: Int[Array, "*B"]  # neighbours that a particle had at the build, at most
    cutoff: float = eqx.field(static=True)
    skin: float = eqx.field(static=True)

    @property
    def to(self) -> Int[Array, "*B n K"]:
        """The neighbours of every particle."""
        return jnp.swapaxes(self.slots, -1, -2)

    @property
    def mask(self) -> Bool[Array, "*B n K"]:
        """The slots that are not empty."""
        own = jnp.arange(self.slots.shape[-1], dtype=self.slots.dtype)
        return jnp.swapaxes(self.slots != jnp.broadcast_to(own, self.slots.shape), -1, -2)

    @property
    def back(self) -> Int[Array, "n K"]:
        """The slot that holds the opposite bond."""
        return (opposites(self.slots) if self.opposite is None else self.opposite).T

    @property
    def half(self) -> Int[Array, " P"]:
        """Flat numbers of the bonds n → m with n < m."""
        n, slots = self.to.shape
        upper = self.to > jnp.arange(n, dtype=self.slots.dtype)[:, None]
        return jnp.flatnonzero(upper, size=n * slots // 2 + 1, fill_value=0)

    @property
    def half_mask(self) -> Bool[Array, " P"]:
        """The entries of `half` that are in use."""
        n, slots = self.to.shape
        return jnp.arange(n * slots // 2 + 1) < jnp.sum(self.mask) // 2

    @property
    def overflow(self) -> Bool[Array, "*B"]:
        """Whether the capacity was too small: then the list must not be used."""
        return self.most > self.slots.shape[-2]

    def edges(self, space: AbstractSpace, x: Float[Array, "n D"], species: Int[Array, " n"]) -> Edges:
        """The bonds of positions x near those of the build."""
        d = space.displacement(x[:, None, :] - x[self.to])
        unit = jnp.zeros_like(d).at[..., 0].set(self.cutoff)
        d = jnp.where(self.mask[:, :, None], d, unit)
        return Edges(
            x=x,
            species=species,
            d=d,
            to=self.to.astype(int),  # like those of all pairs
            back=self.back.astype(int),
            mask=self.mask,
            half=self.half,
            half_mask=self.half_mask,
            reach=self.cutoff + 2 * self.skin,
            dense=False,
            space=space,
        )

    def moved(self, space: AbstractSpace, x: Float[Array, "n D"]) -> Bool[Array, ""]:
        """True when the list no longer covers `cutoff`: some particle moved more than skin/2."""
        step = space.displacement(x - self.x)
        return jnp.max(jnp.sum(step**2, axis=-1)) > (self.skin / 2) ** 2

    def renumbered(self, order: Int[Array, " n"], rank: Int[Array, " n"]) -> "Neighbours":
        """The same list when particle order[i] is called i: rank[order[i]] = i."""
        slots = rank[self.slots][:, order]
        opposite = None if self.opposite is None else self.opposite[:, order]
        return dataclasses.replace(self, x=self.x[order], slots=slots, opposite=opposite)


class Ordered(eqx.Module):
    """A list that is kept up with moving particles; if `order` is given, with numbers of its own along the cells.

    Then it calls particle order[i] by the number i = rank[order[i]], and neighbours lie next to each other in memory.
    """

    near: Neighbours
    order: Int[Array, "*B n"] | None
    rank: Int[Array, "*B n"] | None

    @classmethod
    def of(cls, space: AbstractSpace, near: Neighbours, ordered: bool) -> "Ordered":
        """A list of particles, with numbers of its own or not."""
        if not ordered:
            return cls(near, None, None)
        order, rank = _along_cells(space, near.x, near.cutoff + near.skin)
        return cls(near.renumbered(order, rank), order, rank)

    def plain(self) -> Neighbours:
        """The list by the numbers of the particles."""
        if self.order is None or self.rank is None:
            return self.near
        return self.near.renumbered(self.rank, self.order)

    def renewed(self, space: AbstractSpace, x: Float[Array, "n D"]) -> "Ordered":
        """This list if it covers the positions x, else one built there. `near.most` remembers what it has been."""

        def moved(lists, x):
            return lists.moved(space, x)

        def fresh(lists, x):
            return lists.rebuilt(space, x)

        def old(lists, _):
            return lists

        @custom_vmap
        def keep(lists, x):
            return lax.cond(moved(lists, x), fresh, old, lists, x)

        @keep.def_vmap
        def _rule(size, batched, lists, x):
            leaves = zip(jax.tree.leaves((lists, x)), jax.tree.leaves(tuple(batched)), strict=True)
            whole = [a if mapped else jnp.broadcast_to(a, (size, *a.shape)) for a, mapped in leaves]
            lists, x = jax.tree.unflatten(jax.tree.structure((lists, x)), whole)
            out = jax.vmap(moved)(lists, x)

            def one_by_one(lists, x):
                return lax.map(lambda both: keep(*both), (lists, x))

            def together(lists, x):
                new = jax.vmap(fresh)(lists, x)
                return jax.vmap(lambda m, a, b: jax.tree.map(lambda u, v: jnp.where(m, u, v), a, b))(out, new, lists)

            def some(lists, x):
                return lax.platform_dependent(lists, x, cpu=one_by_one, default=together)

            found = lax.cond(jnp.any(out), some, old, lists, x)
            return found, jax.tree.map(lambda _: True, found)

        return keep(self, lax.stop_gradient(x))

    def moved(self, space: AbstractSpace, x: Float[Array, "n D"]) -> Bool[Array, ""]:
        """Whether the list does not cover x."""
        return self.near.moved(space, x if self.order is None else x[self.order])

    def rebuilt(self, space: AbstractSpace, x: Float[Array, "n D"]) -> "Ordered":
        """The list of x, of the same kind and capacity."""
        was, order, rank = self.near, self.order, self.rank
        if order is not None:
            order, rank = _along_cells(space, x, was.cutoff + was.skin)
        at = x if order is None else x[order]
        near = build(space, at, was.cutoff, was.skin, was.slots.shape[-2], was.opposite is not None)
        return Ordered(dataclasses.replace(near, most=jnp.maximum(near.most, was.most)), order, rank)


def _along_cells(space, x, radius):
    order = cell_order(space, x, radius)
    return order, jnp.zeros_like(order).at[order].set(jnp.arange(order.size, dtype=order.dtype), unique_indices=True)


def opposites(slots: Int[Array, "K n"]) -> Int[Array, "K n"]:
    """For slot k of particle n with neighbour m the slot of m that holds n, by bisection of sorted rows.

    Args:
        slots: (K, n) neighbours; an empty slot holds the particle itself.

    Returns:
        (K, n) slots; 0 where a slot is empty.
    """
    count, n = slots.shape
    own = jnp.arange(n, dtype=slots.dtype)[None, :]
    key = jnp.where(slots == own, n, slots)
    place = jnp.argsort(key, axis=0).astype(slots.dtype)
    key = jnp.take_along_axis(key, place, axis=0)
    low, high = jnp.zeros_like(slots), jnp.full_like(slots, count)
    for _ in range(count.bit_length()):  # the first entry of row m that is not below n
        middle = (low + high) // 2
        below = key[middle, slots] < own
        low, high = jnp.where(below, middle + 1, low), jnp.where(below, high, middle)
    return jnp.where(slots == own, 0, place[jnp.minimum(low, count - 1), slots])


def build(
    space: AbstractSpace, x: Float[Array, "n D"], cutoff: float, skin: float, capacity: int, whole: bool = False
) -> Neighbours:
    """The list of all pairs closer than cutoff + skin, inside a compiled program; of many systems by `vmap`.

    Args:
        space: free or periodic.
        x: (n, D) positions, anywhere in or out of the cell.
        cutoff: interaction range, a length.
        skin: extra length.
        capacity: slots K a particle.
        whole: find `back` now, for forces that use it.

    Returns:
        Neighbours; look at `overflow`.
    """
    x = lax.stop_gradient(x)
    slots, most = pairs_within(space, x, cutoff + skin, capacity)
    return Neighbours(x, slots, opposites(slots) if whole else None, most, cutoff, skin)


@eqx.filter_jit
def _one(space, x, cutoff, skin, capacity, whole):
    return build(space, x, cutoff, skin, capacity, whole)


def _several(space, cutoff, skin, capacity, whole, x):
    return jax.vmap(lambda a: build(space, a, cutoff, skin, capacity, whole))(x)


def _compiled(space, x, cutoff, skin, capacity, whole):
    if x.ndim == 2:
        return _one(space, x, cutoff, skin, capacity, whole)
    return each(_several, space, cutoff, skin, capacity, whole)(x)


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


def neighbour_list(
    space: AbstractSpace, x, cutoff: float, skin: float = 0.0, capacity: int | None = None, whole: bool = True
) -> Neighbours:
    """Build the list of all pairs closer than cutoff + skin, of one system or of several.

    Args:
        space: free or periodic.
        x: (n, D) or (B, n, D) positions, anywhere in or out of the cell.
        cutoff: interaction range, a length.
        skin: extra length, so that the list stays valid while particles move less than skin/2.
        capacity: slots K a particle; by default the largest count found. If too small, `overflow` is set
            and the list must not be used.
        whole: find `back` now, for forces that use it.

    Returns:
        Neighbours.

    Raises:
        InputError: positions that are not finite, or a cell too small for the cutoff.
    """
    must(bool(jnp.isfinite(jnp.asarray(x)).all()), "x", "be finite", "it has NaN or infinite entries")
    shape, dim = np.shape(x), space.dimensions
    fits = len(shape) in (2, 3) and shape[-1] == dim
    must(fits, "x", f"have shape (n, {dim}) or (B, n, {dim})", f"it is {shape}")
    must(bool(np.isfinite(cutoff)), "cutoff", "be finite for a neighbour list", f"it is {cutoff}")
    must(cutoff > 0, "cutoff", "be positive", f"it is {cutoff}")
    must(skin >= 0, "skin", "be zero or more", f"it is {skin}")
    must(capacity is None or capacity >= 1, "capacity", "be 1 or more", f"it is {capacity}")
    check_cutoff(space, cutoff)
    x = jnp.asarray(x) if jnp.issubdtype(jnp.asarray(x).dtype, jnp.floating) else jnp.asarray(x, float)
    trial = max(1, min(TRIAL, x.shape[-2] - 1)) if capacity is None else capacity
    found = _compiled(space, x, float(cutoff), float(skin), trial, whole)
    if capacity is not None:
        return found
    most = max(1, int(jnp.max(found.most)))
    if most > trial:
        return _compiled(space, x, float(cutoff), float(skin), most, whole)
    opposite = None if found.opposite is None else found.opposite[..., :most, :]
    return dataclasses.replace(found, slots=found.slots[..., :most, :], opposite=opposite)
