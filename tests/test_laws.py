"""The conservation laws: rows of `verify`, ensembles, the fields in the form (2.17), and what must fail.

Positions are a few particle diameters apart and every term is of order 1 to 100, so a relative residual is rounding
of sums of some hundred terms: 1e-12 leaves three digits above what is seen.
"""

import itertools
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import moments as mo
from jaxmd_iz import pair_split, surfaces, verify
from jaxmd_iz.balance import balance_terms, relative_residual
from jaxmd_iz.checks import InputError
from jaxmd_iz.fields import fields
from jaxmd_iz.mollifiers import Polynomial
from jaxmd_iz.neighbours import neighbour_list
from jaxmd_iz.potentials.base import FromFunction
from jaxmd_iz.potentials.external import HarmonicTrap
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.system import System

ROUNDING = 1e-12
N, DIM = verify.PARTICLES, 2
MASSES = jnp.linspace(1.0, 6.0, N)
TRAP = HarmonicTrap(0.3, jnp.array([1.4, -0.6]))
BALL = Polynomial(1.7, DIM)
CASES = verify.chosen_cases()


def system(name, split="energy", correction="none", space=None, external=TRAP):
    return System(verify.POTENTIALS[name].make(), space or Free(DIM), MASSES, None, external, correction, split)


def phase_points(count, seed=3):
    """Distances near 1, momenta of order 1, and points y among the particles."""
    rng = np.random.default_rng(seed)
    lattice = np.array([[0.0, 0.0], [1.1, 0.1], [0.1, 1.2], [1.2, 1.1], [2.2, 0.5]])
    x = lattice + rng.uniform(-0.12, 0.12, (count, N, DIM))
    p = rng.normal(size=x.shape) * 1.5 + 0.8
    return jnp.asarray(x), jnp.asarray(p), jnp.asarray(rng.uniform(0.0, 2.0, (6, DIM)))


# --- rows of `verify` ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_laws_hold_for_every_pair_of_options(case):
    rows = verify.check(case)
    assert [r["law"] for r in rows] == ["mass", "momentum", "energy"]
    for row in rows:
        # 24 Gauss nodes on the bump's bonds; every other bond integral is exact, the law of mass has no bonds
        bound = 1e-6 if case.mollifier == "bump" and row["law"] != "mass" else ROUNDING
        assert row["residual"] <= min(bound, row["bound"]), row
        assert row["scale"] > 0.1, row  # energies, masses and momenta of order 1 within reach of y: no 0/0


def test_covering_set_holds_every_pair_of_options():
    def pairs(cases):
        both = itertools.combinations(range(len(verify.Case._fields)), 2)
        return {(i, c[i], j, c[j]) for i, j in both for c in cases}

    everything = verify.product()
    assert pairs(CASES) == pairs(everything)
    assert len(CASES) * len(verify.LAWS) >= 60
    assert len(set(CASES)) == len(CASES) < len(everything)
    # `admissible` leaves out combinations, never an option
    corrections = ("none", "paper", "dboc")
    options = (verify.POTENTIALS, corrections, pair_split.SPLITS, verify.MOLLIFIERS, verify.SPACES, (1, 2, 3))
    for position, values in enumerate(options):
        assert {c[position] for c in everything} == set(values)


def test_law_check_sees_a_wrong_flux():
    terms = (jnp.ones((2, 3)), jnp.ones((4, 3, 2)), jnp.ones((5, 3)))  # nothing cancels
    r = relative_residual(terms)
    np.testing.assert_allclose([r.mass, r.momentum, r.energy], 1.0, rtol=1e-15)
    none = relative_residual(jax.tree.map(jnp.zeros_like, terms))
    assert none.mass == none.momentum == none.energy == 0  # 0/0 = 0


# --- refusals of section 4 ----------------------------------------------------------------------------------------

BOX = Periodic([4.4, 4.6])


def _list(space, x):
    return neighbour_list(space, x, 2.05).edges(space, x, jnp.zeros(N, int))


def _sparse_surface():
    potential = verify.POTENTIALS["three_states_function"].make()
    return surfaces.surface(potential, _list(Free(DIM), phase_points(1)[0][0]), MASSES, 0)


