"""Derivatives of fields with respect to positions, momenta and parameters, against finite differences; and finite.

Each case follows one line through all of them at once: `jvp` gives the value and the slope there, and the slope is
that of the values by differences of fourth order, whose error is about (h/0.1)⁴ + 1e-16/h = 1e-11 of the largest.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz.fields import fields
from jaxmd_iz.integrators import VelocityVerlet, trajectory
from jaxmd_iz.mollifiers import Bump, Cubic, Polynomial, Trapezoid
from jaxmd_iz.potentials.diabatic import Gaussian, TwoStateFluid
from jaxmd_iz.potentials.many_body import HarmonicBonds, StillingerWeber
from jaxmd_iz.potentials.pair import LennardJones, Morse
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.system import System
from jaxmd_iz.windows import Fourier, Separable, slab

MASSES = np.array([1.0, 2.0, 3.0, 1.5])
X = np.array([[0.1, 0.0], [1.2, 0.15], [0.3, 1.1], [1.25, 1.3]])
P = np.array([[0.5, -1.0], [1.1, 0.4], [-0.6, 0.9], [0.3, -0.2]])
Y = np.array([[0.62, 0.51], [0.93, 1.04]])  # nothing is within 1e-2 of the edge of a kernel, where η″ jumps
LJ = LennardJones(1.0, 1.05, 2.2, "force_shift")
SW = StillingerWeber(1.0, 1.1, 1.8, 21.0, 1.2, -1 / 3, 7.05, 0.602, 4.0, 0.1)
FLUID = TwoStateFluid(
    Morse(1.0, 1.3, 1.1, 2.2, "force_shift"), Gaussian(0.9, 0.5, 1.1), Gaussian(0.5, 0.6, 1.3), 0.5, 4
)
BONDS = HarmonicBonds([[0, 1], [1, 2], [2, 3]], np.array([3.0, 4.0, 5.0]), 1.1)
BOX = Periodic([[4.5, 0.0], [0.4, 4.6]])
SEVERAL = (Polynomial(1.3, 2), slab(Cubic(0.8, 1), BOX, 1), Fourier(BOX.cell, 0.5, 1), Separable(1.0, 2))
CASES = {
    "lennard-jones": (LJ, "distance", BOX, SEVERAL),
    "morse": (FLUID.base, "min_norm", Free(2), (Trapezoid(1.4, 2),)),
    "stillinger-weber": (SW, "distance", Free(2), (Cubic(1.4, 2),)),
    "two-state fluid": (FLUID, "energy", BOX, (Bump(1.4, 2, nodes=6),)),
    "harmonic bonds": (BONDS, "energy", Free(2), (Polynomial(1.3, 2),)),
}


def look(system, y, x, p, mollifiers, k=0):
    """σ (four components a point) and q (two) through every mollifier, (mollifiers, 6 Y)."""
    several, _ = system.observe([(y, m) for m in mollifiers], x, p, k)
    seen = [fields(m, jnp.sum(p, axis=0) / jnp.sum(system.masses)) for m in several]
    return jnp.stack([jnp.concatenate([f.sigma.ravel(), f.q.ravel()]) for f in seen])


H = 2e-4


def difference(values, h):
    """The slope from the values at −2h, −h, h, 2h."""
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)


def along(function):
    """function(s) and its slope at 0, and the values at −2h, −h, h, 2h, from one compilation."""
    both = jax.jit(lambda s: jax.jvp(function, (s,), (jnp.ones(()),)))
    value, slope = both(jnp.asarray(np.float64(0.0)))
    values = [np.asarray(both(jnp.asarray(np.float64(s * H)))[0]) for s in (-2, -1, 1, 2)]
    return np.asarray(value), np.asarray(slope), difference(values, H)


@pytest.mark.parametrize("name", CASES)
def test_fields_have_the_slopes_of_finite_differences(name):
    """Along a line through every parameter, position and momentum, on the upper surface where there is one."""
    potential, split, space, mollifiers = CASES[name]
    numbers, rest = eqx.partition(potential, eqx.is_inexact_array)
    rng = np.random.default_rng(1)
    start = numbers, jnp.asarray(X), jnp.asarray(P)
    way = jax.tree.map(lambda a: jnp.asarray(rng.uniform(-1, 1, a.shape) * np.maximum(np.abs(a), 0.1)), start)

    def at(s):
        numbers, x, p = jax.tree.map(lambda a, b: a + s * b, start, way)
        system = System(eqx.combine(numbers, rest), space, MASSES, split=split)
        return look(system, jnp.asarray(Y), x, p, mollifiers, potential.states - 1)

    _, slope, expected = along(at)
    for mollifier, found, by_difference in zip(mollifiers, slope, expected, strict=True):
        for part in (slice(0, 8), slice(8, None)):  # σ, q
            size = np.max(np.abs(found[part]))
            error = np.max(np.abs(found[part] - by_difference[part])) / size
            assert size > 1e-2 and error < 1e-9, (mollifier, part, size, error)


def test_stress_after_a_trajectory_has_the_slope_of_finite_differences():
    """∂σ_yy/∂(coupling amplitude) through 20 Verlet steps on the lower surface; 1e-6 for some 10² operations."""

    def stress(s):
        fluid = eqx.tree_at(lambda f: f.coupling.amplitude, FLUID, 0.9 + s)
        system = System(fluid, BOX, MASSES, correction="none")
        x, p = jnp.asarray(X), jnp.asarray(P)
        x, p = trajectory(VelocityVerlet(0.01), lambda a: system.force(a, 0), system.masses, x, p, 20)
        return look(system, jnp.asarray(Y[:1]), x, p, [Polynomial(1.4, 2)])[0, 3]

    _, slope, expected = along(stress)
    assert abs(slope) > 1e-3 and abs(slope / expected - 1) < 1e-6


def test_gradients_are_finite_where_a_quotient_or_a_root_is_not():
    """Two particles at one place, a pair exactly at r_c, a point on a particle, and one in vacuum; reverse mode."""
    x = jnp.asarray([[0.0, 0.0], [0.0, 0.0], [FLUID.cutoff, 0.0], [0.7, 0.8]])
    y = jnp.asarray([[0.0, 0.0], [0.4, 0.3], [50.0, 0.0]])
    numbers, rest = eqx.partition(FLUID, eqx.is_inexact_array)

    def total(numbers, x, p):
        system = System(eqx.combine(numbers, rest), Free(2), MASSES, correction="none")
        f = fields(system.moments(y, x, p, 1, Cubic(1.4, 2)), jnp.asarray([0.1, 0.2]))
        return sum(jnp.sum(a) for a in (f.sigma, f.q, f.u, f.T, f.E)), f

    slopes, f = jax.jit(jax.grad(total, (0, 1, 2), has_aux=True))(numbers, x, jnp.asarray(P))
    np.testing.assert_array_equal(f.valid, [True, True, False])
    for a in jax.tree.leaves((slopes, f)):
        assert np.all(np.isfinite(a))
    assert all(np.any(np.asarray(a) != 0) for a in jax.tree.leaves(slopes))
