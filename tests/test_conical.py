"""LEPS surfaces of three atoms: London's formula, symmetry, limits, barrier, intersection, gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import surfaces
from jaxmd_iz.checks import InputError
from jaxmd_iz.potentials.base import matrix_partition
from jaxmd_iz.potentials.conical import ANGSTROM, ELECTRONVOLT, LepsH3
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.system import System

H3 = LepsH3()
SPACE = Free(3)
SPECIES = jnp.zeros(3, int)
MASSES = jnp.array([1837.0, 1837.0, 3670.0])
X = np.array([[0.0, 0.1, 0.0], [1.5, 0.0, 0.2], [0.4, 1.9, -0.3]])
EQUILATERAL = 1.7 * np.eye(3)  # three equal distances, bit for bit
ROUNDING = 1e-13  # energies are of order 0.1 hartree, sums of six terms


@jax.jit
def look(x, masses):
    def partition(x, correction):
        return surfaces.partition(H3, Free(x.shape[1]).edges(x, SPECIES), masses, correction)

    e = Free(x.shape[1]).edges(x, SPECIES)
    slope = {c: jax.jacfwd(partition)(x, c) for c in ("none", "paper")}
    gradient = {c: jax.vmap(lambda k, c=c: surfaces.gradient(H3, e, masses, k, c))(jnp.arange(2)) for c in slope}
    return {
        "matrix": jnp.sum(matrix_partition(H3, e), axis=0),
        "levels": surfaces.levels(H3, e, masses, "none"),
        "partition": {c: partition(x, c) for c in slope},
        "slope": slope,
        "gradient": gradient,
    }


def at(x, masses=MASSES):
    return jax.tree.map(np.asarray, look(jnp.asarray(x, float), jnp.asarray(masses)))


def line(first, second):
    """Collinear A, B, C with distances AB and BC."""
    return np.array([[0.0], [first], [first + second]])


def test_levels_are_those_of_london():
    distances = np.linalg.norm(X - np.roll(X, -1, axis=0), axis=1)  # AB, BC, CA
    depth, steepness, length, sato = 4.746 / 27.211386, 1.942 * 0.529177210544, 0.742 / 0.529177210544, 0.136
    z = np.exp(-steepness * (distances - length))
    singlet = depth * (z**2 - 2 * z)
    triplet = depth / 2 * (1 - sato) / (1 + sato) * (z**2 + 2 * z)
    q, j = (singlet + triplet) / 2, (singlet - triplet) / 2
    r = np.sqrt(np.sum((j - np.roll(j, 1)) ** 2) / 2)
    # the last of the eight digits of 27.211386
    np.testing.assert_allclose(at(X)["levels"], [q.sum() - r, q.sum() + r], rtol=1e-7)
    assert r > 0.01


def test_separated_molecule_has_the_depth_and_every_pair_is_the_same():
    for x in (line(0.742 * ANGSTROM, 60.0), line(60.0, 0.742 * ANGSTROM), [[0.0], [60.0], [0.742 * ANGSTROM]]):
        got = at(x)
        assert abs(got["levels"][0] + 4.746 * ELECTRONVOLT) <= ROUNDING
        assert np.max(np.abs(got["gradient"]["none"][0])) <= ROUNDING  # r₀ is the minimum of ¹E
        # the other state is ³E(r₀) = 3D/2 (1 − S)/(1 + S)
        np.testing.assert_allclose(got["levels"][1], 1.5 * 4.746 * ELECTRONVOLT * 0.864 / 1.136, rtol=1e-12)


def test_collinear_barrier_is_that_of_sato():
    @jax.jit
    def lower(s):
        x = jnp.array([[0.0], [1.0], [2.0]]) * s
        return surfaces.levels(H3, Free(1).edges(x, SPECIES), MASSES, "none")[0]

    slope, s = jax.jit(jax.grad(lower)), 1.76
    for _ in range(20):  # secant steps towards the minimum of the symmetric stretch
        s -= 1e-3 * slope(s) / (slope(s + 5e-4) - slope(s - 5e-4))
    barrier = float(lower(s)) / ELECTRONVOLT + 4.746
    # the formula of London in eV and Å, minimised by SciPy; for S = 0.136 ± 0.0005 it lies in 0.4136 … 0.4179
    np.testing.assert_allclose(barrier, 0.415722909, atol=1e-9)
    x = line(float(s), float(s))
    assert np.max(np.abs(at(x)["gradient"]["none"][0])) < 1e-12  # a stationary point of all coordinates
    # a saddle: down along the antisymmetric stretch
    moved = x + np.array([[0.05], [0.0], [0.05]])
    assert at(moved)["levels"][0] < at(x)["levels"][0] < at(1.05 * x)["levels"][0]


def test_equilateral_triangles_are_exact_crossings_and_no_others():
    for scale in (0.5, 1.0, 3.0):
        got = at(scale * EQUILATERAL)
        v = got["matrix"]
        assert got["levels"][0] == got["levels"][1] == v[0, 0] == v[1, 1]
        assert v[0, 1] == v[1, 0] == 0
        assert all(np.isfinite(a).all() for a in jax.tree.leaves(got))
    step = np.array([[1e-6, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    gaps = [np.diff(at(EQUILATERAL + s * step)["levels"])[0] for s in (1.0, 2.0)]
    assert gaps[0] > 1e-8
    np.testing.assert_allclose(gaps[1] / gaps[0], 2.0, rtol=1e-5)  # a cone: linear in the distance, h next to it


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_energies_move_with_the_atoms(order):
    order = list(order)
    got, moved = at(X), at(X[order], masses=MASSES[np.array(order)])
    for c in ("none", "paper"):
        assert np.max(np.abs(moved["partition"][c] - got["partition"][c][:, order])) <= ROUNDING
        assert np.max(np.abs(moved["gradient"][c] - got["gradient"][c][:, order])) <= ROUNDING
    assert np.ptp(got["partition"]["none"][0]) > 1e-3  # the atoms differ
    assert np.max(np.abs(moved["matrix"] - got["matrix"])) > 1e-3  # the electron basis turns


def test_energies_do_not_see_rigid_motions_and_reflections():
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    for q in (turn, -turn):
        got, moved = at(X), at(X @ q.T + [3.0, -1.0, 2.0])
        for c in ("none", "paper"):
            assert np.max(np.abs(moved["partition"][c] - got["partition"][c])) <= ROUNDING
            assert np.max(np.abs(moved["gradient"][c] - got["gradient"][c] @ q.T)) <= 10 * ROUNDING
    flat = X - X[0]
    plane = np.linalg.qr(flat[1:].T)[0]
    assert np.max(np.abs(at(flat @ plane)["partition"]["none"] - at(X)["partition"]["none"])) <= ROUNDING  # D = 2


@pytest.mark.parametrize("correction", ["none", "paper"])
def test_gradients_are_those_of_the_levels(correction):
    got, way, h = at(X), np.random.default_rng(1).normal(size=X.shape), 1e-4
    assert np.max(np.abs(got["gradient"][correction] - got["slope"][correction].sum(axis=1))) <= ROUNDING
    values = [at(X + s * h * way)["partition"][correction] for s in (-2, -1, 1, 2)]
    slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
    # h⁴ and 1e-16/h, slopes are of order 0.1
    np.testing.assert_allclose(np.einsum("knmD,mD->kn", got["slope"][correction], way), slope, atol=1e-11)


def test_slopes_of_the_parameters_are_finite_differences():
    numbers, h = jax.tree.leaves(H3), 1e-4

    @jax.jit
    def lower(values):
        moved = eqx.tree_at(jax.tree.leaves, H3, list(values))
        return surfaces.levels(moved, SPACE.edges(jnp.asarray(X), SPECIES), MASSES / 100, "paper")[0]

    slopes = jax.grad(lower)(tuple(numbers))
    for i, slope in enumerate(slopes):
        values = [float(lower(tuple(p + (s * h if j == i else 0.0) for j, p in enumerate(numbers)))) for s in (-1, 1)]
        # h² times third derivatives of order 1
        np.testing.assert_allclose(float(slope), (values[1] - values[0]) / (2 * h), atol=1e-7)
        assert abs(float(slope)) > 1e-3


def test_single_precision_stays_single():
    x = jnp.asarray(X, jnp.float32)
    vn = H3.partition(SPACE.edges(x, SPECIES))
    assert vn.dtype == jnp.float32
    np.testing.assert_allclose(vn.sum(axis=0), at(X)["matrix"], atol=3e-7)


def test_refusals_are_one_sentence():
    with pytest.raises(InputError, match=r"`x` must hold three particles for `LepsH3`, but it holds 4\.$"):
        H3.partition(SPACE.edges(jnp.zeros((4, 3)), jnp.zeros(4, int)))
    with pytest.raises(InputError, match=r"`sato` must lie between −1 and 1, but it is 1\.$"):
        LepsH3(sato=1.0)
    with pytest.raises(InputError, match=r"`depth` must be positive and finite, but it is -1\.$"):
        LepsH3(depth=-1.0)
    with pytest.raises(InputError, match=r"`space` must be free for `LepsH3`, whose range is infinite, but it is per"):
        System(H3, Periodic([9.0, 9.0, 9.0]), MASSES).levels(jnp.asarray(X))