def _sparse_bonds(split, name, correction):
    potential, (x, p, _) = verify.POTENTIALS[name].make(), jax.tree.map(lambda a: a[0], phase_points(1))
    e = _list(Free(DIM), x)
    dense = Free(DIM).edges(x, jnp.zeros(N, int))

    def f():
        s = surfaces.surface(potential, dense, MASSES, 0, correction)
        return pair_split.bonds(split, potential, e, MASSES, 0, correction, s, p)

    jax.eval_shape(f)


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda: system("two_state_fluid", "distance", "paper", BOX), "periodic cell with correction"),
        (lambda: system("two_state_fluid", "distance", "dboc", BOX), "periodic cell with correction"),
        (lambda: system("three_states_function", "distance"), "which has no form on distances"),
        (lambda: system("two_states_anchored", "distance"), "depends on absolute positions"),
        (lambda: system("two_states_anchored", "min_norm"), "depends on absolute positions"),
        (lambda: System(FromFunction(lambda x: x[:, 0]), Free(2), MASSES, split="min_norm"), "`invariant=True`"),
        (lambda: system("two_state_fluid", "virial"), "be one of `distance`, `min_norm`, `energy`"),
        (lambda: system("two_state_fluid", "minnorm"), "Did you mean `min_norm`"),
        (lambda: system("two_state_fluid", correction="Paper"), "Did you mean `paper`"),
        (lambda: system("lennard_jones", space=Periodic([4.0, 9.0])), "leave room for the cutoff 2.05"),
        (_sparse_surface, "be given for this surface on a neighbour list"),
        (lambda: _sparse_bonds("distance", "two_state_fluid", "paper"), "with the nonlinear correction"),
    ],
)
def test_combinations_that_do_not_hold_are_refused_in_a_sentence(act, sentence):
    with pytest.raises(InputError) as raised:
        act()
    message = str(raised.value)
    assert sentence in message
    assert re.fullmatch(r"Argument `[\w., ]+` must [^\n]+, but [^\n]+[.?]", message)


@pytest.mark.parametrize("split", pair_split.SPLITS)
def test_combinations_that_hold_are_not_refused(split):
    system("two_state_fluid", split, "none", BOX)
    system("stillinger_weber", split, "none", BOX)
    system("two_state_fluid", split, "paper", Free(DIM))


def test_min_norm_refuses_a_gradient_that_is_no_sum_of_central_forces():
    # nonlinear terms on a triangle that winds round the cell: 3 bonds cannot carry the 4 free components of a gradient
    potential = eqx.tree_at(lambda t: t.coupling.amplitude, verify.POTENTIALS["two_state_fluid"].make(), jnp.array(2.0))
    few = System(potential, BOX, MASSES[:3], split="min_norm", correction="paper")
    x = jnp.array([[0.2, 0.2], [1.7, 0.6], [3.1, 0.1]])
    force = eqx.filter_jit(lambda x: few.bonds(x, jnp.ones_like(x), 0)[1].f)
    with pytest.raises(eqx.EquinoxRuntimeError, match="Argument `split` must be `energy` here"):
        jax.block_until_ready(force(x))


# --- ensembles over two surfaces, and the fields ------------------------------------------------------------------

SAMPLES = 2
WEIGHTS = jnp.array([[0.7, 0.3], [0.2, 0.8]]) / SAMPLES  # of each sample and surface; they sum to 1
EACH = [jnp.asarray(np.repeat(np.arange(SAMPLES), 2)), jnp.asarray(np.tile(np.arange(2), SAMPLES))]


@eqx.filter_jit
def summed_terms(system, y, xs, ps, w):
    s, k = EACH
    terms = jax.vmap(lambda x, p, k: balance_terms(system, y, x, p, k, w, BALL))(xs[s], ps[s], k)
    return terms, jax.tree.map(lambda t: jnp.tensordot(WEIGHTS.reshape(-1), t, 1), terms)


def test_laws_hold_for_a_weighted_sum_over_samples_and_surfaces():
    two = system("two_state_fluid", "energy", "none")
    xs, ps, y = phase_points(SAMPLES)
    w = jnp.sum(ps, axis=(0, 1)) / SAMPLES / jnp.sum(MASSES)
    each, mixed = summed_terms(two, y, xs, ps, w)
    r = relative_residual(mixed)
    assert max(r.mass, r.momentum, r.energy) <= ROUNDING
    # the two surfaces do differ, so the sum over them tests something: forces by some per cent
    force = each[1].reshape(SAMPLES, 2, *each[1].shape[1:])[:, :, 2]
    assert jnp.max(jnp.abs(force[:, 0] - force[:, 1])) > 0.01 * jnp.max(jnp.abs(force))


