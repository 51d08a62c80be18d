"""Gradients through trajectories: stored, checkpointed, reversible, against each other and finite differences."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz.checks import InputError
from jaxmd_iz.integrators import Baoab, ForestRuth, VelocityVerlet, trajectory
from jaxmd_iz.potentials.diabatic import Gaussian, TwoStateFluid
from jaxmd_iz.potentials.pair import LennardJones, Morse
from jaxmd_iz.reversible import BLOCK, checkpointed
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.system import System

WAYS = ("store", "checkpoint", "reversible")
STEPS = 70  # more than two blocks of checkpoints and a rest
LJ = LennardJones(1.0, 1.05, 2.2, "force_shift")
FLUID = TwoStateFluid(
    Morse(1.0, 1.3, 1.1, 2.2, "force_shift"), Gaussian(0.9, 0.5, 1.1), Gaussian(0.5, 0.6, 1.3), 0.5, 5
)
MASSES = np.array([1.0, 2.0, 3.0, 1.5, 1.0])
X = np.array([[0.1, 0.0], [1.2, 0.15], [0.3, 1.1], [1.25, 1.3], [2.3, 0.4]])
P = np.array([[0.5, -1.0], [1.1, 0.4], [-0.6, 0.9], [0.3, -0.2], [0.1, 0.3]])
BOX = Periodic([[4.5, 0.0], [0.4, 4.6]])


def slope_along(function, start, line, h=1e-5):
    """The slope of function(start + s line) at s = 0 by differences of fourth order."""
    plain = jax.jit(lambda s: function(jax.tree.map(lambda a, b: a + s * b, start, line)))
    ends = [float(plain(jnp.asarray(np.float64(s * h)))) for s in (-2, -1, 1, 2)]
    return (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h)


def random_line(numbers, seed):
    """A direction in which every number moves by some of its size."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(rng.uniform(-1, 1, a.shape) * np.maximum(np.abs(a), 0.1)), numbers)


def product(a, b):
    """Σ a b over all leaves."""
    return sum(float(jnp.sum(x * y)) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def test_all_ways_give_the_gradient_of_finite_differences():
    """In parameters, masses, time step, positions and momenta at once, along a random line; and each other's."""

    def loss(numbers, way):
        parameters, masses, step, x, p = numbers
        system = System(eqx.combine(parameters, LJ), BOX, masses)
        x, p = trajectory(VelocityVerlet(step), lambda a: system.force(a, 0), masses, x, p, STEPS, gradient=way)
        return jnp.sum(jnp.sin(x + 0.3)) + jnp.sum(p**2 / masses[:, None] * jnp.arange(1.0, 6.0)[:, None])

    parameters = eqx.filter(LJ, eqx.is_inexact_array)
    numbers = (parameters, *map(jnp.asarray, (MASSES, np.float64(0.01), X, P)))
    found = {way: jax.jit(jax.value_and_grad(lambda n, w=way: loss(n, w)))(numbers) for way in WAYS}
    for way in WAYS[1:]:
        # 2⁻⁴⁸ a step, with the growth of errors
        np.testing.assert_allclose(found[way][0], found["store"][0], rtol=1e-11)
        for a, b in zip(*map(jax.tree.leaves, (found["store"][1], found[way][1])), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9)
    line = random_line(numbers, 4)
    # differences of fourth order: rounding 1e-15/h times the largest terms
    slope = slope_along(lambda n: loss(n, "store"), numbers, line)
    np.testing.assert_allclose(product(found["reversible"][1], line), slope, rtol=1e-7)


def test_forward_mode_passes_through_stored_and_checkpointed_steps():
    """jvp, of either, is the slope that reverse mode gives."""
    system = System(LJ, BOX, MASSES)
    way = jnp.asarray(np.cos(np.arange(10.0).reshape(5, 2)))

    def last(x, gradient):
        x, p = trajectory(
            VelocityVerlet(0.01), lambda a: system.force(a, 0), system.masses, x, jnp.asarray(P), STEPS, None, gradient
        )
        return jnp.concatenate([x, p])

    found = [jax.jit(lambda x, g=g: jax.jvp(lambda a: last(a, g), (x,), (way,))[1])(jnp.asarray(X)) for g in WAYS[:2]]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-10, atol=1e-10)
    weight = jnp.asarray(np.sin(np.arange(20.0).reshape(10, 2)))
    reverse = jax.jit(jax.grad(lambda x: jnp.sum(weight * last(x, "reversible"))))(jnp.asarray(X))
    np.testing.assert_allclose(jnp.sum(reverse * way), jnp.sum(found[0] * weight), rtol=1e-9)


def test_an_ensemble_on_two_surfaces_has_gradients_of_every_way():
    """vmap over samples and states inside the loss, parameters shared; and that of finite differences."""
    parameters, rest = eqx.partition(FLUID, eqx.is_inexact_array)
    rng = np.random.default_rng(5)
    x = jnp.asarray(X + 0.02 * rng.normal(size=(6, 5, 2)))
    p = jnp.asarray(P + 0.1 * rng.normal(size=(6, 5, 2)))
    states = jnp.asarray([0, 1, 0, 1, 0, 1])

    def mean(parameters, way):
        system = System(eqx.combine(parameters, rest), BOX, MASSES, correction="none")

        def one(x, p, k):
            scheme = VelocityVerlet(0.01)
            return trajectory(scheme, lambda a: system.force(a, k), system.masses, x, p, 40, gradient=way)

        last = jax.vmap(one)(x, p, states)
        return jnp.mean(jnp.sin(last[0]) + last[1] ** 2)

    found = [jax.jit(jax.grad(lambda q, w=w: mean(q, w)))(parameters) for w in WAYS]
    for other in found[1:]:
        for a, b in zip(*map(jax.tree.leaves, (found[0], other)), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-11)
    line = random_line(parameters, 6)
    slope = slope_along(lambda q: mean(q, "store"), parameters, line)
    np.testing.assert_allclose(product(found[-1], line), slope, rtol=1e-7)


