"""Minimum images and neighbour lists against sums over images, and against vesin."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from vesin import NeighborList

from jaxmd_iz.checks import InputError
from jaxmd_iz.neighbours import neighbour_list
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


@eqx.filter_jit
def compiled_edges(near, space, x):
    return near.edges(space, x, jnp.zeros(x.shape[0], int))


def edges(near, space, x):
    """The bonds of a list, as NumPy arrays."""
    return jax.tree.map(np.asarray, compiled_edges(near, space, jnp.asarray(x)))


def listed(near):
    """Ordered pairs of a list."""
    i, slot = np.nonzero(np.asarray(near.mask))
    return set(zip(i.tolist(), np.asarray(near.to)[i, slot].tolist(), strict=True))


def close(x, space, radius):
    _, length = by_images(space, x[:, None] - x[None])
    return set(map(tuple, np.argwhere((length < radius) & ~np.eye(len(x), dtype=bool)).tolist()))


@every
@pytest.mark.parametrize("skin", [0.0, 0.4])
def test_list_holds_the_pairs_that_brute_force_finds(space, skin):
    cutoff = min(1.6, space.largest_cutoff())
    for n, seed in ((1, 0), (2, 1), (60, 2)):
        x = positions(space, n, seed)
        near = neighbour_list(space, x, cutoff, skin)
        expected = close(x, space, cutoff + skin)
        assert listed(near) == expected and not near.overflow
        assert near.to.shape[1] == max(np.bincount([i for i, _ in expected], minlength=1).max(), 1)
        assert n < 60 or len(expected) > 60


@every
def test_bonds_are_nearest_images(space):
    """Within the cutoff a bond is the shortest image; all are differences of positions up to a cell vector."""
    cutoff = min(1.6, space.largest_cutoff())
    x = positions(space, 40, 5)
    e = edges(neighbour_list(space, x, cutoff, 0.3), space, x)
    d, mask = np.asarray(e.d), np.asarray(e.mask)
    shortest, length = by_images(space, x[:, None] - x[np.asarray(e.to)])
    inside = mask & (length < cutoff)
    np.testing.assert_allclose(d[inside], shortest[inside], rtol=0, atol=1e-13)  # 20 cells away rounds 1e-14
    assert np.all(length[mask] <= e.reach)
    assert np.all(np.linalg.norm(d[~mask], axis=-1) == cutoff)  # a regular place for kernels
    if isinstance(space, Periodic):
        cells = (d - (x[:, None] - x[np.asarray(e.to)])) @ np.linalg.inv(cell_of(space))
        np.testing.assert_allclose(cells[mask], np.round(cells[mask]), rtol=0, atol=1e-12)


@every
@pytest.mark.parametrize("capacity", [None, 70])
def test_back_and_half(space, capacity):
    """The opposite of a bond is a bond, back of back is the bond itself, and `half` holds each pair once."""
    x = positions(space, 60, 6)
    near = neighbour_list(space, x, min(1.6, space.largest_cutoff()), 0.2, capacity)
    to, back, mask = np.asarray(near.to), np.asarray(near.back), np.asarray(near.mask)
    slots = to.shape[1]
    assert capacity in (None, slots)
    i, slot = np.nonzero(mask)
    j, opposite = to[i, slot], back[i, slot]
    assert mask[j, opposite].all()
    np.testing.assert_array_equal(to[j, opposite], i)
    np.testing.assert_array_equal(back[j, opposite], slot)
    half = np.asarray(near.half)[np.asarray(near.half_mask)]
    one, two = half // slots, to[half // slots, half % slots]
    pairs = set(zip(one.tolist(), two.tolist(), strict=True))
    assert len(pairs) == len(half) == len(i) // 2 and mask[one, half % slots].all()
    assert pairs == {(a, b) for a, b in listed(near) if a < b}
    d = np.asarray(edges(near, space, x).d)
    np.testing.assert_allclose(d[i, slot], -d[j, opposite], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["box", "triclinic", "free"])
def test_list_is_that_of_vesin(name):
    """Bonds with their vectors, which vesin counts from the first atom to the second."""
    space, cutoff = SPACES[name], 1.55
    x = positions(space, 50, 7)
    periodic = isinstance(space, Periodic)
    box = cell_of(space) if periodic else np.eye(3)
    i, j, d = NeighborList(cutoff=cutoff, full_list=True).compute(x, box, periodic, "ijD")
    near = neighbour_list(space, x, cutoff)
    e = edges(near, space, x)
    to, mask, vectors = (np.asarray(a) for a in (e.to, e.mask, e.d))
    ours = {(a, int(to[a, k])): vectors[a, k] for a, k in np.argwhere(mask).tolist()}
    assert len(i) == len(ours) > 50
    for a, b, vector in zip(i.tolist(), j.tolist(), d, strict=True):
        np.testing.assert_allclose(-ours[a, b], vector, rtol=0, atol=1e-12)


def test_two_atoms_in_a_cell_of_twice_the_cutoff():
    """The smallest cell there is, with a skin longer than the cell."""
    space = Periodic([2.0, 2.0, 2.0])
    x = np.array([[0.1, 0.1, 0.1], [1.9, 5.9, -2.1]])
    near = neighbour_list(space, x, 1.0, 2.5)
    e = edges(near, space, x)
    assert listed(near) == {(0, 1), (1, 0)} and near.to.shape == (2, 1)
    np.testing.assert_allclose(e.d[0, 0], [0.2, 0.2, 0.2], rtol=0, atol=1e-14)


def test_a_list_stays_valid_while_no_particle_moves_more_than_half_the_skin():
    space, cutoff, skin = SPACES["triclinic"], 1.3, 0.4
    x = positions(space, 60, 8)
    near = neighbour_list(space, x, cutoff, skin)
    rng = np.random.default_rng(9)
    step = rng.normal(size=x.shape)
    step *= 0.5 * skin / np.linalg.norm(step, axis=1, keepdims=True)
    moved = x + 0.9999 * step + rng.integers(-1, 2, x.shape) @ cell_of(space)  # and into other cells
    assert not near.moved(space, jnp.asarray(moved))
    assert close(moved, space, cutoff) <= listed(near) and close(moved, space, cutoff) != close(x, space, cutoff)
    moved[17] = x[17] + 1.0001 * step[17]
    assert near.moved(space, jnp.asarray(moved))


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_overflow_is_flagged(slots):
    """Too small a capacity: the arrays keep their shape, and the flag is up."""
    x = positions(SPACES["box"], 60, 10)
    near = neighbour_list(SPACES["box"], x, 2.0, 0.0, slots)
    assert bool(near.overflow) and near.to.shape == (60, slots)
    most = neighbour_list(SPACES["box"], x, 2.0).to.shape[1]
    assert not neighbour_list(SPACES["box"], x, 2.0, 0.0, most).overflow


def test_overflow_of_a_star_is_flagged():
    """Five atoms that each have the last one as their only neighbour: more half bonds than slots/2."""
    angles = 2 * np.pi * np.arange(5) / 5
    x = np.concatenate([np.stack([np.cos(angles), np.sin(angles)], axis=1), [[0.0, 0.0]]])
    near = neighbour_list(Free(2), x, 1.1, 0.0, 1)
    assert bool(near.overflow) and near.to.shape == (6, 1)


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
