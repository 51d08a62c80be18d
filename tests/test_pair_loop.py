"""The loop of a batch against the n × n form, its derivatives, and what it stores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import pair_loop
from jaxmd_iz.pair_loop import pair_sums, pair_totals, pair_turns
from jaxmd_iz.potentials.diabatic import Gaussian, TwoStateFluid
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.space import Free, Periodic

N = 7
SPECIES = jnp.asarray([0, 1, 0, 1, 1, 0, 0])
BASE = LennardJones(np.array([[1.0, 0.7], [0.7, 0.5]]), np.array([[0.9, 1.0], [1.0, 1.1]]), 1.9, "force_shift")
TWO = TwoStateFluid(BASE, Gaussian(0.9, 0.5, 1.1), Gaussian(0.5, 0.6, 1.3), 0.6, N)
SPACES = {
    "free": Free(3),
    "box": Periodic([4.0, 5.0, 4.5]),
    "triclinic": Periodic([[4.2, 0.0, 0.0], [0.7, 4.4, 0.0], [-0.5, 0.6, 4.1]]),
}


def batch(count, seed=0):
    """Positions on a loose lattice, some beyond the cell, and weights."""
    rng = np.random.default_rng(seed)
    lattice = np.stack(np.meshgrid(*[1.35 * np.arange(2)] * 3), -1).reshape(-1, 3)[:N]
    x = lattice + 0.2 * rng.normal(size=(count, N, 3)) + 4.0 * rng.integers(-1, 2, (count, 1, 3))
    return jnp.asarray(x), jnp.asarray(rng.uniform(0.5, 2.0, (count, N)))


@pytest.mark.parametrize(
    ("space", "potential", "count", "n"),
    [("box", BASE, 3, 6), ("box", BASE, 64, 6), ("triclinic", TWO, 70, 7), ("free", TWO, 5, 6)],
)
def test_loop_is_the_square_form_whatever_the_batch(space, potential, count, n):
    """Same sums, in another order: n rounding errors of the largest bond. 70 systems take three rounds of 24,
    which are no full rows; 64 take two of 32, which are.

    For even n the pairs n/2 apart in the row are seen from both ends.
    """
    x, b = (a[:, :n] for a in batch(count))

    def loop(a, c):
        return pair_sums(potential, SPACES[space], a, SPECIES[:n], c)

    found = jax.jit(jax.vmap(loop))(x, b)
    assert (count * 8 > pair_loop.ROW) == (count > 5)
    square = jax.jit(lambda x, b: jax.lax.map(lambda item: loop(*item), (x, b)))(x, b)  # a loop of single systems
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(square), strict=True):
        assert one.shape == other.shape
        scale = np.max(np.abs(other), axis=tuple(range(1, other.ndim)), keepdims=True)
        np.testing.assert_allclose(one / scale, other / scale, rtol=0, atol=1e-13)


def test_sums_are_derivatives_of_their_energy():
    """Σ_n b_n V_cⁿ has the gradient Σ_m (b_n + b_m) φ′ d, by differentiating the n × n form; also under `vmap`."""
    (x, b), space = batch(4), SPACES["box"]

    def energy(at, c):
        return jnp.sum(pair_sums(TWO, space, at, SPECIES, c).value @ c)

    def both(at, c):
        found = pair_sums(TWO, space, at, SPECIES, c)
        return jax.grad(energy)(at, c), jnp.sum(c[None, :, None] * found.slope + found.weighted, axis=0)

    by_grad, by_sums = jax.jit(jax.vmap(both))(x, b)
    scale = np.max(np.abs(by_sums))
    np.testing.assert_allclose(by_grad / scale, by_sums / scale, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("space", "n"), [("box", 6), ("triclinic", 7)])
def test_turns_are_the_gradient_of_fields_along_the_forces(space, n):
    """∇ Σ_m Σ_c Bᵐ_c·∇_mV_c by differentiating the sums, and by both forms; its own derivative by differences."""
    x, where, species = batch(3)[0][:, :n], SPACES[space], SPECIES[:n]
    b = jnp.asarray(np.random.default_rng(2).normal(size=(3, n, 2, 3)))

    def along(at, b):
        slope = 2.0 * pair_sums(TWO, where, at, species, None).slope[1:]
        return jnp.einsum("ncD,cnD->", b, slope)

    def turns(at, b):
        return pair_turns(TWO, where, at, species, b)

    expected = jax.jit(jax.vmap(jax.grad(along)))(x, b)
    scale = np.max(np.abs(expected))
    for found in (jax.jit(jax.vmap(turns))(x, b), jnp.stack([turns(*item) for item in zip(x, b, strict=True)])):
        np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=1e-13)
    step, u = 1e-5, jnp.cos(x)
    slope = jax.jvp(lambda a: jax.vmap(turns)(a, b), (x,), (u,))[1]
    difference = (jax.vmap(turns)(x + step * u, b) - jax.vmap(turns)(x - step * u, b)) / (2 * step)
    # error step² φ⁗′ ~ 1e-10 × (1/0.1)³ of the values, rounding 1e-16/1e-5
    np.testing.assert_allclose(slope / scale, difference / scale, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", [6, 7])
def test_totals_and_weighted_slopes_are_those_of_the_sums(n):
    """Of a batch: Σ_n of the values, some of the slopes, and 2 Σ_c w_c Σ_m φ′_c d with and without turns."""
    x, where, species = batch(3)[0][:, :n], SPACES["triclinic"], SPECIES[:n]
    weights, b = (jnp.asarray(np.random.default_rng(5).normal(size=size)) for size in ((3, 3), (3, n, 2, 3)))

    def all_of(at, w, b):
        sums = pair_sums(TWO, where, at, species, None)
        values, last = pair_totals(TWO, where, at, species, 2)
        bare = pair_totals(TWO, where, at, species, 0)[0]
        pull = pair_turns(TWO, where, at, species, b[:, :0], w)
        turned = pair_turns(TWO, where, at, species, b, w) - pair_turns(TWO, where, at, species, b)
        expected = jnp.sum(sums.value, axis=1), sums.slope[1:], 2.0 * jnp.einsum("c,cnD->nD", w, sums.slope)
        found = [(jnp.stack(values), last, pull), (jnp.stack(bare), last, turned)]
        return expected, found

    expected, found = jax.jit(jax.vmap(all_of))(x, weights, b)
    for some in found:
        for one, other in zip(some, expected, strict=True):
            # turns are up to 1e3 times the slopes that are left of their difference
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * np.max(np.abs(other)))


@pytest.mark.parametrize("axes", [(0, None), (0, 0), (None, 0)])
def test_a_batch_of_potentials_is_that_of_each(axes):
    """Also where the potential itself is mapped over, which takes the n × n form."""
    (x, _), strength = batch(3), jnp.asarray([0.5, 1.0, 2.0])

    def slope(h, at):
        fluid = TwoStateFluid(BASE, Gaussian(h, 0.5, 1.1), Gaussian(0.5, 0.6, 1.3), 0.6, N)
        return pair_sums(fluid, SPACES["box"], at, SPECIES, None).slope

    h, at = (a if axis == 0 else a[0] for a, axis in zip((strength, x), axes, strict=True))
    found = jax.jit(jax.vmap(slope, axes))(h, at)
    for k in range(3):
        each = slope(*(a[k] if axis == 0 else a[0] for a, axis in zip((strength, x), axes, strict=True)))
        np.testing.assert_allclose(found[k], each, rtol=0, atol=1e-13 * float(jnp.max(jnp.abs(each))))


def test_nothing_of_n_by_n_is_stored():
    """The program of a batch of 64 systems of 100 particles holds no array with n² entries a system."""
    space, many = Periodic([9.0] * 3), jnp.zeros((64, 100, 3))
    one = LennardJones(1.0, 1.0, 2.5, "force_shift")
    run = jax.jit(jax.vmap(lambda a: pair_sums(one, space, a, jnp.zeros(100, int), None)))
    text = run.lower(many).compile().as_text()
    largest = 0
    for dims in (part.split("]")[0] for part in text.split("f64[")[1:]):
        sizes = [int(d) for d in dims.split(",") if d.strip().isdigit()]
        largest = max(largest, int(np.prod(sizes)) if sizes else 1)
    assert 64 * 100 * 3 <= largest < 64 * 100 * 100, largest


def test_a_batch_of_forces_has_derivatives():
    """Of Σ |Σ φ′d|² over a batch, outside the batch and under jit, against central differences."""
    x, _ = batch(3)

    def total(at):
        slopes = jax.vmap(lambda a: pair_sums(TWO, SPACES["box"], a, SPECIES, None).slope)(at)
        return jnp.sum(slopes**2)

    way, step = jnp.ones_like(x).at[:, ::2].set(-0.5), 1e-5
    found = jnp.sum(jax.jit(jax.grad(total))(x) * way)
    difference = (total(x + step * way) - total(x - step * way)) / (2 * step)
    assert float(found) == pytest.approx(float(difference), rel=1e-7)  # step² of a smooth function, and rounding / step


def test_the_product_with_the_slope_of_forces_is_the_plain_one():
    """J u and uᵀJ of one state's forces, of a batch: those of the loop step by step, each other's, and differences'.

    The second derivative too, which goes through the product; tables by species and a shifted force.
    """
    x, species, where = batch(3)[0][:, :6], SPECIES[:6], SPACES["triclinic"]
    u, v = (jnp.asarray(np.random.default_rng(seed).normal(size=x.shape)) for seed in (1, 2))

    def closed(at):
        return jax.vmap(lambda a: pair_totals(BASE, where, a, species, 1)[1][0])(at)

    def plain(at):
        return jax.vmap(lambda a: pair_sums(BASE, where, a, species, None).slope[0])(at)

    def all_of(function):
        def back(at):
            return jax.vjp(function, at)[1](u)[0]

        values = jax.jvp(function, (x,), (u,))[1], back(x), jnp.sum(jax.jvp(function, (x,), (v,))[1] * u)
        return *values, jax.jvp(back, (x,), (v,))[1]

    assert "self_adjoint" in str(jax.make_jaxpr(lambda at: jax.vjp(closed, at)[1](u))(x))
    found, expected = (jax.jit(lambda f=f: all_of(f))() for f in (closed, plain))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * np.max(np.abs(other)))
    np.testing.assert_allclose(jnp.sum(found[1] * v), found[2], rtol=1e-12)
    step = 1e-5
    difference = (closed(x + step * u) - closed(x - step * u)) / (2 * step)
    # error step² φ⁗ ~ 1e-10 × (1/0.1)² of the values, rounding 1e-16/1e-5
    np.testing.assert_allclose(found[0], difference, rtol=0, atol=1e-6 * np.max(np.abs(difference)))
