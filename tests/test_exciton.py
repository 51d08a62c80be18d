"""The Frenkel exciton fluid: its matrix written out, symmetries, sum rule, surfaces and gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import surfaces
from jaxmd_iz.checks import InputError
from jaxmd_iz.neighbours import neighbour_list
from jaxmd_iz.potentials.base import matrix_gradient, matrix_partition
from jaxmd_iz.potentials.diabatic import Gaussian
from jaxmd_iz.potentials.exciton import Dipolar, ExcitonFluid
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.space import Free, Periodic

N, DIM, CUTOFF = 5, 2, 1.9
BOX = Periodic([4.1, 3.9])
SPECIES = jnp.zeros(N, int)
MASSES = jnp.array([1.0, 2.5, 4.0, 6.0, 3.0])
X = np.array([[0.1, 0.0], [1.15, 0.2], [0.3, 1.1], [1.9, 1.6], [3.4, 3.1]])
BASE = LennardJones(0.8, 0.9, 1.7, "force_shift")
FLUID = ExcitonFluid(BASE, Dipolar(-0.7, 0.9), 1.3, N, Gaussian(0.4, 0.7, 1.0), CUTOFF)


@eqx.filter_jit
def everything(potential, x, space, correction):
    """Levels and their partition with slopes by forward mode; surfaces and gradients of two states."""
    e = space.edges(x, SPECIES)

    def parts(x):
        return surfaces.partition(potential, space.edges(x, SPECIES), MASSES, correction)

    s = jax.vmap(lambda k: surfaces.surface(potential, e, MASSES, k, correction))(jnp.arange(2))
    fast = jax.vmap(lambda k: surfaces.gradient(potential, e, MASSES, k, correction))(jnp.arange(2))
    return {
        "levels": surfaces.levels(potential, e, MASSES, correction),
        "rows": jax.jacfwd(parts)(x)[:2],
        "energy": s.energy,
        "gradient": s.gradient,
        "external": s.external,
        "fast": fast,
    }


@eqx.filter_jit
def _matrices(potential, x, space):
    return matrix_partition(potential, space.edges(x, SPECIES))


@jax.jit
def exact(x):
    return matrix_gradient(FLUID, BOX.edges(x, SPECIES))


def got(x, correction):
    return {k: np.asarray(v) for k, v in everything(FLUID, jnp.asarray(x), BOX, correction).items()}


def matrices(x=X, space=BOX):
    return np.asarray(_matrices(FLUID, jnp.asarray(x), space))


def window(r):
    t = np.clip((r**2 / CUTOFF**2 - 0.64) / 0.36, 0, 1)
    return (1 - t) ** 3 * (1 + 3 * t + 6 * t**2)


def expected(x, space):
    """V written out, one entry after another."""
    v = np.zeros((N, N))
    for n in range(N):
        v[n, n] += 1.3
        for m in range(n):
            d = np.asarray(space.displacement(jnp.asarray(x[n] - x[m])))
            r = np.sqrt(d @ d)
            phi = BASE.pair(jnp.asarray([r * r]), jnp.zeros(1, int), jnp.zeros(1, int))[0]
            v += float(phi) * np.eye(N)
            v[n, m] = v[m, n] = -0.7 * (1 + r**2 / 0.81) ** -1.5 * window(r)
            site = 0.4 * np.exp(-((r - 1.0) ** 2) / (2 * 0.49)) * window(r)
            v[n, n] += site
            v[m, m] += site
    return v


@pytest.mark.parametrize("space", [BOX, Free(DIM)], ids=["periodic", "free"])
def test_sum_of_the_partition_is_the_matrix_written_out(space):
    vn = matrices(space=space)
    assert vn.shape == (N, N, N)
    np.testing.assert_allclose(vn.sum(axis=0), expected(X, space), atol=1e-14)  # entries of order 1
    np.testing.assert_array_equal(vn, vn.swapaxes(1, 2))
    off = np.abs(vn.sum(axis=0) - np.diag(np.diag(vn.sum(axis=0))))
    assert 0 < off[off > 0].min() < 0.1 < off.max()  # near and far pairs
    for n in range(N):  # diagonal, row and column n
        rest = np.delete(np.delete(vn[n], n, 0), n, 1)
        np.testing.assert_array_equal(rest, np.diag(np.diag(rest)))


@pytest.mark.parametrize("correction", ["none", "paper"])
def test_gradients_of_surfaces_are_finite_differences_of_levels(correction):
    here = got(X, correction)
    assert np.diff(here["levels"]).min() > 0.05
    h, steps = 2e-4, np.eye(X.size).reshape(-1, N, DIM)

    def at(shift):
        return got(X + h * shift, correction)["levels"][:2]

    slopes = [(8 * (at(s) - at(-s)) - at(2 * s) + at(-2 * s)) / (12 * h) for s in steps]
    slopes = np.moveaxis(slopes, 0, -1).reshape(2, N, DIM)
    # h⁴/30 times fifth derivatives with lengths near 0.1, where φ is steep and gaps are small: 1e-15 · 10⁵ · 10³
    tight = 1e-7 * np.abs(slopes).max()
    np.testing.assert_allclose(here["gradient"], slopes, atol=tight)
    np.testing.assert_allclose(here["fast"], slopes, atol=tight)
    np.testing.assert_allclose(here["energy"].sum(axis=1), here["levels"][:2], atol=1e-13)
    np.testing.assert_allclose(here["external"], 0.0, atol=1e-12)  # translations move nothing
    np.testing.assert_allclose(here["rows"].sum(axis=2), 0.0, atol=1e-12)
    np.testing.assert_allclose(here["rows"].sum(axis=1), here["gradient"], atol=1e-12)


def test_matrix_gradient_is_the_finite_difference():
    h, steps = 1e-3, np.eye(X.size).reshape(-1, N, DIM)

    def at(shift):
        return matrices(X + h * shift).sum(axis=0)

    slopes = [(8 * (at(s) - at(-s)) - at(2 * s) + at(-2 * s)) / (12 * h) for s in steps]
    slopes = np.reshape(slopes, (N, DIM, N, N))
    np.testing.assert_allclose(exact(jnp.asarray(X)), slopes, atol=1e-8 * np.abs(slopes).max())  # as above


def test_partition_is_equivariant_under_permutations():
    order = np.array([3, 0, 4, 2, 1])
    vn, moved = matrices(), matrices(X[order])
    np.testing.assert_allclose(moved, vn[np.ix_(order, order, order)], atol=1e-14)


def test_partition_is_invariant_under_translations_and_rotations():
    vn = matrices()
    np.testing.assert_allclose(matrices(X + np.array([0.7, -2.3])), vn, atol=1e-13)
    np.testing.assert_allclose(matrices(X + np.array([4.1, -7.8]) * [[1], [0], [2], [0], [0]]), vn, atol=1e-12)
    c, s = np.cos(0.8), np.sin(0.8)
    free = matrices(space=Free(DIM))
    np.testing.assert_allclose(matrices(X @ [[c, s], [-s, c]], Free(DIM)), free, atol=1e-13)


def test_neighbour_list_gives_the_dense_partition():
    x = jnp.asarray(X)
    sparse = neighbour_list(BOX, x, CUTOFF, 0.0).edges(BOX, x, SPECIES)
    assert not sparse.dense
    assert not bool(sparse.mask.all())
    np.testing.assert_allclose(matrix_partition(FLUID, sparse), matrices(), atol=1e-14)


def test_derivatives_with_respect_to_parameters_are_finite_differences():
    e = BOX.edges(jnp.asarray(X), SPECIES)
    along = jax.tree.map(lambda leaf: 1e-3 * leaf, FLUID)  # all parameters at once

    @jax.jit
    def lowest(t):
        moved = jax.tree.map(lambda leaf, step: leaf + t * step, FLUID, along)
        return jnp.linalg.eigvalsh(jnp.sum(matrix_partition(moved, e), axis=0))[0]

    expected = (8 * (lowest(1.0) - lowest(-1.0)) - lowest(2.0) + lowest(-2.0)) / 12
    np.testing.assert_allclose(jax.grad(lowest)(0.0), expected, rtol=1e-6)  # steps of 1e-3, powers of 12


def test_compiled_gradient_with_many_states_is_that_of_hellmann_and_feynman():
    # a compiler may get the derivative of V wrong where that of the eigenproblem meets it: 32 states, a realistic cell
    n, space = 32, Periodic([3.76] * 3)
    fluid = ExcitonFluid(BASE, Gaussian(-0.4, 0.3, 1.1), 5.0, n, Gaussian(-0.1, 0.3, 1.1))
    sites = np.stack(np.meshgrid(*[np.arange(4) * 0.94] * 3), -1).reshape(-1, 3)[: 2 * n : 2]
    rng = np.random.default_rng(5)
    x, species = jnp.asarray(sites + 0.1 * rng.normal(size=sites.shape)), jnp.zeros(n, int)
    slope = jax.jit(lambda x: surfaces.gradient(fluid, space.edges(x, species), jnp.ones(n), 3, "none"))(x)
    e = space.edges(x, species)
    psi = np.linalg.eigh(np.asarray(jnp.sum(matrix_partition(fluid, e), axis=0)))[1][:, 3]
    expected = np.einsum("a,nDab,b->nD", psi, matrix_gradient(fluid, e), psi)
    np.testing.assert_allclose(slope, expected, atol=1e-11 * np.abs(expected).max())


def test_all_is_finite_at_contact_and_smooth_at_the_cutoff():
    x = X.copy()
    x[2] = x[1]
    assert np.isfinite(matrices(x)).all()
    assert np.isfinite(exact(jnp.asarray(x))).all()

    def hop(r):
        e = Free(1).edges(jnp.stack([jnp.zeros(1), r[None]]), SPECIES[:2])
        pair = ExcitonFluid(BASE, Dipolar(-0.7, 0.9), 0.0, 2, cutoff=CUTOFF)
        return jnp.sum(matrix_partition(pair, e), axis=0)[0, 1]

    slope, curvature = jax.jit(jax.grad(hop)), jax.jit(jax.grad(jax.grad(hop)))
    assert float(hop(jnp.asarray(1e-9))) == pytest.approx(-0.7, rel=1e-15)
    for edge in (0.8 * CUTOFF, CUTOFF):
        for f, step in ((slope, 1e-12), (curvature, 1e-8)):  # third derivatives are of order 100
            below, above = (float(f(jnp.asarray(edge + s * step))) for s in (-1, 1))
            assert abs(below - above) < 1e-5
    assert float(hop(jnp.asarray(np.nextafter(CUTOFF, 2.0)))) == 0.0
    assert abs(float(slope(jnp.asarray(1.7)))) > 0.1


def test_dipoles_couple_like_the_inverse_cube_far_away():
    r = jnp.array([300.0])
    np.testing.assert_allclose(Dipolar(-0.7, 0.9)(r), -0.7 * (0.9 / 300) ** 3, rtol=2e-5)  # 3 r₀²/2r²


def test_dtype_is_kept_and_wrong_input_is_refused():
    single = matrix_partition(FLUID, BOX.edges(jnp.asarray(X, jnp.float32), SPECIES))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, matrices(), atol=1e-5 * np.abs(single).max())
    with pytest.raises(InputError, match="`x` must hold 5 particles, but it holds 4"):
        FLUID.partition(BOX.edges(jnp.asarray(X[:4]), SPECIES[:4]))
    with pytest.raises(InputError, match="`particles` must be at least 2"):
        ExcitonFluid(BASE, Dipolar(1.0, 1.0), 0.0, 1)
    with pytest.raises(InputError, match="`cutoff` must be positive"):
        ExcitonFluid(BASE, Dipolar(1.0, 1.0), 0.0, 2, cutoff=0.0)
    with pytest.raises(InputError, match="`site_energy` must be finite"):
        ExcitonFluid(BASE, Dipolar(1.0, 1.0), float("nan"), 2)
    with pytest.raises(InputError, match="`length` must be positive"):
        Dipolar(1.0, 0.0)