@eqx.filter_jit
def standard_form(system, y, xs, ps, w):
    """Σ of the terms of (2.17) with the fields u, σ, q of averaged moments, and their size, for several wrong forms.

    Time derivatives are those of Σ M η, Σ η p, Σ η (|p|²/2M + λ̄ⁿ), written out here.
    """
    s, k = EACH
    weights = WEIGHTS.reshape(-1)
    x, p = xs[s], ps[s]
    m = system.masses

    def stored(x, p, k):
        energy = surfaces.partition(system.potential, system.edges(x), m, system.correction)
        each = jnp.sum(p**2, axis=1) / (2 * m) + jnp.take(energy, k, axis=0)
        eta = BALL.density((y[:, None] - x[None]).transpose(2, 0, 1))
        return eta @ m, eta @ p, eta @ each

    def rates(x, p, k):
        return jax.jvp(lambda x, p: stored(x, p, k), (x, p), (p / m[:, None], system.force(x, k)))[1]

    rho_t, m_t, e_t = jax.tree.map(lambda a: jnp.tensordot(weights, a, 1), jax.vmap(rates)(x, p, k))
    surface, links = jax.vmap(lambda x, p, k: system.bonds(x, p, k))(x, p, k)
    wall = jax.vmap(system.confinement)(x)

    def fluxes(point):
        def at(x, p, surface, links, wall):
            kinds = (system.species, system.kinds)
            return mo.moments(point[None], x, p, m, *kinds, surface, links, wall, BALL, system.space)

        raw = jax.tree.map(lambda a: a[:, 0], jax.vmap(at)(x, p, surface, links, wall))
        f = fields(jax.tree.map(lambda a: jnp.tensordot(weights, a, 1)[None], raw), w)
        f = jax.tree.map(lambda a: a[0], f)
        sample = jax.tree.map(lambda a: jnp.sum(a.reshape(SAMPLES, 2, -1) * WEIGHTS[:, :, None], 1) * SAMPLES, raw)
        sample = jax.tree.map(lambda a, b: a.reshape(SAMPLES, 1, *b.shape[1:]), sample, raw)
        one_by_one = jnp.mean(fields(sample, w).sigma[:, 0], axis=0)
        flow = f.rho * f.u[:, None] * f.u[None, :]
        tension = f.sigma_potential @ f.u
        energy = f.E * f.u + f.q - f.sigma @ f.u
        # (3.12) as printed holds −Σ_{n,m} where +Σ_{n<m} belongs: −2 S u for S u; with its sign alone, −S u
        wrong = (flow - one_by_one, energy - 3 * tension, energy - 2 * tension)
        return (f.rho * f.u, flow - f.sigma, energy, *wrong), (f.F, f.P)

    def divergences(point):
        jacobian, sources = jax.jacfwd(fluxes, has_aux=True)(point)
        return [jnp.trace(j, axis1=0, axis2=j.ndim - 1) for j in jacobian], sources

    seen, (force, power) = jax.vmap(divergences)(y)
    terms = [(rho_t, seen[0]), (m_t, seen[1], -force), (e_t, seen[2], -power)]
    terms += [(m_t, seen[3], -force), (e_t, seen[4], -power), (e_t, seen[5], -power)]

    def ratio(t):
        return jnp.max(jnp.abs(sum(t))) / jnp.max(sum(jnp.abs(a) for a in t))

    return jnp.stack([ratio(t) for t in terms])


def test_fields_of_averaged_moments_obey_the_laws_and_the_printed_ones_do_not():
    two = system("two_state_fluid", "min_norm", "none")
    xs, ps, y = phase_points(SAMPLES)
    for w in (jnp.zeros(DIM), jnp.array([0.7, -1.3])):  # any constant w, since gⁿ = 0
        mass, momentum, energy, averaged_sigma, printed, sign = standard_form(two, y, xs, ps, w)
        assert max(mass, momentum, energy) <= ROUNDING
        assert averaged_sigma > 1e-3  # an average of σ per sample is no stress of the averaged u
        assert printed > 1e-3
        assert sign > 1e-3


def test_source_without_the_external_term_of_the_partition_fails():
    anchored = system("two_states_anchored", "energy", "none")
    (x,), (p,), y = phase_points(1)

    @eqx.filter_jit
    def residuals(y, x, p):
        terms = balance_terms(anchored, y, x, p, 0, jnp.zeros(DIM), BALL)
        # F = −Σ η (∇V_b + gⁿ): leave gⁿ out
        left_out = mo.spread(y, x, anchored.surface(x, 0).external, BALL, anchored.space)
        wrong = (terms[0], terms[1].at[3].add(-left_out), terms[2])
        return relative_residual(terms), relative_residual(wrong)

    right, wrong = residuals(y, x, p)
    assert max(right.mass, right.momentum, right.energy) <= ROUNDING
    assert wrong.momentum > 1e-3


def test_confinement_inside_min_norm_fails():
    pairs = system("lennard_jones", "min_norm")
    (x,), (p,), _ = phase_points(1)
    surface, links = eqx.filter_jit(pairs.bonds)(x, p, 0)
    a = np.asarray(pair_split.incidence(N, links.i, links.j, links.d))

    def misfit(b):
        v = np.linalg.lstsq(a, b.ravel(), rcond=1e-12)[0]
        return np.max(np.abs(a @ v - b.ravel())) / np.max(np.abs(b))

    inside = surface.gradient + pairs.confinement(x)
    assert misfit(np.asarray(surface.gradient)) <= ROUNDING
    assert misfit(np.asarray(inside)) > 1e-2  # V_b pushes the centre of mass: no pair forces do
    moved = eqx.tree_at(lambda s: s.gradient, surface, inside)
    split = eqx.filter_jit(lambda s: pair_split.bonds("min_norm", pairs.potential, s.on, MASSES, 0, "none", s, p).f)
    with pytest.raises(eqx.EquinoxRuntimeError, match="not a sum of central pair forces"):
        jax.block_until_ready(split(moved))
