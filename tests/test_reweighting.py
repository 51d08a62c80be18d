"""Derivatives of averages by weights and score terms: against quadrature, finite differences and their own errors."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxmd_iz.fields import fields
from jaxmd_iz.gibbs import Canonical
from jaxmd_iz.integrators import VelocityVerlet, trajectory
from jaxmd_iz.local_gibbs import Cells, LocalGibbs, Natural
from jaxmd_iz.lyapunov import tangent_growth
from jaxmd_iz.matching import Data
from jaxmd_iz.mollifiers import Cubic, Polynomial
from jaxmd_iz.potentials.base import FromFunction
from jaxmd_iz.potentials.external import HarmonicTrap
from jaxmd_iz.potentials.pair import LennardJones, SoftSphere
from jaxmd_iz.reweighting import actions, average, rematched, sensitivity
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.system import System
from jaxmd_iz.windows import slab

SAMPLES = 4000
GRID = np.linspace(-6, 6, 6001)
PARAMETERS = {"coupling": 0.5, "gap": 0.4, "temperature": 0.5}


def two_states(parameters):
    """One particle on a line in a trap: V = [[0.9x, c], [c, Δ − 0.9x]]; and its density."""

    def matrix(x):
        slope, off = 0.9 * x[:, 0], jnp.broadcast_to(parameters["coupling"], x.shape[:1])
        return jnp.stack([jnp.stack([slope, off], -1), jnp.stack([off, parameters["gap"] - slope], -1)], -2)

    system = System(
        FromFunction(matrix, states=2), Free(1), np.array([0.25]), external=HarmonicTrap(2.0), correction="none"
    )
    return system, Canonical(parameters["temperature"])


def look(system, x, p, k, neighbours):
    """q_k*, x², |p|²/2M + λ̄_k + V_b."""
    levels = system.levels(x)
    energy = jnp.sum(p**2) / (2 * 0.25) + levels[k] + jnp.sum(x**2)
    return {"q": jax.nn.one_hot(k, 2, dtype=x.dtype), "x2": jnp.sum(x**2), "energy": energy}


def exact(coupling, gap, temperature):
    """The averages by the trapezoidal rule, and g on the grid."""
    r = np.sqrt((0.9 * GRID - gap / 2) ** 2 + coupling**2)
    energy = gap / 2 + np.array([-r, r]) + GRID**2
    f = np.exp(-energy / temperature)
    f = f / f.sum()
    return np.array([*f.sum(axis=1), np.sum(f @ GRID**2), np.sum(f * energy) + temperature / 2]), f.sum(axis=0)


def numbers(tree):
    return np.concatenate(
        [np.asarray(tree["q"]), np.asarray(tree["x2"])[..., None], np.asarray(tree["energy"])[..., None]], -1
    )


def test_averages_of_two_states_have_the_slopes_of_quadrature():
    """q_j*, ⟨x²⟩ and ⟨E⟩ and their derivatives in c, Δ and T, within 4.5 standard errors that are not idle."""
    values, g = exact(**PARAMETERS)
    x = np.interp((np.random.default_rng(3).permutation(SAMPLES) + 0.5) / SAMPLES, np.cumsum(g), GRID)
    rng = np.random.default_rng(4)
    x = jnp.asarray(np.interp(rng.random(SAMPLES), np.cumsum(g), GRID))[:, None, None]
    parameters = {k: jnp.asarray(np.float64(v)) for k, v in PARAMETERS.items()}
    found = sensitivity(
        look, two_states, parameters, x, key=jax.random.key(0), estimate=lambda a: a | {"valid": a["x2"] > 0}
    )
    assert bool(found.mean["valid"]) and not np.any(found.slope["valid"])
    off = (numbers(found.mean) - values) / numbers(found.error)
    assert np.all(np.abs(off) < 4.5)
    np.testing.assert_allclose(found.effective, SAMPLES, rtol=1e-12)
    slopes, errors = numbers(found.slope), numbers(found.slope_error)  # (3, 4)
    for row, name in enumerate(sorted(PARAMETERS)):
        h = 1e-4
        up, down = (exact(**PARAMETERS | {name: PARAMETERS[name] + s * h})[0] for s in (1, -1))
        expected = (up - down) / (2 * h)
        assert np.all(np.abs(slopes[row] - expected) < 4.5 * errors[row]), name
        assert np.all(errors[row] < 0.25 * np.max(np.abs(expected)))


def test_samples_of_one_density_give_averages_of_another():
    """With the actions at which they were drawn as reference; the effective number says how far it is."""
    _, g = exact(**PARAMETERS)
    x = jnp.asarray(np.interp(np.random.default_rng(5).random(SAMPLES), np.cumsum(g), GRID))[:, None, None]
    reference = -jax.nn.logsumexp(-actions(*two_states(PARAMETERS), x), axis=1)
    other = PARAMETERS | {"coupling": 0.7, "temperature": 0.6}
    found = average(look, *two_states(other), x, key=jax.random.key(1), reference=reference)
    values = exact(**other)[0]
    assert np.all(np.abs(numbers(found.mean) - values) < 4.5 * numbers(found.error))
    assert 0.5 * SAMPLES < float(found.effective) < 0.99 * SAMPLES


BOX = Periodic([[4.4, 0.0], [0.0, 4.6]])
N = 5
CELLS = Cells(
    jnp.asarray([[0.55, 2.3], [1.65, 2.3], [2.75, 2.3], [3.85, 2.3]]),
    jnp.full(4, 4.4 * 4.6 / 4),
    slab(Cubic(1.1, 1), BOX, 0),
)
START = Natural(jnp.asarray([0.9, 1.0, 1.1, 1.0]), jnp.zeros((4, 2)) + 0.1, jnp.asarray([0.2, 0.0, -0.2, 0.0]))


def configurations(count):
    """Positions without overlaps; what they are samples of is said by the reference."""
    rng = np.random.default_rng(6)
    places = np.array([[0.2, 0.3], [1.6, 0.5], [3.0, 0.4], [0.9, 2.6], [2.5, 2.7]])
    return jnp.asarray(places + rng.uniform(-0.35, 0.35, (count, N, 2)))


def soft(numbers):
    """A soft fluid with its ε, σ, and masses."""
    return System(SoftSphere(numbers["epsilon"], numbers["sigma"], 8, 2.1), BOX, numbers["masses"])


NUMBERS = {"epsilon": np.float64(0.8), "sigma": np.float64(0.9), "masses": np.array([1.0, 1.5, 1.0, 2.0, 1.0])}


def slope_and_difference(function, line, h=1e-4):
    """Σ gradient·line of function(numbers) in reverse mode, and by differences of fourth order; and what else it gives.

    function(numbers) is a number and whatever else; one program serves all points.
    """
    start = jax.tree.map(jnp.asarray, NUMBERS)
    both = jax.jit(jax.value_and_grad(function, has_aux=True))
    (_, gradient), *ends = [both(jax.tree.map(lambda a, b, s=s: a + s * h * b, start, line)) for s in (0, -2, -1, 1, 2)]
    reverse = sum(float(jnp.sum(a * b)) for a, b in zip(*map(jax.tree.leaves, (gradient, line)), strict=True))
    values = [float(value) for (value, _), _ in ends]
    return reverse, (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h), ends[-1][0][1]


LINE = {
    "epsilon": jnp.asarray(np.float64(0.3)),
    "sigma": jnp.asarray(np.float64(0.1)),
    "masses": jnp.asarray([0.2, -0.1, 0.3, 0.0, 0.1]),
}


def stress(system, x, p, k, neighbours):
    """Moments on a line of points."""
    return system.moments(jnp.asarray([[0.7, 1.0], [2.0, 2.0]]), x, p, k, Polynomial(1.4, 2))


def of_fields(moments):
    return fields(moments, jnp.zeros(2))


def test_gradients_of_averaged_fields_are_those_of_finite_differences():
    """σ, q and T of a canonical average in ε, σ, masses: through weights, momenta, quotients; reverse mode."""
    x = configurations(24)
    reference = -jax.nn.logsumexp(-actions(soft(NUMBERS), Canonical(1.1), x), axis=1)

    def loss(numbers):
        found = average(
            stress, soft(numbers), Canonical(1.1), x, key=jax.random.key(2), reference=reference, estimate=of_fields
        ).mean
        return jnp.sum(found.sigma**2) + jnp.sum(jnp.sin(found.q)) + jnp.sum(found.T), None

    reverse, difference, _ = slope_and_difference(loss, LINE)
    np.testing.assert_allclose(reverse, difference, rtol=1e-8)


def test_matched_fields_stay_and_others_move_with_the_parameters():
    """ρ, m and E at the points are the data for every ε, σ and mass; the slope of σ there is that of differences."""
    x = configurations(120)
    before = soft(NUMBERS)
    density = LocalGibbs(CELLS, START, 1.0)
    reference = -jax.nn.logsumexp(-actions(before, density, x), axis=1)

    def seen(system, x, p, k, neighbours):
        return system.moments(CELLS.y, x, p, k, CELLS.mollifier)

    now = average(seen, before, density, x, key=jax.random.key(3), estimate=of_fields).mean
    # data within reach of so few samples: those of the start, from which the exact momenta differ by noise
    data = Data(now.rho, now.momentum, now.E)

    def held(numbers):
        system = soft(numbers)
        density = rematched(system, CELLS, data, x, START, 1.0, reference=-reference)
        found = average(seen, system, density, x, key=jax.random.key(3), reference=reference, estimate=of_fields).mean
        return jnp.sum(jnp.sin(found.sigma)), (found.rho, density.theta.beta)

    reverse, difference, (rho, beta) = slope_and_difference(held, {**LINE, "masses": 0 * LINE["masses"]}, h=1e-3)
    np.testing.assert_allclose(reverse, difference, rtol=1e-6)
    np.testing.assert_allclose(rho, data.rho, rtol=1e-9)  # without momenta: exact, whatever the parameters
    assert np.all(np.abs(np.asarray(beta) - START.beta) > 1e-5)  # though θ had to move for that


def test_small_changes_grow_with_the_exponent_of_the_force():
    """On a hill F = Ω²x with e^{Ωt}; in a trap they do not grow; log growth is that of the whole derivative."""
    masses, x = jnp.ones(2), jnp.asarray([[0.3], [0.4]])
    way = (jnp.ones((2, 1)), 2.0 * jnp.ones((2, 1)))  # all of it grows
    hill = tangent_growth(VelocityVerlet(1e-3), lambda x: 4.0 * x, masses, x, x, 4000, way)
    np.testing.assert_allclose(hill.exponent, 2.0, rtol=1e-6)  # (Ωh)²/24 = 2e-7
    trap = tangent_growth(VelocityVerlet(1e-2), lambda x: -4.0 * x, masses, x, x, 4000, way)
    assert abs(float(trap.exponent)) < 0.1
    soft_one = soft(NUMBERS)
    place = configurations(1)[0]
    way = (jnp.ones((N, 2)) / np.sqrt(10), jnp.zeros((N, 2)))
    args = VelocityVerlet(0.01), lambda a: soft_one.force(a, 0), jnp.asarray(NUMBERS["masses"]), place
    found = tangent_growth(*args, place - 2.0, 30, way)
    x, p = jax.jvp(lambda a, b: trajectory(*args[:3], a, b, 30), (place, place - 2.0), way)[1]
    root = np.sqrt(NUMBERS["masses"])[:, None]
    length = np.log(np.sqrt(np.sum((root * x) ** 2 + (p / root) ** 2)) / np.sqrt(np.sum((root * way[0]) ** 2)))
    np.testing.assert_allclose(found.log_growth[-1], length, rtol=1e-12, atol=1e-12)


def test_slopes_along_trajectories_lose_to_score_terms_after_some_lyapunov_times():
    """∂/∂ε of an average at time t: the spread along trajectories grows by orders, that of score terms does not."""
    start = System(LennardJones(1.0, 1.0, 2.2, "force_shift"), BOX, np.ones(N))
    rng = np.random.default_rng(8)
    x, p = configurations(16), jnp.asarray(rng.normal(size=(16, N, 2)))

    def at(epsilon, steps, x, p):
        system = eqx.tree_at(lambda s: s.potential.epsilon, start, epsilon)
        last, _ = trajectory(VelocityVerlet(0.005), lambda a: system.force(a, 0), system.masses, x, p, steps)
        return jnp.sum(jnp.cos(2 * np.pi * last / jnp.asarray([4.4, 4.6])[None, :]))

    one = jnp.asarray(np.float64(1.0))
    spread = []
    for steps in (200, 1600):
        slopes = jax.jit(jax.vmap(lambda a, b, s=steps: jax.jvp(lambda e: at(e, s, a, b), (one,), (one,))[1]))(x, p)
        spread.append(float(jnp.std(slopes)))
    energies = jax.vmap(lambda a: start.levels(a)[0])(x)
    values = jax.jit(jax.vmap(lambda a, b: at(one, 1600, a, b)))(x, p)
    score = float(jnp.std((values - jnp.mean(values)) * (energies - jnp.mean(energies))))
    assert spread[1] > 100 * spread[0]
    assert spread[1] > 10 * score
