"""Pair splits: closures, ranks of ∂r/∂x, `min_norm` in degenerate geometries, and Lemma 3.1.

Forces are of order 1 to 100 and sums have about ten terms; errors are relative to the largest component.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxmd_iz import pair_split, surfaces, verify
from jaxmd_iz.neighbours import neighbour_list
from jaxmd_iz.potentials.base import FromFunction
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.system import System

ROUNDING = 1e-12
N = verify.PARTICLES
MASSES = np.linspace(1.0, 6.0, N)
TRICLINIC = Periodic([[4.6, 0.0, 0.0], [0.9, 4.7, 0.0], [-0.5, 0.6, 4.8]])


def positions(dim, seed=2, n=N):
    """No two particles closer than 0.75: no term dwarfs the others."""
    rng, x = np.random.default_rng(seed), np.zeros((0, dim))
    while len(x) < n:
        trial = rng.uniform(0.0, 2.2, dim)
        if not len(x) or np.linalg.norm(x - trial, axis=1).min() > 0.75:
            x = np.concatenate([x, trial[None]])
    return x


def error(value, expected):
    return np.max(np.abs(value - expected)) / np.max(np.abs(expected))


def sums(n, links):
    """Σ_m f_nm, each bond counted at both ends."""
    total = np.zeros((n, links.f.shape[1]))
    np.add.at(total, np.asarray(links.i), np.asarray(links.f))
    np.add.at(total, np.asarray(links.j), -np.asarray(links.f))
    return total


# --- closures -----------------------------------------------------------------------------------------------------

CLOSURES = [
    ("lennard_jones", "none", "distance", Free(3)),
    ("stillinger_weber", "none", "distance", TRICLINIC),
    ("stillinger_weber_thirds", "none", "min_norm", Free(2)),
    ("stillinger_weber_thirds", "none", "energy", Free(3)),
    ("two_state_fluid", "paper", "distance", Free(2)),
    ("two_state_fluid", "none", "min_norm", Free(3)),
    ("two_state_fluid", "none", "energy", TRICLINIC),
    ("three_states_function", "none", "min_norm", Free(2)),
    ("three_states_function", "paper", "energy", Free(3)),
    ("two_states_anchored", "none", "energy", Free(2)),
]


@pytest.mark.parametrize(("name", "correction", "split", "space"), CLOSURES)
def test_pair_forces_of_a_particle_sum_to_the_gradient(name, correction, split, space):
    of = System(verify.POTENTIALS[name].make(), space, MASSES, None, None, correction, split)
    k = of.states - 1

    @jax.jit
    def f(x):
        surface, links = of.bonds(x, jnp.ones_like(x), k)
        gradient = -of.force(x, k)  # another route than that of `bonds`
        return surface, links, gradient

    surface, links, gradient = f(jnp.asarray(positions(space.dimensions)))
    external = np.asarray(surface.external)
    total = sums(N, links)
    assert error(total, gradient - external) <= ROUNDING
    anchored = name == "two_states_anchored"
    assert np.max(np.abs(external)) > 1e-2 if anchored else not external.any()
    if anchored:
        assert error(total, gradient) > 1e-2  # closes without gⁿ only where each λ̄ⁿ is translation invariant
    scale = np.max(np.abs(links.f))
    d = np.asarray(links.d)
    if split == "energy":  # R + S = 0
        np.testing.assert_allclose(links.f, -links.r, atol=1e-14 * scale)
    else:  # central: f ∥ d
        along = np.sum(d * links.f, axis=1, keepdims=True) / np.maximum(np.sum(d * d, axis=1, keepdims=True), 1e-300)
        assert np.max(np.abs(links.f - along * d)) <= 1e-13 * scale


def test_pair_forces_on_a_neighbour_list_are_those_on_all_pairs():
    of = System(verify.POTENTIALS["stillinger_weber"].make(), TRICLINIC, MASSES, split="distance")
    x, p = positions(3), np.random.default_rng(0).normal(size=(N, 3))
    listed = neighbour_list(TRICLINIC, x, of.potential.cutoff)
    assert listed.to.shape[1] < N
    both = [eqx.filter_jit(of.bonds)(jnp.asarray(x), jnp.asarray(p), 0, which) for which in (None, listed)]

    def totals(links):  # what S, R and J need of the bonds, whatever their order
        d = np.asarray(links.d)
        return [sums(N, links), d.T @ links.f, d.T @ links.r, d.T @ links.g]

    for one, other in zip(*(totals(links) for _, links in both), strict=True):
        assert error(one, other) <= ROUNDING


# --- ranks --------------------------------------------------------------------------------------------------------


@functools.cache
def _frame(n, space):
    i, j = np.triu_indices(n, 1)

    @jax.jit
    def f(x):
        return pair_split.incidence(n, jnp.asarray(i), jnp.asarray(j), space.displacement(x[i] - x[j]))

    return f


def rank(x, space=None):
    return np.linalg.matrix_rank(_frame(len(x), space or Free(x.shape[1]))(jnp.asarray(x)), tol=1e-9)


def plane(x):
    """The same particles in a plane askew to the axes."""
    return x @ np.array([[1.0, 0.0, 0.4], [0.0, 1.0, -0.7], [0.0, 0.0, 0.0]])


def line(x):
    return x[:, :1] * np.array([[1.0, -0.5, 0.3]])[:, : x.shape[1]]


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_rank_of_the_distances_is_that_of_a_rigid_frame(n):
    rng = np.random.default_rng(n)
    solid, flat = rng.uniform(0.0, 3.0, (n, 3)), rng.uniform(0.0, 3.0, (n, 2))
    assert rank(solid) == (3 * n - 6 if n > 2 else 1)
    assert rank(plane(solid)) == (2 * n - 3 if n > 2 else 1)
    assert rank(line(solid)) == n - 1
    assert rank(flat) == (2 * n - 3 if n > 2 else 1)
    assert rank(line(flat)) == n - 1


@pytest.mark.parametrize(("n", "dim"), [(6, 2), (8, 3), (4, 1)])
def test_rank_in_a_periodic_cell_lacks_the_translations_only(n, dim):
    space = Periodic(TRICLINIC.matrix[:dim, :dim] / 2.4)
    x = np.random.default_rng(n).uniform(0.0, 4.0, (n, dim))
    assert rank(x, space) == n * dim - dim


# --- the shortest split, in every geometry ------------------------------------------------------------------------


def _web(x):
    """λⁿ of all distances from n at once, smooth, so that it is defined wherever particles are."""
    d2 = jnp.sum((x[:, None, :] - x[None, :, :]) ** 2, axis=-1)
    return jnp.sqrt(1.0 + jnp.sum(jnp.exp(-d2 / 2), axis=1)) + 0.1 * jnp.log1p(jnp.sum(d2, axis=1))


SHORTEST = System(FromFunction(_web, invariant=True), Free(3), MASSES, split="min_norm")


@eqx.filter_jit
def shortest(x):
    """A, ∇λ̄ and the lengths v of the pair forces; and the gradient of a sum of fourth powers of f."""

    def forces(x):
        surface, links = SHORTEST.bonds(x, jnp.zeros_like(x), 0)
        return links.f, (surface.gradient, links)

    def power(x):
        f, rest = forces(x)
        return jnp.sum(f**4), rest

    (_, (gradient, links)), slope = jax.value_and_grad(power, has_aux=True)(x)
    return pair_split.incidence(N, links.i, links.j, links.d), gradient, links, slope


def geometries():
    solid = positions(3)
    flat, straight = plane(solid), line(solid)
    square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 0]])
    tetrahedron = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1], [0, 0, 0]])
    pair = solid.copy()
    pair[3] = pair[1]
    alone = np.zeros((N, 3))
    alone[4] = 1.3
    yield from {
        "generic": solid,
        "plane": flat,
        "line": straight,
        "line along an axis": straight * [[1.0, 0.0, 0.0]],
        "equidistant line": np.arange(N)[:, None] * np.array([[0.6, 0.0, 0.8]]),
        "square and its centre": square,
        "tetrahedron and its centre": tetrahedron,
        "coincident pair": pair,
        "coincident pair in a line": line(pair),
        "two points": alone,
        "one point": np.ones((N, 3)),
        "far apart": solid * 40.0,
    }.items()
    off = np.array([[0.3, -0.2, 0.5]]) * np.array([[1.0], [-1], [2], [0.5], [-0.7]])
    for size in (1e-4, 1e-7, 1e-10, 1e-13):
        yield f"{size} off a plane", flat + size * off
        yield f"{size} off a line", straight + size * off
    yield "1e-9 apart", pair + 1e-9 * off


@pytest.mark.parametrize(("name", "x"), list(geometries()))
def test_min_norm_closes_and_is_shortest_and_differentiable_in_every_geometry(name, x):
    a, gradient, links, slope = jax.tree.map(np.asarray, shortest(jnp.asarray(x)))
    assert np.all(np.isfinite(slope))
    if name == "one point":
        assert not links.f.any()
        return
    assert error(sums(N, links), gradient) <= ROUNDING
    v = np.sum(links.f * links.d, axis=1) / np.maximum(np.linalg.norm(links.d, axis=1), 1e-300)
    least = np.linalg.lstsq(a, gradient.ravel(), rcond=16 * np.finfo(float).eps * len(a))[0]
    assert np.linalg.norm(a @ least - gradient.ravel()) <= ROUNDING * np.linalg.norm(gradient)
    # directions whose singular value is s enter v with relative rounding 1e-16/s
    values = np.linalg.svd(a, compute_uv=False)
    smallest = values[values > 16 * np.finfo(float).eps * len(a) * values[0]][-1]
    assert np.linalg.norm(v - least) <= 1e-14 / min(smallest, 0.01) * np.linalg.norm(least)


# --- Lemma 3.1 ----------------------------------------------------------------------------------------------------

clouds = arrays(float, (6, 3), elements=st.floats(-2.0, 2.0, allow_subnormal=False))
flattened = st.sampled_from([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
seeds = st.integers(0, 2**32 - 1)
every_pair = jax.jit(lambda x: Free(3).edges(x, jnp.zeros(len(x), int)).d)


@settings(max_examples=60, deadline=None)
@given(clouds, flattened)
def test_distances_fix_a_configuration_up_to_an_isometry(x, keep):
    x = x * keep
    d2 = np.sum(np.asarray(every_pair(jnp.asarray(x))) ** 2, axis=-1)
    middle = np.eye(6) - 1 / 6
    values, vectors = np.linalg.eigh(-middle @ d2 @ middle / 2)  # classical multidimensional scaling
    found = vectors[:, -3:] * np.sqrt(np.maximum(values[-3:], 0.0))
    here = x - x.mean(axis=0)
    left, _, right = np.linalg.svd(found.T @ here)  # Procrustes, over rotations and reflections
    # coordinates are roots of eigenvalues that carry 1e-16: half the digits where the cloud is flat
    assert np.max(np.abs(found @ (left @ right) - here)) <= 1e-6


def isometry(seed):
    rng = np.random.default_rng(seed)
    turn, upper = np.linalg.qr(rng.normal(size=(3, 3)))
    return turn * np.sign(np.diag(upper)), rng.normal(size=3)


DISTANCE_FORMS = {name: verify.POTENTIALS[name].make() for name in ("stillinger_weber_thirds", "two_state_fluid")}


@functools.cache
def _levels(name):
    return jax.jit(
        lambda x: surfaces.levels(DISTANCE_FORMS[name], Free(3).edges(x, jnp.zeros(N, int)), jnp.asarray(MASSES))
    )


@pytest.mark.parametrize("name", DISTANCE_FORMS)
@settings(max_examples=30, deadline=None)
@given(seed=seeds, cloud=st.integers(0, 50))
def test_energies_on_distances_are_equal_for_isometric_configurations(name, seed, cloud):
    x, (turn, shift) = positions(3, cloud), isometry(seed)
    for q in (turn, turn @ np.diag([1.0, 1.0, -1.0])):  # proper and improper
        here, there = _levels(name)(jnp.asarray(x)), _levels(name)(jnp.asarray(x @ q.T + shift))
        # distances near 1 to 1e-16, energies that change by up to 1e2 a unit of length
        np.testing.assert_allclose(there, here, rtol=1e-12, atol=1e-12)
    assert abs(np.linalg.det(turn)) > 1 - 1e-12
    longer = _levels(name)(jnp.asarray(x * [1.0, 1.0, 1.01]))
    assert np.max(np.abs(longer - here)) > 1e-9  # no isometry, another energy
