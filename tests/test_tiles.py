"""Sums over a regular grid tile by tile against the dense form: cells, images, slabs, laws, derivatives, memory.

Both forms add the same numbers in another order, some hundred of them: 1e-13 of the largest value is rounding.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import frames
from jaxmd_iz import moments as mo
from jaxmd_iz.checks import InputError
from jaxmd_iz.mollifiers import Bump, Cubic, Polynomial, Trapezoid
from jaxmd_iz.pair_split import Bonds
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.simulation import Grid
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.system import System
from jaxmd_iz.tile_sums import on_tiles
from jaxmd_iz.tiles import RegularGrid, cut, tiling
from jaxmd_iz.windows import Fourier, Separable, slab

ROUNDING = 1e-13
SKEW = [[3.1, 0.0, 0.0], [0.7, 2.9, 0.0], [-0.4, 0.5, 2.7]]


def grid_of(cell, shape):
    """The grid that fills a cell."""
    cell = np.diag(cell) if np.ndim(cell) == 1 else np.array(cell)
    return RegularGrid(shape, cell / np.array(shape)[:, None])


def error(found, expected):
    return float(jnp.max(jnp.abs(found - expected)) / jnp.max(jnp.abs(expected)))


# tiles of several sizes in one grid, supports and bonds beyond the cell, a sheared grid in free space, a profile
CASES = {
    "triclinic": (Periodic(SKEW), grid_of(SKEW, (7, 5, 3)), Cubic(1.0, 3), 4.0, 3),
    "free": (Free(2), RegularGrid((9, 7), [[0.3, 0.05], [0.0, 0.4]]), Trapezoid(1.0, 2), 1.5, 4),
    "slab": (
        Periodic(SKEW),
        RegularGrid((20,), [np.array(SKEW[1]) / 20]),
        slab(Bump(0.5, 1, 8), Periodic(SKEW), 1),
        4.0,
        6,
    ),
}


def items(dim, reach, count=60, seed=0):
    """Positions inside and outside the cell; bonds up to `reach`, one of no length, and two that must be left out."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(20, dim)) * 2
    d = rng.normal(size=(count, dim))
    d *= reach * rng.random((count, 1)) / np.linalg.norm(d, axis=1, keepdims=True)
    d[0], d[1] = 0.0, 2 * reach / np.sqrt(dim)  # the second one is longer than `reach`
    i, j = rng.integers(0, 20, (2, count))
    f, r, g = rng.normal(size=(count, dim)), rng.normal(size=(count, dim)), rng.normal(size=count)
    carries = np.arange(count) > 2  # so the third is not live; what no bond carries must not be seen by the dense form
    carries[0] = True
    load = [jnp.asarray(a * carries.reshape((-1,) + (1,) * (a.ndim - 1))) for a in (f, r, g)]
    bonds = Bonds(jnp.asarray(i), jnp.asarray(j), jnp.asarray(d), *load, reach)
    held = jnp.concatenate([jnp.asarray(f), jnp.asarray(r), jnp.asarray(g)[:, None]], axis=1)
    return jnp.asarray(x), bonds, held, jnp.arange(count) != 2


@pytest.mark.parametrize("name", CASES)
def test_bonds_of_every_image_are_summed(name):
    space, regular, mollifier, reach, size = CASES[name]
    dim = space.dimensions
    x, bonds, held, live = items(dim, reach)
    y = regular.points(jnp.linspace(-0.4, 0.3, dim))
    expected = mo.spread_bonds(y, x, bonds, mollifier, space)
    tiles = cut(regular, mollifier, space, reach, size)
    assert tiles is not None and int(np.prod(tiles.counts)) > 1
    see = jax.jit(lambda middle: on_tiles(tiles, y[0], middle, bonds.d, held, live))
    middle = x[bonds.i] - bonds.d / 2
    found = see(middle)
    parts = [found[:, :, :dim], found[:, :, dim : 2 * dim], found[:, :, 2 * dim :]]
    found = jnp.concatenate([p.reshape(len(y), -1) for p in parts], axis=1)
    assert error(found, expected) < ROUNDING
    assert jnp.all(jnp.isnan(see(middle.at[3, 0].set(jnp.nan))))  # no item can be lost without a trace