def memory(way: str, steps: int) -> int:
    """Bytes of intermediate arrays of a gradient."""
    system = System(LJ, Free(2), MASSES)

    def last(x):
        force = lambda a: system.force(a, 0)  # noqa: E731
        x, p = trajectory(VelocityVerlet(0.01), force, system.masses, x, jnp.asarray(P), steps, gradient=way)
        return jnp.sum(x * p)

    return jax.jit(jax.grad(last)).lower(jnp.asarray(X)).compile().memory_analysis().temp_size_in_bytes


def test_memory_of_the_reversible_gradient_does_not_grow_with_steps():
    """Nor is it more for ten times the steps, where stored steps take ten times as much and checkpoints little more."""
    assert memory("reversible", 3000) == memory("reversible", 300)
    stored = memory("store", 3000)
    assert stored > 8 * memory("store", 300)
    assert memory("checkpoint", 3000) < stored / 10


@pytest.mark.parametrize("steps", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK**2, 2 * BLOCK**2 + 3 * BLOCK + 5])
def test_checkpointed_loops_take_every_step_once_in_order(steps):
    """The hash of the step numbers is that of a plain loop."""
    found = jax.jit(lambda a: checkpointed(lambda s, i: (31 * s + i + 1) % 1000003, a, 7, steps))(jnp.asarray(1))
    expected = 1
    for i in itertools.islice(itertools.count(7), steps):
        expected = (31 * expected + i + 1) % 1000003
    assert int(found) == expected


def test_zero_steps_leave_the_phase_point_and_its_gradient():
    """Also in whole numbers, whose rounding is 2⁻⁴⁸."""
    for way in WAYS:

        def run(x, way=way):
            masses, p = jnp.asarray(MASSES), jnp.asarray(P)
            return trajectory(VelocityVerlet(0.1), lambda a: -a, masses, x, p, 0, None, way)[0]

        np.testing.assert_allclose(run(jnp.asarray(X)), X, atol=1e-14)
        np.testing.assert_array_equal(jax.grad(lambda x, r=run: jnp.sum(3.0 * r(x)))(jnp.asarray(X)), 3.0)


def test_single_precision_stays_single_and_reversible():
    """Whole numbers of 32 bits; the gradient agrees with the stored one as single precision can."""
    system = System(
        jax.tree.map(lambda a: a.astype(jnp.float32) if eqx.is_inexact_array(a) else a, LJ),
        Free(2),
        MASSES.astype(np.float32),
    )

    def last(x, way):
        force = lambda a: system.force(a, 0)  # noqa: E731
        x, p = trajectory(VelocityVerlet(0.01), force, system.masses, x, jnp.asarray(P, x.dtype), 50, gradient=way)
        return jnp.sum(x * p)

    found = [jax.jit(jax.grad(lambda x, w=w: last(x, w)))(jnp.asarray(X, jnp.float32)) for w in ("store", "reversible")]
    assert found[1].dtype == jnp.float32
    np.testing.assert_allclose(found[1], found[0], rtol=2e-3, atol=2e-3)  # 50 steps of 6e-8 with forces of 1e2


def test_what_cannot_be_undone_is_refused():
    """Schemes with noise or other coefficients, names that are not known, particles that leave, forces that change."""
    masses, x, p = map(jnp.asarray, (MASSES, X, P))
    for scheme in (Baoab(0.1, 1.0, 1.0), ForestRuth(0.1)):
        with pytest.raises(InputError, match="Argument `gradient` must be `reversible` for `VelocityVerlet` alone"):
            trajectory(scheme, lambda a: -a, masses, x, p, 3, jax.random.key(0), gradient="reversible")
    with pytest.raises(InputError, match="Argument `gradient` must be one of"):
        trajectory(VelocityVerlet(0.1), lambda a: -a, masses, x, p, 3, gradient="reverse")
    with pytest.raises(Exception, match="Argument `x` must stay within what whole numbers can hold"):
        run = jax.jit(
            lambda p: trajectory(VelocityVerlet(1.0), lambda a: 0.0 * a, masses, x, p, 60_000, None, "reversible")
        )
        jax.block_until_ready(run(100.0 * p))
    count = itertools.count()

    @jax.custom_jvp
    def noise(a):
        return jax.pure_callback(lambda _: np.float64(1e-3 * next(count)), jax.ShapeDtypeStruct((), a.dtype), a)

    noise.defjvp(lambda primals, tangents: (noise(*primals), jnp.zeros(())))

    def restless(a):
        return -a + noise(a)

    with pytest.raises(Exception, match="Argument `force` must give the same bits"):
        run = jax.grad(
            lambda x: jnp.sum(trajectory(VelocityVerlet(0.1), restless, masses, x, p, 3, None, "reversible")[0])
        )
        jax.block_until_ready(run(x))
