"""Trajectories aimed at conical intersections: finite, with finite derivatives, and turned back by the barrier."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz.geometric_phase import CHARTS, eigenvectors_in_chart, mixing_angle
from jaxmd_iz.gibbs import Canonical
from jaxmd_iz.integrators import VelocityVerlet, trajectory
from jaxmd_iz.mollifiers import Polynomial
from jaxmd_iz.potentials.base import FromFunction
from jaxmd_iz.potentials.conical import LepsH3
from jaxmd_iz.potentials.vibronic import JahnTeller
from jaxmd_iz.simulation import Grid, simulate
from jaxmd_iz.space import Free
from jaxmd_iz.system import System

REAL = jnp.array([[[1.0, 0.0], [0.0, -1.0]], [[0.0, 1.0], [1.0, 0.0]]])  # ṽ and v₁₂
HEAVY, STEP, STEPS, START = 200.0, 2e-5, 2000, 0.02
IMPACTS = np.array([1e-3, 1e-8, 1e-15, 0.0])


@cache
def flights(correction):
    """A compiled function of the start and the slope of the cone: end, change of energy and slopes, (impacts, states).

    From (x, impact) with velocity (−1, 0), for the time in which a free particle goes from 0.02 to −0.02.
    """

    def end(impact, slope, x, state):
        def cone(x):
            return slope * (jnp.sum(x**2) * jnp.eye(2)[None] + jnp.einsum("nc,cij->nij", x, REAL))

        system = System(FromFunction(cone, states=2), Free(2), jnp.array([HEAVY]), correction=correction)
        first, before = jnp.stack([x, impact])[None], jnp.array([[-HEAVY, 0.0]])
        move = VelocityVerlet(STEP)
        last, p = trajectory(move, lambda x: system.force(x, state), system.masses, first, before, STEPS)
        level, after = (jnp.take(system.levels(at), state) for at in (first, last))
        change = jnp.sum(p**2 - before**2) / (2 * HEAVY) + after - level
        return last[0, 0] + 2 * last[0, 1], (last[0], change, level)

    @jax.jit
    def fly(x, slope):
        one = jax.value_and_grad(end, (0, 1, 2), has_aux=True)
        several = jax.vmap(jax.vmap(one, (None, None, None, 0)), (0, None, None, None))
        (_, found), slopes = several(jnp.asarray(IMPACTS), slope, x, jnp.arange(2))
        return *found, slopes

    return lambda x, slope: jax.tree.map(np.asarray, fly(jnp.asarray(x), jnp.asarray(slope)))


@pytest.mark.parametrize("correction", ["none", "paper", "dboc"])
def test_trajectories_aimed_at_the_crossing_are_finite_and_keep_their_energy(correction):
    last, change, _, slopes = flights(correction)(START, 0.7)
    assert all(np.isfinite(a).all() for a in (last, change, *slopes))
    if correction == "none":
        # across the tip the force jumps by 2k within one step of length v Δt; past it, at 50 steps, it is resolved
        assert np.max(np.abs(change)) <= 2 * 0.7 * STEP
        assert np.max(np.abs(change[0])) <= 1e-11
        assert np.max(last[:, :, 0]) < -0.99 * START
    else:
        # the barrier turns at 90 steps from r = 0 or more; the kinetic energy is 100
        assert np.max(np.abs(change)) <= 2e-7
        assert np.min(last[1:, :, 0]) > START  # head on: all the way back, on both surfaces
    # from the crossing itself: at impact 0 it is exact, next to it nothing is resolved, but finite
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(flights(correction)(0.0, 0.7)))


@pytest.mark.parametrize(("correction", "kappa"), [("paper", 0.25), ("dboc", 0.5)])
def test_barrier_scatters_as_an_inverse_square(correction, kappa):
    # on a cone so flat that κ/(4Mρ²) alone is felt, ρ²(t) = ρ₀² + 2 x·v t + 2 E t²/M
    last, _, level, _ = flights(correction)(START, 1e-9)
    first, time = START**2 + IMPACTS**2, STEP * STEPS
    np.testing.assert_allclose(level[:, 0], kappa / (4 * HEAVY * first), rtol=1e-10)  # beside a slope of 1e-9 × 0.02
    expected = first - 2 * START * time + (1 + 2 * level[:, 0] / HEAVY) * time**2
    # second order in the step over the turning point, 1/90
    np.testing.assert_allclose(np.sum(last**2, axis=-1), np.stack([expected] * 2, -1), rtol=1e-5)


def test_trajectories_of_three_atoms_through_an_equilateral_triangle_are_finite():
    masses = jnp.full(3, 1837.0)
    way, aside = np.zeros((2, 3, 3))
    way[0, :2], aside[1, 1:] = (1.0, -1.0), (1.0, -1.0)

    def end(impact, state):
        system = System(LepsH3(), Free(3), masses)
        x, p = 1.8 * jnp.eye(3) + 0.2 * jnp.asarray(way) + impact * jnp.asarray(aside), jnp.asarray(-8.0 * way)
        last, q = trajectory(VelocityVerlet(0.4), lambda x: system.force(x, state), masses, x, p, 240)
        before, after = (jnp.take(system.levels(at), state) for at in (x, last))
        return last, jnp.sum(q**2 - p**2) / (2 * 1837.0) + after - before

    several = jax.jit(jax.vmap(jax.vmap(end, (None, 0)), (0, None)))
    last, change = map(np.asarray, several(jnp.array([1e-3, 1e-8, 0.0]), jnp.arange(2)))
    assert np.isfinite(last).all()
    assert np.max(np.abs(change)) <= 1e-6  # of a kinetic energy of 0.035


@pytest.mark.parametrize("chart", CHARTS)
def test_angle_and_charts_are_finite_at_the_crossing(chart):
    def cone(x):
        return jnp.einsum("nc,cij->ij", x, REAL)

    def angle(x):
        return mixing_angle(cone(x), chart)

    def frame(x):
        return eigenvectors_in_chart(cone(x), chart)

    value, slope, turn = jax.jit(lambda x: (angle(x), jax.grad(angle)(x), jax.jacfwd(frame)(x)))(jnp.zeros((1, 2)))
    assert value == np.pi * chart
    assert not slope.any()
    assert not turn.any()


def test_a_run_at_a_crossing_says_so_and_populations_follow_the_states():
    # one sample at the intersection, one beside it, where V = diag(x, −x) + ½x²: the states are the diabatic ones
    system = System(JahnTeller(), Free(2), jnp.array([50.0]), correction="none")
    x = jnp.array([[[0.0, 0.0]], [[0.7, 0.0]]])
    grid = Grid(jnp.array([[0.2, 0.1]]), Polynomial(1.5, 2))
    density = Canonical(0.8)
    options = {"p": jnp.ones_like(x), "integrator": VelocityVerlet(1e-3), "steps": 3, "every": 2}
    run = simulate(system, density, grid, x, key=jax.random.key(0), **options)
    np.testing.assert_allclose(run.series["fields"].time, [0.0, 2e-3, 3e-3], rtol=1e-12)  # the last frame is kept
    np.testing.assert_array_equal(run.crossing, [0.5, 0.0, 0.0])
    w = 1 / (1 + np.exp(-1.4 / 0.8))  # of the lower surface at x = 0.7, where the gap is 2x
    np.testing.assert_allclose(run.adiabatic[0], [(0.5 + w) / 2, 1 - (0.5 + w) / 2], rtol=1e-12)
    np.testing.assert_allclose(run.diabatic[0], [1 - (0.5 + w) / 2, (0.5 + w) / 2], rtol=1e-12)
    np.testing.assert_allclose(jnp.sum(run.diabatic, axis=1), 1.0, rtol=1e-12)
    assert np.all(np.asarray(run.residuals) < 1e-12)