def test_particles_are_summed_in_float32():
    """Positions up to 6 have an error of 3e-7; the steepest η here changes by 2.6 of its peak per length."""
    cell = [[3.1, 0.4], [-0.5, 2.7]]
    space, regular, mollifier = Periodic(cell), grid_of(cell, (11, 8)), Separable(0.8, 2)
    x = items(2, 1.0)[0].astype(jnp.float32)
    density = jnp.asarray(np.random.default_rng(1).normal(size=(20, 3)), jnp.float32)
    y = regular.points(jnp.asarray([0.25, -0.5]))  # exact in float32
    expected = mo.spread(y, x.astype(float), density.astype(float), mollifier, space)
    tiles = cut(regular, mollifier, space, 0.0, 4)
    assert tiles is not None
    found = jax.jit(lambda x: on_tiles(tiles, y[0].astype(x.dtype), x, None, density))(x)
    assert found.dtype == jnp.float32 and error(found.astype(float), expected) < 1e-5


# --- a liquid in two dimensions -----------------------------------------------------------------------------------

BOX = Periodic([5.2, 5.0])
REGULAR = grid_of([5.2, 5.0], (36, 30))
ETA = Polynomial(0.6, 2)
N = 20


def liquid(epsilon):
    return System(LennardJones(epsilon, 1.0, 2.4, "shift"), BOX, np.linspace(1.0, 2.0, N), split="distance")


def phase_point():
    rng = np.random.default_rng(5)
    lattice = np.stack(np.meshgrid(np.arange(5) * 1.04, np.arange(4) * 1.25, indexing="ij"), -1).reshape(-1, 2)
    return jnp.asarray(lattice + rng.uniform(-0.1, 0.1, (N, 2))), jnp.asarray(rng.normal(size=(N, 2)))


def see(y, x, p, epsilon, regular=REGULAR):
    return liquid(epsilon).moments(REGULAR.points(y), x, p, 0, ETA, None, regular)


START = (jnp.asarray([0.07, 0.02]), *phase_point(), jnp.asarray(1.1))


@eqx.filter_jit
def pushed(start):
    """The moments, and how they change along the flow and as the grid moves along each axis."""
    y, x, p, epsilon = start
    system, still = liquid(epsilon), jnp.zeros_like
    flow = still(y), p / system.masses[:, None], system.force(x, 0), still(epsilon)
    axes = [(e, still(x), still(p), still(epsilon)) for e in jnp.eye(2)]
    several = jax.tree.map(lambda *a: jnp.stack(a), flow, *axes)
    values, slopes = jax.vmap(lambda t: jax.jvp(see, start, t))(several)
    return jax.tree.map(lambda a: a[0], values), slopes


