"""Minimum images and neighbour lists against sums over images, and against vesin."""

import dataclasses
import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from vesin import NeighborList

from jaxmd_iz import cells
from jaxmd_iz.checks import InputError
from jaxmd_iz.neighbours import build, neighbour_list
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.system import System

TILTED = [[4.0, 0.0, 0.0], [1.7, 3.6, 0.0], [-1.5, 1.2, 3.9]]
SPACES = {
    "free": Free(3),
    "free plane": Free(2),
    "line": Periodic([5.0]),
    "rectangle": Periodic([4.0, 5.5]),
    "box": Periodic([4.0, 5.5, 7.1]),
    "rhombus": Periodic([[4.0, 0.0], [2.0, 3.4]]),
    "triclinic": Periodic(TILTED),
    "left-handed": Periodic([TILTED[1], TILTED[0], TILTED[2]]),
}
every = pytest.mark.parametrize("space", SPACES.values(), ids=list(SPACES))


def cell_of(space):
    return space.matrix if isinstance(space, Periodic) else np.zeros((space.dimensions,) * 2)


def positions(space, n, seed=0):
    """Uniform in the cell, then a third of them moved by up to three cell vectors; some on its faces."""
    rng, dim = np.random.default_rng(seed), space.dimensions
    cell = cell_of(space) if isinstance(space, Periodic) else 5.0 * np.eye(dim)
    fractions = rng.uniform(size=(n, dim))
    fractions[: n // 3] += rng.integers(-3, 4, (n // 3, dim))
    fractions[n // 3 : n // 2, 0] = rng.integers(-1, 3, n // 2 - n // 3)
    return fractions @ cell


def by_images(space, d, count=4):
    """The shortest of d + T over all lattice vectors T of up to `count` cells, and its length."""
    if isinstance(space, Free):
        return d, np.linalg.norm(d, axis=-1)
    shifts = np.array(list(itertools.product(range(-count, count + 1), repeat=space.dimensions))) @ cell_of(space)
    home = d - np.round(d @ np.linalg.inv(cell_of(space))) @ cell_of(space)
    every = home[..., None, :] + shifts
    length = np.linalg.norm(every, axis=-1)
    best = np.argmin(length, axis=-1)
    shortest = np.take_along_axis(every, best[..., None, None], axis=-2)[..., 0, :]
    return shortest, np.min(length, axis=-1)


SKIN = 0.4


@functools.cache
def built(name):
    """Three configurations of a space, and their lists, built together."""
    space = SPACES[name]
    x = np.stack([positions(space, 60, seed) for seed in (2, 5, 6)])
    return x, neighbour_list(space, x, cutoff_of(space), SKIN)


def cutoff_of(space):
    return min(1.6, space.largest_cutoff())


@eqx.filter_jit
def compiled_edges(near, space, x):
    return near.edges(space, x, jnp.zeros(x.shape[0], int))


def edges(near, space, x):
    """The bonds of a list, as NumPy arrays."""
    return jax.tree.map(np.asarray, compiled_edges(near, space, jnp.asarray(x)))


def single(near, b):
    return jax.tree.map(lambda a: a[b], near)


def listed(near):
    """Ordered pairs of a list."""
    i, slot = np.nonzero(np.asarray(near.mask))
    return set(zip(i.tolist(), np.asarray(near.to)[i, slot].tolist(), strict=True))


def close(x, space, radius, count=4):
    _, length = by_images(space, x[:, None] - x[None], count)
    return set(map(tuple, np.argwhere((length < radius) & ~np.eye(len(x), dtype=bool)).tolist()))


named = pytest.mark.parametrize("name", ["free", "line", "rhombus", "triclinic"])


@named
def test_lists_hold_the_pairs_that_brute_force_finds(name):
    """Of several configurations at once; where the skin passes half of a height, the nearest image still decides."""
    space = SPACES[name]
    several, near = built(name)
    most = []
    for b, x in enumerate(several):
        expected = close(x, space, cutoff_of(space) + SKIN)
        assert listed(single(near, b)) == expected and len(expected) > 60
        most.append(np.bincount([i for i, _ in expected], minlength=1).max())
    np.testing.assert_array_equal(near.most, most)
    assert near.slots.shape == (3, max(most), 60) and not np.any(near.overflow)


WIDE = {
    "box": Periodic([9.0, 10.0, 20.0]),
    "triclinic": Periodic(np.array(TILTED) * 2.6),
    "free plane": Free(2),
}


@functools.cache
def wide(name):
    """More cells than are in reach, so that some pairs are never looked at."""
    space = WIDE[name]
    cell = space.matrix if isinstance(space, Periodic) else 20.0 * np.eye(2)
    x = np.random.default_rng(3).uniform(-0.5, 1.5, (300, len(cell))) @ cell
    made = cells.table(space, 1.9, 300)
    assert len(made.half) * (2 * made.half.max() + 1) < np.prod(made.counts)
    return space, x, neighbour_list(space, x, 1.5, 0.4, whole=False)


@pytest.mark.parametrize("name", list(WIDE))
def test_lists_of_many_cells(name):
    """Also in float32, to rounding."""
    space, x, near = wide(name)
    expected = close(x, space, 1.9, 1)
    assert len(expected) > 500 and listed(near) == expected
    if name == "triclinic":
        rough = neighbour_list(space, x.astype(np.float32), 1.5, 0.4, whole=False)
        assert rough.x.dtype == jnp.float32 and rough.slots.dtype == jnp.int32
        # x to 20 rounds by 1e-6
        assert close(x, space, 1.9 - 1e-5, 1) <= listed(rough) <= close(x, space, 1.9 + 1e-5, 1)


def test_list_is_that_of_vesin():
    """Bonds with their vectors, which vesin counts from the first atom to the second."""
    space, x, near = wide("triclinic")
    i, j, d = NeighborList(cutoff=1.9, full_list=True).compute(x, cell_of(space), True, "ijD")
    e = edges(near, space, x)
    ours = {(a, int(e.to[a, k])): e.d[a, k] for a, k in np.argwhere(e.mask).tolist()}
    assert len(i) == len(ours) > 1000
    vectors = np.array([ours[pair] for pair in zip(i.tolist(), j.tolist(), strict=True)])
    np.testing.assert_allclose(-vectors, d, rtol=0, atol=1e-12)


def test_a_cloud_that_expands_without_end_has_its_list():
    """Also with a particle lost at 1e30 and one that is nowhere; one program for all, of fixed shapes."""
    space, x = Free(3), positions(Free(3), 60, 2)
    make = jax.jit(lambda a: build(space, a, 1.5, 0.4, 59))
    for scale in (1.0, 3.0, 1e3, 1e9):
        assert listed(make(jnp.asarray(scale * x))) == close(scale * x, space, 1.9)
    x[7], x[8] = 1e30, np.nan
    near = make(jnp.asarray(x))
    rest = np.delete(np.arange(60), [7, 8])
    assert listed(near) == {(rest[i], rest[j]) for i, j in close(x[rest], space, 1.9)} and not near.overflow
    assert make._cache_size() == 1


@named
def test_bonds_are_nearest_images(name):
    """Within the cutoff a bond is the shortest image; all are differences of positions up to a cell vector."""
    space, cutoff = SPACES[name], cutoff_of(SPACES[name])
    x, near = (single(a, 1) for a in built(name))
    e = edges(near, space, x)
    assert e.to.dtype == e.back.dtype == e.half.dtype == int  # as those of all pairs
    d, mask = np.asarray(e.d), np.asarray(e.mask)
    shortest, length = by_images(space, x[:, None] - x[np.asarray(e.to)])
    inside = mask & (length < cutoff)
    np.testing.assert_allclose(d[inside], shortest[inside], rtol=0, atol=1e-13)  # 20 cells away rounds 1e-14
    assert np.all(length[mask] <= e.reach)
    assert np.all(np.linalg.norm(d[~mask], axis=-1) == cutoff)  # a regular place for kernels
    if isinstance(space, Periodic):
        turns = (d - (x[:, None] - x[np.asarray(e.to)])) @ np.linalg.inv(cell_of(space))
        np.testing.assert_allclose(turns[mask], np.round(turns[mask]), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "stored"), [("free", True), ("line", True), ("triclinic", True), ("rhombus", False)])
def test_back_and_half(name, stored):
    """The opposite of a bond is a bond, back of back is the bond itself, and `half` holds each pair once."""
    x, near = (single(a, 2) for a in built(name))
    near = near if stored else dataclasses.replace(near, opposite=None)
    e = edges(near, SPACES[name], x)
    to, back, mask = e.to, e.back, e.mask
    slots = to.shape[1]
    i, slot = np.nonzero(mask)
    j, opposite = to[i, slot], back[i, slot]
    assert mask[j, opposite].all()
    np.testing.assert_array_equal(to[j, opposite], i)
    np.testing.assert_array_equal(back[j, opposite], slot)
    half = e.half[e.half_mask]
    one, two = half // slots, to[half // slots, half % slots]
    pairs = set(zip(one.tolist(), two.tolist(), strict=True))
    assert len(pairs) == len(half) == len(i) // 2 and mask[one, half % slots].all()
    assert pairs == {(a, b) for a, b in listed(near) if a < b}
    np.testing.assert_allclose(e.d[i, slot], -e.d[j, opposite], rtol=0, atol=1e-12)


def test_numbers_of_particles_can_be_changed():
    """The list of the particles in another order has the same bonds, and back again it is itself."""
    x, near = (single(a, 0) for a in built("triclinic"))
    order = np.random.default_rng(4).permutation(60).astype(np.int32)
    rank = np.argsort(order).astype(np.int32)
    other = near.renumbered(jnp.asarray(order), jnp.asarray(rank))
    np.testing.assert_array_equal(other.x, x[order])
    assert listed(other) == {(rank[i], rank[j]) for i, j in listed(near)}
    np.testing.assert_array_equal(other.back, near.back[order])
    again = other.renumbered(jnp.asarray(rank), jnp.asarray(order))
    for one, two in zip(jax.tree.leaves(near), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, two)


def test_one_atom_and_two_in_a_cell_of_twice_the_cutoff():
    """The smallest cell there is, with a skin longer than the cell."""
    alone = neighbour_list(Periodic([2.0]), np.full((1, 1), 9.0), 1.0, 2.5)
    assert alone.slots.shape == (1, 1) and not np.any(alone.mask) and alone.most == 0 and not alone.overflow
    space = Periodic([2.0, 2.0, 2.0])
    x = np.array([[0.1, 0.1, 0.1], [1.9, 5.9, -2.1]])
    near = neighbour_list(space, x, 1.0, 2.5)
    e = edges(near, space, x)
    assert listed(near) == {(0, 1), (1, 0)} and near.to.shape == (2, 1)
    np.testing.assert_allclose(e.d[0, 0], [0.2, 0.2, 0.2], rtol=0, atol=1e-14)


def test_a_list_stays_valid_while_no_particle_moves_more_than_half_the_skin():
    space, skin = SPACES["triclinic"], SKIN
    cutoff = cutoff_of(space)
    x, near = (single(a, 1) for a in built("triclinic"))
    rng = np.random.default_rng(9)
    step = rng.normal(size=x.shape)
    step *= 0.5 * skin / np.linalg.norm(step, axis=1, keepdims=True)
    moved = x + 0.9999 * step + rng.integers(-1, 2, x.shape) @ cell_of(space)  # and into other cells
    assert not near.moved(space, jnp.asarray(moved))
    assert close(moved, space, cutoff) <= listed(near) and close(moved, space, cutoff) != close(x, space, cutoff)
    moved[17] = x[17] + 1.0001 * step[17]
    assert near.moved(space, jnp.asarray(moved))


def test_overflow_is_flagged():
    """Too small a capacity: the arrays keep their shape, the flag is up, and `most` says what is needed."""
    x, whole = (single(a, 1) for a in built("triclinic"))
    most = int(np.max(np.sum(whole.mask, axis=1)))
    near = neighbour_list(SPACES["triclinic"], x, 1.6, SKIN, most - 1)
    assert bool(near.overflow) and near.slots.shape == (most - 1, 60) and near.most == most and not whole.overflow
    assert listed(near) < close(x, SPACES["triclinic"], 1.6 + SKIN)


@pytest.mark.parametrize(
    "act",
    [
        lambda: neighbour_list(Periodic([6.0, 4.9, 6.0]), np.zeros((2, 3)), 2.5),
        lambda: System(LennardJones(1.0, 1.0, 2.5), Periodic([6.0, 4.9, 6.0]), np.ones(1)),
        lambda: neighbour_list(Periodic([[6.0, 0, 0], [5.0, 4.9, 0], [0, 0, 6.0]]), np.zeros((2, 3)), 2.5),
    ],
)
def test_a_cell_too_small_for_the_cutoff_is_refused_in_a_sentence(act):
    """Half the smallest height decides, not the length of an edge."""
    with pytest.raises(InputError, match=r"leave room for the cutoff 2\.5 .*, but half that height is 2\.[014]"):
        act()


@pytest.mark.parametrize(
    ("x", "cutoff", "sentence"),
    [(np.full((2, 3), np.nan), 1.0, "`x` must be finite"), (np.zeros((2, 3)), np.inf, "`cutoff` must be finite")],
)
def test_what_has_no_list_is_refused_in_a_sentence(x, cutoff, sentence):
    with pytest.raises(InputError, match=sentence):
        neighbour_list(Free(3), x, cutoff)


@every
def test_displacement_is_the_shortest_image_below_half_of_every_height(space):
    rng = np.random.default_rng(11)
    d = rng.normal(size=(300, space.dimensions))
    limit = min(space.largest_cutoff(), 9.0)
    d *= (rng.uniform(0, 0.9999 * limit, 300) / np.linalg.norm(d, axis=1))[:, None]
    far = d + rng.integers(-3, 4, d.shape) @ cell_of(space)
    np.testing.assert_allclose(space.displacement(jnp.asarray(far)), d, rtol=0, atol=1e-13)
    np.testing.assert_allclose(by_images(space, far)[0], d, rtol=0, atol=1e-13)


DISPLACE = {name: jax.jit(space.displacement) for name, space in SPACES.items()}
unit = st.floats(-0.499, 0.499)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(SPACES)), st.tuples(unit, unit, unit), st.tuples(*[st.integers(-50, 50)] * 3))
@example("triclinic", (0.499, -0.499, 0.499), (50, -50, 50))
def test_wrapping_forgets_whole_cells(name, fractions, cells):
    """displacement(d + T) = d for d within half of every cell vector; odd; never longer than `longest`."""
    space = SPACES[name]
    dim, cell = space.dimensions, cell_of(space)
    inside = np.array(fractions[:dim]) @ (cell if isinstance(space, Periodic) else np.eye(dim))
    moved = inside + np.array(cells[:dim]) @ cell
    there, back = (np.asarray(DISPLACE[name](jnp.asarray(sign * moved))) for sign in (1, -1))
    np.testing.assert_allclose(there, inside, rtol=0, atol=1e-12)  # 50 cells of length 5 round to 1e-13
    np.testing.assert_array_equal(back, -there)
    assert np.linalg.norm(there) <= space.longest() + 1e-12


@pytest.mark.parametrize("name", ["line", "rectangle", "rhombus", "box", "triclinic"])
@pytest.mark.parametrize("radius", [0.7, 2.9, 6.5])
def test_images_are_all_that_reach(name, radius):
    """Every lattice vector T with |u + T| < radius for some displacement u is in the list; a few more may be."""
    space = SPACES[name]
    dim, cell = space.dimensions, cell_of(space)
    kept = {tuple(np.round(t @ np.linalg.inv(cell)).astype(int)) for t in space.images(radius)}
    u = np.random.default_rng(12).uniform(-0.5, 0.5, (4000, dim))
    u[: 2**dim] = np.array(list(itertools.product((-0.5, 0.5), repeat=dim)))
    for k in itertools.product(range(-4, 5), repeat=dim):
        if np.min(np.linalg.norm((u + k) @ cell, axis=1)) < radius:
            assert k in kept, k
    assert len(kept) < 9**dim
