"""The number of particles drawn too: ideal gases, quadrature over every N, the Lennard-Jones fluid and its fields."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2, poisson

from jaxmd_iz import grand, local_gibbs
from jaxmd_iz import grand_chain as gc
from jaxmd_iz.checks import InputError
from jaxmd_iz.mollifiers import Cubic, Polynomial
from jaxmd_iz.potentials.base import AbstractPairPotential, FromFunction, Sum
from jaxmd_iz.potentials.diabatic import Gaussian, TwoStateFluid
from jaxmd_iz.potentials.external import HarmonicTrap
from jaxmd_iz.potentials.many_body import HarmonicBonds, StillingerWeber
from jaxmd_iz.potentials.pair import LennardJones, Morse
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.system import System
from jaxmd_iz.units import units
from jaxmd_iz.windows import slab

CHAINS = 4000


class Dressed(AbstractPairPotential):
    """0.4 (1 − r²/r_c²)² between particles, and 0.3 for each of them."""

    cutoff: float = eqx.field(static=True, default=1.6)
    states: ClassVar[int] = 1
    own_bonds: ClassVar[bool] = True
    invariant: ClassVar[bool] = True
    complex: ClassVar[bool] = False
    triangles: ClassVar[bool] = False
    level: ClassVar[float] = 0.3

    def pair(self, r2, one, other):
        """φ."""
        return 0.4 * jnp.maximum(1 - r2 / self.cutoff**2, 0.0) ** 2


NOTHING = LennardJones(0.0, 1.0, 1.0)  # an ideal gas


@eqx.filter_jit
def start(system, density, exchange, x, chains):
    """Chains that start from one configuration, or from none."""
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (chains, *a.shape)), gc.start_grand(system, density, exchange, x))


@eqx.filter_jit
def advance(system, density, exchange, states, first, steps):
    """Every chain `steps` further, with its own key."""
    keys = jax.random.split(jax.random.key(2), states.alive.shape[0])
    return jax.vmap(lambda s, k: gc.advance_grand(system, density, exchange, s, k, first, steps))(states, keys)


def run(system, density, exchange, steps, chains=CHAINS, parts=1):
    """Chains that start empty, run in so many chunks of `steps`, and the traces of the chunks."""
    states, traces = start(system, density, exchange, jnp.zeros((0, system.space.dimensions)), chains), []
    for part in range(parts):
        states, trace = advance(system, density, exchange, states, jnp.asarray(part * steps), steps)
        traces.append(trace)
    return states, traces


# three points on a ring of length 3, or about a trap in free space: β, βu and ν, and β₀ beyond their reach
BETA, BETA_U, NU, BETA_0, MASS, PLANCK = [1.2, 1.6, 0.9], [0.5, -0.4, 0.2], [0.1, -0.5, 0.4], 1.1, 1.5, 2.2


def on_a_line(periodic, potential=None, slots=3):
    """A system, its density and moves, with the local fields above."""
    y = np.array([0.5, 1.5, 2.5]) - (0.0 if periodic else 1.5)
    cells = local_gibbs.Cells(jnp.asarray(y)[:, None], jnp.ones(3), Cubic(1.0, 1))
    theta = local_gibbs.Natural(jnp.asarray(BETA), jnp.asarray(BETA_U)[:, None], jnp.asarray(NU))
    density = grand.GrandGibbs(local_gibbs.LocalGibbs(cells, theta, BETA_0), PLANCK)
    space, box = (Periodic([3.0]), None) if periodic else (Free(1), jnp.asarray([[-1.3], [0.9]]))
    trap = HarmonicTrap(0.8, 1.1 if periodic else 0.0)
    potential = Morse(0.8, 1.5, 0.7, 1.4, "force_shift") if potential is None else potential
    system = System(potential, space, np.full(slots, MASS), external=trap)
    return system, density, gc.Exchange(moves=1, step=0.8, box=box), y


def fields_at(x, y, periodic):
    """B, U, ν and v_b at the points x, written out for η = (1 − 3r² + 2r³), r < 1."""
    u = x[:, None] - y[None, :]
    u = np.abs(u - 3.0 * np.round(u / 3.0)) if periodic else np.abs(u)
    a = np.where(u < 1, 1 - 3 * u**2 + 2 * u**3, 0.0)
    trap = 0.4 * (x - (1.1 if periodic else 0.0)) ** 2
    return BETA_0 + a @ (np.array(BETA) - BETA_0), a @ np.array(BETA_U), a @ np.array(NU), trap


def one_particle(x, y, periodic):
    """∫ of one particle's weight over its momentum, over h, at the points x, without λⁿ."""
    b, u, nu, trap = fields_at(x, y, periodic)
    return np.sqrt(2 * np.pi * MASS / b) / PLANCK * np.exp(MASS * u**2 / (2 * b) + MASS * nu - BETA_0 * trap)


