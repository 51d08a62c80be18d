"""The shortest split on neighbour lists: against singular values, its derivatives, and how many steps it takes."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.sparse.linalg import cg

from jaxmd_iz import min_norm, pair_split, surfaces
from jaxmd_iz.neighbours import neighbour_list
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.space import Free, Periodic

LJ = LennardJones(1.0, 0.95, cutoff=1.75, truncation="force_shift")
TILTED = Periodic([[4.3, 0.0, 0.0], [0.6, 4.4, 0.0], [-0.4, 0.5, 4.5]])


def lattice(m, dim=3, amplitude=0.13, seed=0):
    """m^D particles, one a unit volume, off their sites."""
    sites = np.array(list(itertools.product(range(m), repeat=dim)), float) + 0.5
    return sites + np.random.default_rng(seed).uniform(-amplitude, amplitude, sites.shape)


def error(value, expected):
    value, expected = np.asarray(value), np.asarray(expected)
    return float(np.max(np.abs(value - expected)) / np.max(np.abs(expected)))


# --- singular values ----------------------------------------------------------------------------------------------

TWO = np.concatenate(
    [lattice(3, seed=1), lattice(2, seed=2) + 9.0, [[20.0, 0, 0], [21.0, 0.3, 0], [0, 30, 0], [20.0, 0, 0]]]
)
NETWORKS = {
    "vacancies": (TILTED, lattice(4)[np.random.default_rng(4).permutation(64)[:45]]),
    "ring": (Periodic([9.0]), lattice(9, 1)),
    "cluster of two dimensions": (Free(2), lattice(5, 2)),
    "two clusters, a pair, one alone, one on another": (Free(3), TWO),
}


@functools.partial(jax.jit, static_argnums=0)
def solve(space, x, pull, near):
    """v of b = A w, with w on the half bonds, what is left of b, A and w on the bonds within the cutoff."""
    e = near.edges(space, x, jnp.zeros(len(x), int))
    net = min_norm.network(e, LJ.cutoff)
    i, slot = e.half // e.to.shape[1], e.half % e.to.shape[1]
    d, used = e.d[i, slot], e.half_mask & jnp.any(net.unit[i, slot] != 0, axis=1)
    a = pair_split.incidence(len(x), i, e.to[i, slot], jnp.where(used[:, None], d, 0.0))
    b = (a @ pull[: a.shape[1]]).reshape(x.shape)
    v = min_norm.shortest(net, b, space, x, jnp.max(jnp.abs(b)))
    on_bonds = jnp.where(e.half_mask, v[i, slot], 0.0)
    return a, b, on_bonds, net.pull(v) - b, jnp.where(used, 0.0, on_bonds)


@pytest.mark.parametrize(("space", "x"), NETWORKS.values(), ids=list(NETWORKS))
def test_split_is_that_of_singular_values(space, x):
    near = neighbour_list(space, x, LJ.cutoff, skin=0.3)
    pull = np.random.default_rng(7).normal(size=len(x) ** 2)
    a, b, v, left, unused = solve(space, jnp.asarray(x), jnp.asarray(pull), near)
    assert np.max(np.abs(left)) <= 1e-13 * np.max(np.abs(b)) and not np.any(unused)
    values = np.linalg.svd(a, compute_uv=False)
    smallest = values[values > 1e-9 * values[0]][-1]
    expected = np.linalg.lstsq(a, np.ravel(b), rcond=1e-9)[0]
    # b is met to its rounding, which the smallest singular value s takes to v; Aᵀz ⊥ null(A) to a like rounding
    assert np.linalg.norm(v - expected) <= 1e-12 / min(smallest, 1.0) * np.linalg.norm(expected)


# --- a surface on a list ------------------------------------------------------------------------------------------


def forces(space, x, near, push):
    """The surface of a configuration, with its gradient pushed, and its bonds."""
    e = space.edges(x, jnp.zeros(len(x), int)) if near is None else near.edges(space, x, jnp.zeros(len(x), int))
    masses = jnp.ones(len(x), x.dtype)
    surface = surfaces.surface(LJ, e, masses, 0, "none")
    surface = eqx.tree_at(lambda s: s.gradient, surface, surface.gradient + push)
    return surface, pair_split.bonds("min_norm", LJ, e, masses, 0, "none", surface, jnp.zeros_like(x))


split = eqx.filter_jit(forces)
NOTHING = jnp.zeros((64, 3))


def sums(n, links):
    total = np.zeros((n, links.f.shape[1]))
    np.add.at(total, np.asarray(links.i), np.asarray(links.f))
    np.add.at(total, np.asarray(links.j), -np.asarray(links.f))
    return total


def crystal(amplitude, seed=0):
    sites = (lattice(4, amplitude=0.0) / 4) @ TILTED.matrix
    return jnp.asarray(sites + np.random.default_rng(seed).uniform(-amplitude, amplitude, sites.shape))


def listed(x):
    return neighbour_list(TILTED, x, LJ.cutoff, skin=0.3, capacity=40)


def test_forces_on_a_list_close_and_are_shorter_than_those_of_the_pairs():
    x = crystal(0.13)
    surface, links = split(TILTED, x, listed(x), NOTHING)
    assert error(sums(64, links), surface.gradient) < 1e-12
    d, f = np.asarray(links.d), np.asarray(links.f)
    assert np.max(np.abs(np.cross(d, f))) < 1e-13 * np.max(np.abs(f))
    assert links.reach == LJ.cutoff and not f[np.linalg.norm(d, axis=1) >= LJ.cutoff].any()
    pairs = pair_split.bonds("energy", LJ, surface.on, jnp.ones(64), 0, "none", surface, jnp.zeros_like(x))
    assert error(sums(64, pairs), surface.gradient) < 1e-12
    assert np.sum(f**2) < 0.9 * np.sum(np.asarray(pairs.f) ** 2)


def test_a_crystal_at_rest_has_no_forces_to_split():
    """Its gradient is rounding, which no pair forces sum to."""
    x = crystal(0.0)
    surface, links = split(TILTED, x, listed(x), NOTHING)
    size = np.max(np.abs(surface.own))
    assert size > 0.5 and np.max(np.abs(surface.gradient)) < 1e-12 * size and np.max(np.abs(links.f)) < 1e-12 * size


def test_batches_and_gradients():
    """A batch along a line: forces are those of one alone, slopes those of differences along it."""
    h, way = 1e-5, np.random.default_rng(2).uniform(-1, 1, (64, 3))
    at = crystal(0.13)
    x = at[None] + h * jnp.arange(-2.0, 3.0)[:, None, None] * jnp.asarray(way)[None]
    lists = [listed(a) for a in x]
    assert all(np.array_equal(lists[0].mask, near.mask) for near in lists)
    r = np.linalg.norm(TILTED.displacement(at[:, None] - at[None]), axis=2)
    assert np.min(np.abs(r - LJ.cutoff)) > 8 * h  # where v jumps

    def power(x, near):
        links = forces(TILTED, x, near, NOTHING)[1]
        return jnp.sum(links.f**4), links.f

    stacked = jax.tree.map(lambda *a: jnp.stack(a), *lists)
    (value, f), slope = jax.jit(jax.vmap(jax.value_and_grad(power, has_aux=True)))(x, stacked)
    assert error(f[1], split(TILTED, x[1], lists[1], NOTHING)[1].f) < 1e-12
    # fourth order; rounding 1e-15/h of values a tenth as large as their slopes
    difference = (8 * (value[3] - value[1]) - (value[4] - value[0])) / (12 * h)
    assert error(difference, np.sum(slope[2] * way)) < 1e-8


def test_float32():
    x = crystal(0.13)
    low = x.astype(jnp.float32)
    (surface, links), (_, expected) = (
        split(TILTED, low, listed(low), NOTHING.astype(jnp.float32)),
        split(TILTED, x, listed(x), NOTHING),
    )
    assert links.f.dtype == jnp.float32
    assert error(sums(64, links), surface.gradient) < 1e-5 and error(links.f, expected.f) < 1e-4


@pytest.mark.parametrize("size", [1.0, 1e-9])
def test_what_no_pair_forces_carry_is_refused(size):
    """A push that moves the centre of mass."""
    x = crystal(0.13)
    with pytest.raises(eqx.EquinoxRuntimeError, match="Argument `split` must be `energy` here"):
        jax.block_until_ready(split(TILTED, x, listed(x), NOTHING.at[:, 0].set(size))[1].f)


def test_many_particles_on_all_pairs():
    """More than `FEW`: the same steps, on every pair, and the least of all v."""
    x = jnp.asarray(lattice(5)[:80])
    surface, links = split(Free(3), x, None, jnp.zeros_like(x))
    assert len(x) > pair_split.FEW and error(sums(80, links), surface.gradient) < 1e-12
    v = np.sum(np.asarray(links.f) * np.asarray(links.d), axis=1) / np.linalg.norm(links.d, axis=1)
    a = jax.jit(pair_split.incidence, static_argnums=0)(80, links.i, links.j, links.d)
    least = np.linalg.lstsq(a, np.ravel(surface.gradient), rcond=1e-9)[0]
    assert np.linalg.norm(v - least) < 1e-12 * np.linalg.norm(least)


# --- steps --------------------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=0)
def left(space, helped, x, near, steps):
    """What so many steps leave of b = A w, relative."""
    net = min_norm.network(near.edges(space, x, jnp.zeros(len(x), int)), LJ.cutoff)
    b = net.pull(jnp.sin(40.0 * jnp.sum(net.unit**2, axis=-1) + 9.0 * jnp.abs(net.stretch(jnp.sin(9.0 * x)))))
    m = min_norm.preconditioner(net, space, x)
    z, _ = cg(net.stiffness, b, tol=5e-9, maxiter=steps, M=lambda r: jnp.where(helped, m(r), r))
    return jnp.linalg.norm(net.stiffness(z) - b) / jnp.linalg.norm(b)


def steps(space, x, near, helped):
    few, many = 0, 128
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if left(space, helped, x, near, middle) <= 1e-8 else (middle, many)
    return many


def test_steps_hardly_grow_with_the_number_of_particles():
    helped, plain = {}, {}
    for m in (8, 12, 16):
        x, space = jnp.asarray(lattice(m)), Periodic([float(m)] * 3)
        near = neighbour_list(space, x, LJ.cutoff)
        helped[m], plain[m] = steps(space, x, near, True), steps(space, x, near, False)
    # the length doubles: plain conjugate gradients take up to twice the steps (n^{1/3}), preconditioned ones a few more
    assert plain[16] > 1.5 * plain[8]
    assert max(helped[12], helped[16]) < 1.2 * helped[8] and helped[16] < 0.6 * plain[16], (helped, plain)