@pytest.fixture(scope="module")
def seen():
    assert (
        tiling(REGULAR, ETA, BOX, 2.4, N * (N - 1) // 2) is not None and tiling(REGULAR, ETA, BOX, 0.0, N) is not None
    )
    return pushed(START)


def test_moments_are_those_of_the_dense_form(seen):
    expected = eqx.filter_jit(see)(*START, None)
    for a, b in zip(jax.tree.leaves(seen[0]), jax.tree.leaves(expected), strict=True):
        assert jnp.max(jnp.abs(a - b)) <= ROUNDING * jnp.max(jnp.abs(b))


def test_laws_hold_through_tiles(seen):
    """∂ρ + ∇·m = 0, ∂m + ∇·(K − S) = F, ∂E + ∇·J = P at every point: ∂ along the flow, ∇ by moving the grid."""
    value, slopes = seen
    rate = jax.tree.map(lambda a: a[0], slopes)
    div = jax.tree.map(lambda a: a[1, :, 0] + a[2, :, 1] if a.ndim > 2 else None, slopes)
    energy = rate.energy_kinetic + rate.energy_potential
    laws = [
        [rate.rho, div.momentum],
        [rate.momentum, div.k, -div.s, -value.force],
        [energy, div.j_kinetic, div.j_potential, -value.power],
    ]
    for terms in laws:
        scale = jnp.max(sum(jnp.abs(t) for t in terms))
        assert scale > 0.1 and jnp.max(jnp.abs(sum(terms))) <= ROUNDING * scale


def test_gradient_is_right_and_its_memory_does_not_grow_with_points_times_bonds():
    """10⁴ bonds seen from 10⁴ points: less than one number for each twenty (point, bond); a third of that is seen.

    Central differences of step h = 1e-4 leave h² times third derivatives, some 1e-7 here, and 1e-16/h of rounding.
    """
    n, regular, space, mollifier = (
        2000,
        grid_of([50.0, 50.0], (100, 100)),
        Periodic([50.0, 50.0]),
        Polynomial(1.5, 2, 3),
    )
    rng = np.random.default_rng(2)
    i = jnp.asarray(rng.integers(0, n, 5 * n))
    weights = jnp.asarray(rng.normal(size=(10_000, 10)))

    def loss(at):
        y, x, d, load = at
        bonds = Bonds(i, i, d, load, load[:, ::-1], load[:, 0], 1.5)
        return jnp.sum(weights * mo.spread_bonds(regular.points(y), x, bonds, mollifier, space, regular))

    at = [rng.uniform(0, 1, 2), rng.uniform(0, 50, (n, 2)), rng.uniform(-1, 1, (5 * n, 2)), rng.normal(size=(5 * n, 2))]
    at, way = [jnp.asarray(a) for a in at], [jnp.asarray(rng.normal(size=a.shape)) for a in at]
    both = jax.jit(jax.value_and_grad(loss)).lower(at).compile()
    assert both.memory_analysis().temp_size_in_bytes < 8 * 10**8 / 20
    slope = sum(jnp.vdot(a, b) for a, b in zip(both(at)[1], way, strict=True))
    h = 1e-4
    ahead, behind = (both([a + s * h * b for a, b in zip(at, way, strict=True)])[0] for s in (1, -1))
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * h), rtol=1e-5)


def test_walkers_on_tiles_are_seen_one_by_one():
    """Branches pass over blocks without rows; over several walkers at once both sides would be computed, always."""
    y, x, p, epsilon = START
    look = frames._Look(liquid(epsilon), (Grid(REGULAR.points(y), ETA, regular=REGULAR),))
    several = jnp.stack([x, x]), jnp.stack([p, p])

    def branches(f, *a):
        return str(jax.make_jaxpr(f)(*a)).count(" cond[")

    alone = branches(lambda x, p: see(y, x, p, epsilon), x, p)
    together = branches(jax.vmap(lambda x, p: see(y, x, p, epsilon)), *several)
    assert together == alone - 2  # of particles and of bonds
    assert branches(jax.vmap(lambda x, p: look(x, p, 0, None)), *several) > together


def test_tiles_are_for_regular_grids_and_compact_mollifiers_where_they_pay():
    large, many = grid_of([5.2, 5.0], (64, 64)), 10_000
    assert tiling(large, ETA, BOX, 2.4, many) is not None
    assert tiling(None, ETA, BOX, 2.4, many) is None
    assert tiling(large, ETA, BOX, np.inf, many) is None
    assert tiling(large, ETA, BOX, 2.4, 0) is None
    assert tiling(large, Fourier([5.2, 5.0], 0.3, 2), BOX, 2.4, many) is None
    assert tiling(large, ETA, Periodic([5.2, 5.1]), 2.4, many) is None  # the grid does not fill the cell
    assert tiling(grid_of([5.2, 5.0], (4, 4)), ETA, BOX, 2.4, many) is None  # dearer than all points
    assert tiling(RegularGrid((64,), [[0.1, 0.0]]), ETA, BOX, 2.4, many) is None  # a line in the plane


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda: RegularGrid((4, 0), np.eye(2)), "`shape` must be positive numbers"),
        (lambda: RegularGrid((4, 4), np.eye(2)[:1]), "`steps` must be 2 vectors"),
        (
            lambda: jax.eval_shape(lambda *a: see(*a, grid_of([5.2, 5.0], (3, 4))), *START),
            "`regular` must have the 1080 points of `y`",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(act, sentence):
    with pytest.raises(InputError, match=sentence):
        act()