def test_an_ideal_gas_is_poisson_in_local_fields():
    """N ~ Poisson(∫n), n(x) = √(2πM/B)/h e^{MU²/2B + Mν − β₀v_b}: mean, variance, χ² of N and of the counts of 12 bins.

    Each chain gives one N after 150 steps, by when its start is forgotten: (1 − 1/2⟨N⟩)^150 = 1e-8. The variance of a
    sample variance is (⟨N⟩ + 2⟨N⟩²)/chains. Momenta and kinetic energies in thirds of the ring are within
    4 standard errors of quadrature.
    """
    system, density, exchange, y = on_a_line(True, NOTHING, 24)
    states, _ = run(system, density, exchange, 150)
    assert int(jnp.sum(states.overflow)) == 0
    fine = (np.arange(1200) + 0.5) / 400
    weight = one_particle(fine, y, True)
    x, alive = np.asarray(states.x)[:, :, 0], np.asarray(states.alive)
    assert x.min() >= 0 and x.max() < 3

    number, expected = alive.sum(axis=1), weight.sum() / 400
    assert 2.5 < expected < 3.5
    assert abs(number.mean() - expected) < 4 * np.sqrt(expected / CHAINS)
    assert abs(number.var() - expected) < 4 * np.sqrt((expected + 2 * expected**2) / CHAINS)
    edges = np.arange(8)  # 0, 1, …, 7, 8 and more: at least 20 chains are expected in each
    share = np.diff(np.concatenate([[0.0], poisson.cdf(edges, expected), [1.0]])) * CHAINS
    seen = np.bincount(np.minimum(number, 8), minlength=9)
    assert share.min() > 20
    assert 1e-4 < chi2.sf(np.sum((seen - share) ** 2 / share), 8) < 1 - 1e-4
    share = weight.reshape(12, 100).sum(axis=1) / 400 * CHAINS
    assert share.max() > 1.5 * share.min()
    seen = np.histogram(x[alive], np.linspace(0, 3, 13))[0]
    assert 1e-4 < chi2.sf(np.sum((seen - share) ** 2 / share), 12) < 1 - 1e-4

    keys = jax.random.split(jax.random.key(5), CHAINS)
    draw = jax.jit(jax.vmap(lambda key, s: density.momenta(key, system, s.x, s.alive)))
    p = np.asarray(draw(keys, states))[:, :, 0]
    b, u, _, _ = fields_at(fine, y, True)
    carried = p, p**2 / (2 * MASS)
    expected = MASS * u / b, (1 + MASS * u**2 / b) / (2 * b)
    for got, value in zip(carried, expected, strict=True):
        thirds = np.stack([np.sum(got * (alive & (x // 1 == k)), axis=1) for k in range(3)])
        exact = (weight * value).reshape(3, 400).sum(axis=1) / 400
        assert np.all(np.abs(thirds.mean(axis=1) - exact) < 4 * thirds.std(axis=1) / np.sqrt(CHAINS))


@pytest.mark.parametrize("periodic", [True, False])
def test_every_number_of_particles_has_the_weight_of_quadrature(periodic):
    """P(N) for N ≤ 3, ⟨λ⟩ and ⟨Σx²⟩ of particles on a line that interact in local fields, by the midpoint rule.

    The slots cut N at 3, which `overflow` tells; on what is left the chain is exact. In free space insertions reach
    a part of the trap alone. Within 4 standard errors; with fewer points the rule moves by a tenth of one.
    """
    system, density, exchange, y = on_a_line(periodic)
    states, (trace,) = run(system, density, exchange, 150)
    assert int(jnp.sum(states.overflow)) > 0
    low, high = (0.0, 3.0) if periodic else (-6.5, 6.5)

    def quadrature(points):
        x = low + (np.arange(points) + 0.5) * (high - low) / points
        w, b = one_particle(x, y, periodic) * (high - low) / points, fields_at(x, y, periodic)[0]
        r = np.abs(x[:, None] - x[None, :])
        r = np.minimum(r, 3 - r) if periodic else r
        morse = lambda s: 0.8 * (np.exp(-3.0 * (s - 0.7)) - 2 * np.exp(-1.5 * (s - 0.7)))  # noqa: E731
        slope = 0.8 * (-3.0 * np.exp(-3.0 * 0.7) + 3.0 * np.exp(-1.5 * 0.7))
        phi = np.where(r < 1.4, morse(r) - morse(1.4) - (r - 1.4) * slope, 0.0)
        pair = np.exp(-(b[:, None] + b[None, :]) / 2 * phi)
        two = w[:, None] * w[None, :] * pair / 2
        three = w[:, None, None] * w[None, :, None] * w[None, None, :] / 6
        three = three * pair[:, :, None] * pair[:, None, :] * pair[None, :, :]
        total = np.array([1.0, w.sum(), two.sum(), three.sum()])
        energy = np.sum(two * phi) + 3 * np.sum(three * phi[:, :, None])
        square = np.sum(w * x**2) + 2 * np.sum(two * x[:, None] ** 2) + 3 * np.sum(three * x[:, None, None] ** 2)
        return np.array([*total / total.sum(), energy / total.sum(), square / total.sum()])

    exact, coarse = quadrature(160), quadrature(120)
    number = np.asarray(trace.number)[:, -1]
    np.testing.assert_array_equal(states.accepted[:, 0] - states.accepted[:, 1], number)
    kept = jax.jit(jax.vmap(lambda s: density.betas(system.space, s.x)))(states)  # B moves along
    np.testing.assert_allclose(states.beta[states.alive], kept[states.alive], rtol=1e-14)
    squares = np.sum(np.where(states.alive[:, :, None], states.x, 0.0) ** 2, axis=(1, 2))
    seen = np.stack([*(number == k for k in range(4)), np.asarray(states.potential), squares])
    error = seen.std(axis=1) / np.sqrt(CHAINS)
    assert np.all(np.abs(coarse - exact) < 0.1 * error)
    assert np.all(np.abs(seen.mean(axis=1) - exact) < 4 * error)


def fluid(slots=14):
    """Nine particles of fourteen slots, a ghost on top of one of them, in fields that vary along x."""
    space = Periodic([4.0, 4.2, 4.4])
    potential = Sum((LennardJones(1.0, 1.0, 1.9, "force_shift"), Dressed()))
    rng = np.random.default_rng(3)
    sites = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3)[rng.permutation(27)[:slots]]
    x = sites * 1.3 + 0.2 + 0.1 * rng.normal(size=(slots, 3))
    alive = np.isin(np.arange(slots), rng.permutation(slots)[:9])
    x[np.flatnonzero(~alive)[0]] = x[np.flatnonzero(alive)[0]]
    y = np.zeros((4, 3))
    y[:, 0] = np.arange(4)
    cells = local_gibbs.Cells(jnp.asarray(y), jnp.full(4, 4.2 * 4.4), slab(Cubic(1.0, 1), space, 0))
    theta = local_gibbs.Natural(
        jnp.asarray([1.2, 0.9, 0.8, 1.0]), jnp.asarray(rng.normal(size=(4, 3)) / 4), jnp.asarray([0.3, -0.2, 0.1, 0.4])
    )
    density = grand.GrandGibbs(local_gibbs.LocalGibbs(cells, theta, 1.0), 1.7)
    return System(potential, space, np.full(slots, 1.3)), density, jnp.asarray(x), jnp.asarray(alive)


def test_a_ghost_carries_nothing():
    """Weight, gradient and every moment are those of the nine particles alone, to rounding; ghosts feel no force."""
    system, density, x, alive = fluid()
    dead, live = np.flatnonzero(~np.asarray(alive)), np.flatnonzero(alive)
    alone = System(system.potential, system.space, np.full(9, 1.3))
    p, y = jnp.asarray(np.random.default_rng(1).normal(size=x.shape)), jnp.asarray([[0.3, 1.0, 2.0], [2.2, 4.0, 0.1]])
    eta = Polynomial(1.5)

    @jax.jit
    def look(x):
        weight = jax.value_and_grad(lambda at: density.log_weight(system, at, alive))(x)
        empty = density.log_weight(system, x, jnp.zeros_like(alive))
        with_ghosts = grand.moments(system, x, p, alive, y, eta)
        without = alone.moments(y, x[live], p[live], 0, eta)
        return weight, density.local.action(alone, x[live]), empty, with_ghosts, without

    (value, slope), (phi, gradient), empty, with_ghosts, without = look(x)
    expected = -float(phi) - 27 * np.log(1.7) - np.sum(np.log(np.arange(1, 10)))  # h^{−DN}/N!
    assert abs(float(value) - expected) < 1e-12 * abs(expected)
    assert np.all(np.asarray(slope)[dead] == 0)
    np.testing.assert_allclose(slope[live], -gradient, rtol=0, atol=1e-13 * np.max(np.abs(gradient)))
    assert float(empty) == 0
    for name in vars(without):
        got, want = getattr(with_ghosts, name), getattr(without, name)
        scale = max(float(jnp.max(jnp.abs(want))), 1.0)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-13 * scale, err_msg=name)
    momenta = np.asarray(density.momenta(jax.random.key(0), system, x, alive))
    assert np.all(momenta[dead] == 0) and np.all(momenta[live] != 0)


def test_the_bonds_of_one_particle_give_the_difference_of_all():
    """`gain` is the difference of `product` with and without a particle, in any slot, dead or alive: to rounding."""
    system, density, x, alive = fluid()
    zero, none = jnp.zeros(()), jnp.zeros(3, int)
    places = jnp.asarray(np.random.default_rng(2).uniform(0, 4, (14, 3)))

    @jax.jit
    def look(x):
        state = gc.Grand(x, alive, density.betas(system.space, x), zero, zero, none, none, none[0])

        def at(slot, r):
            others = alive & (jnp.arange(14) != slot)
            with_it = density.product(system, x.at[slot].set(r), others.at[slot].set(True))
            return gc.gain(system, density, state, slot, r), with_it, density.product(system, x, others)

        return jax.vmap(at)(jnp.arange(14), places)

    got, with_it, without = look(x)
    for new, one, two in zip(got[:2], with_it, without, strict=True):
        assert np.all(np.abs(new - (one - two)) < 1e-12 * (np.maximum(np.abs(one), np.abs(two)) + 1))
        assert np.ptp(np.asarray(new)) > 1  # the places differ


def test_planck_constant_of_units():
    """2π where ħ = 1; Λ = h/√(2πMk_BT) of argon at 300 K is 17.4582 Å/√(M/amu · T/K), from SI units."""
    np.testing.assert_allclose(grand.planck_of(units("atomic")), 2 * np.pi, rtol=1e-8)
    wave = grand.planck_of(units("metal")) / np.sqrt(2 * np.pi * 39.948 * 8.617333262e-5 * 300)
    np.testing.assert_allclose(wave, 17.4582177 / np.sqrt(39.948 * 300), rtol=1e-7)


def crystal(**changes):
    """A density and moves for a system made of `changes`."""
    given = {"potential": NOTHING, "space": Periodic([4.0] * 3), "masses": np.ones(4), "species": None} | changes
    options = {k: given.pop(k) for k in ("box", "moves", "burn_in") if k in given}
    planck, x = given.pop("planck", 1.0), given.pop("x", jnp.zeros((0, 3)))
    return gc.start_grand(
        System(**given), grand.GrandGibbs(grand.uniform(1.0, 0.0, 3), planck), gc.Exchange(**options), x
    )


TWO_STATES = TwoStateFluid(NOTHING, Gaussian(0.9, 0.5, 1.1), Gaussian(0.5, 0.6, 1.3), 0.6, 4, 1.0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"potential": TWO_STATES}, "one electron state where N varies, but TwoStateFluid has 2"),
        ({"potential": FromFunction(lambda x: x[:, 0])}, "be a pair potential.*it is FromFunction"),
        ({"potential": HarmonicBonds(np.array([[0, 1]]), 1.0, 1.0)}, "be a pair potential.*it is HarmonicBonds"),
        ({"potential": StillingerWeber.silicon("thirds"), "space": Periodic([9.0] * 3)}, "`central` share"),
        ({"masses": np.array([1.0, 1.0, 2.0, 1.0])}, "`masses` must be equal"),
        ({"species": np.array([0, 0, 1, 0])}, "`species` must be one"),
        ({"space": Free(3)}, "`box` must be given in free space"),
        ({"box": jnp.asarray([[0.0] * 3, [1.0] * 3])}, "`box` must be left out"),
        ({"box": jnp.asarray([[0.0] * 3, [-1.0] * 3])}, "`box` must have its lower corner"),
        ({"space": Periodic([4.0] * 2), "x": jnp.zeros((0, 2))}, "`density` must have cells of 2 dimensions"),
        ({"x": jnp.zeros((5, 3))}, "`x` must hold at most 4 particles"),
        ({"planck": 0.0}, "`planck` must be positive"),
        ({"moves": -1}, "`moves` must be 0 or more"),
        ({"burn_in": -1}, "`burn_in` must be 0 or more"),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        crystal(**changes)


def test_min_norm_and_reduced_units_are_refused():
    system, _, x, alive = fluid()
    split = System(system.potential, system.space, system.masses, split="min_norm")
    with pytest.raises(InputError, match="`split` must be `energy` or `distance`"):
        grand.moments(split, x, x, alive, x[:1], Polynomial(1.0))
    with pytest.raises(InputError, match="`units` must have a size"):
        grand.planck_of(units("lj"))
