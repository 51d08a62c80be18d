"""Symmetries of the fields, the virial pressure, totals, and the sum over images.

Errors are relative to the largest entry of a field. Fields are sums of tens of terms of one order of magnitude:
1e-12 leaves room for rounding and for nothing else, unless said otherwise.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz.fields import fields
from jaxmd_iz.mollifiers import Polynomial
from jaxmd_iz.potentials.diabatic import Gaussian, TwoStateFluid
from jaxmd_iz.potentials.many_body import StillingerWeber
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.system import System
from jaxmd_iz.windows import Fourier

ROUNDING = 1e-12
N, DIM = 5, 2
MASSES = np.linspace(1.0, 6.0, N)
SPECIES = np.array([0, 1, 1, 0, 1])
CELL = Periodic([[4.6, 0.0], [0.9, 4.7]])
BALL = Polynomial(1.7, DIM)
UNIT = np.eye(DIM)
TABLE = np.array([[1.0, 0.8], [0.8, 0.6]])
PAIR = LennardJones(TABLE, 0.9 + 0.1 * TABLE, 2.1, "force_shift")
POTENTIALS = {
    "pair": PAIR,
    "triplet": StillingerWeber(1.0, 1.0, 2.1, 21.0, 1.2, -1 / 3, 7.05, 0.602, 4.0, 0.0),
    "two states": TwoStateFluid(PAIR, Gaussian(4.0, 0.4, 1.0), Gaussian(3.0, 0.5, 1.4), 0.9, N),
}
SPLITS = ("distance", "min_norm", "energy")
MANY_BODY = [("triplet", split) for split in SPLITS] + [("two states", "min_norm"), ("two states", "energy")]
# of a wrapped configuration; `min_norm` is refused there, and `distance` for two states
PERIODIC = [("triplet", "distance"), ("two states", "energy")]


def system(potential, split, space=None, order=slice(None)):
    species = SPECIES if potential != "triplet" else 0 * SPECIES
    correction = "paper" if split == "min_norm" else "none"  # `verify` has the others
    options = (None, correction, split, 2)
    return System(POTENTIALS[potential], space or Free(DIM), MASSES[order], species[order], *options)


def phase_point():
    """Distances near 1, so that every bond and triplet counts; momenta with a drift; points among the particles."""
    rng = np.random.default_rng(5)
    x = np.array([[0.0, 0.0], [1.1, 0.1], [0.1, 1.2], [1.2, 1.1], [2.2, 0.5]]) + rng.uniform(-0.12, 0.12, (N, DIM))
    p = rng.normal(size=x.shape) * 1.5 + 0.8
    return x, p, rng.uniform(0.0, 2.0, (7, DIM))


def centre_velocity(p):
    return p.sum(axis=0) / MASSES.sum()


@eqx.filter_jit
def _measure(system, y, x, p, w):
    return fields(system.moments(y, x, p, system.states - 1, BALL), w)


def measure(of, *numbers):
    """Fields on the highest surface for y, x, p, w."""
    return jax.tree.map(np.asarray, _measure(of, *map(jnp.asarray, numbers)))


def error(value, expected):
    return np.max(np.abs(value - expected)) / np.max(np.abs(expected))


def same(f, g, turn=UNIT, bound=ROUNDING):
    """Every field of f is that of g, rotated."""
    for name in ("rho", "number_density", "E", "T"):
        assert error(getattr(f, name), getattr(g, name)) <= bound, name
    for name in ("momentum", "u", "q", "q_kinetic", "q_potential"):
        assert error(getattr(f, name), getattr(g, name) @ turn.T) <= bound, name
    for name in ("sigma", "sigma_kinetic", "sigma_potential"):
        assert error(getattr(f, name), turn @ getattr(g, name) @ turn.T) <= bound, name


# --- Galilei ------------------------------------------------------------------------------------------------------

BOOST = np.array([1.7, -0.9])
STILL = np.zeros(DIM)


@pytest.mark.parametrize(("potential", "split"), MANY_BODY)
def test_heat_flux_is_galilean_invariant_in_the_frame_of_the_centre_of_mass(potential, split):
    of = system(potential, split)
    x, p, y = phase_point()
    boosted = p + MASSES[:, None] * BOOST
    here, there = (measure(of, y, x, a, centre_velocity(a)) for a in (p, boosted))
    assert error(there.q, here.q) <= ROUNDING
    assert error(there.sigma, here.sigma) <= ROUNDING
    assert error(there.T, here.T) <= ROUNDING
    assert error(there.u, here.u + BOOST) <= ROUNDING
    fixed, moving = measure(of, y, x, p, STILL), measure(of, y, x, boosted, STILL)
    if split == "energy":  # R + S = 0: no frame is needed, and none changes anything
        assert error(moving.q, fixed.q) <= ROUNDING
        assert error(fixed.q, here.q) <= ROUNDING
    else:
        assert error(moving.q, fixed.q) > 1e-2


@pytest.mark.parametrize(("potential", "split"), MANY_BODY)
def test_stress_is_symmetric_for_central_splits_only(potential, split):
    x, p, y = phase_point()
    f = measure(system(potential, split), y, x, p, STILL)
    skew = error(f.sigma_potential, f.sigma_potential.swapaxes(1, 2))
    # the part of two states that is not central is a second-order mixing: 1e-4 of the whole
    assert skew > 1e-4 if split == "energy" else skew <= ROUNDING
    assert error(f.sigma_kinetic, f.sigma_kinetic.swapaxes(1, 2)) <= ROUNDING


def test_splits_of_a_pair_potential_agree():
    x, p, y = phase_point()
    # three particles leave `min_norm` no choice (3 bonds, rank 3); more have a smaller Σ v² than the pair forces
    pair, least, energy = (system("pair", s, None, slice(3)) for s in SPLITS)
    for w in (STILL, BOOST):
        f = measure(pair, y, x[:3], p[:3], w)
        same(measure(least, y, x[:3], p[:3], w), f)
        same(measure(energy, y, x[:3], p[:3], w), f)
    assert error(measure(energy, y, x[:3], p[:3], STILL).q, f.q) <= ROUNDING  # R + S = 0: w drops out


# --- rotations, translations, permutations ------------------------------------------------------------------------


@pytest.mark.parametrize(("potential", "split"), MANY_BODY)
def test_fields_turn_and_move_with_the_particles_in_free_space(potential, split):
    of = system(potential, split)
    x, p, y = phase_point()
    w = centre_velocity(p)
    f = measure(of, y, x, p, w)
    c, s = np.cos(0.7), np.sin(0.7)
    mirror = np.diag([1.0, -1.0])
    for turn in (np.array([[c, -s], [s, c]]), mirror, np.array([[c, -s], [s, c]]) @ mirror):
        same(measure(of, y @ turn.T, x @ turn.T, p @ turn.T, turn @ w), f, turn)
    shift = np.array([13.7, -4.1])  # rounding of positions that large: 16 times that of distances
    same(measure(of, y + shift, x + shift, p, w), f, bound=16 * ROUNDING)


ACROSS = np.array([[0.0, 0.0]] * 4 + [[0.9, 2.2]])  # moves the last particle so that bonds cross the boundary


@pytest.mark.parametrize(("potential", "split"), PERIODIC)
def test_fields_move_with_the_particles_through_the_boundary(potential, split):
    of = system(potential, split, CELL)
    x, p, y = phase_point()
    x, w = x + ACROSS, centre_velocity(p)
    f = measure(of, y, x, p, w)
    shift = np.array([2.9, 3.3])
    same(measure(of, y + shift, x + shift, p, w), f)
    fraction = (x + shift) @ np.linalg.inv(CELL.matrix)
    same(measure(of, y + shift, (fraction - np.floor(fraction)) @ CELL.matrix, p, w), f)
    numbers = np.random.default_rng(1).integers(-2, 3, (N, DIM))  # each particle by its own lattice vector
    same(measure(of, y, x + numbers @ CELL.matrix, p, w), f)
    same(measure(of, y + numbers[0] @ CELL.matrix, x, p, w), f)


@pytest.mark.parametrize(("potential", "split"), MANY_BODY)
def test_fields_do_not_depend_on_the_order_of_the_particles(potential, split):
    of, (x, p, y) = system(potential, split), phase_point()
    order = [3, 0, 4, 2, 1]
    f = measure(of, y, x, p, BOOST)
    same(measure(system(potential, split, order=order), y, x[order], p[order], BOOST), f)
    assert error(measure(of, y, x[order], p[order], BOOST).rho, f.rho) > 1e-2  # masses left behind: another system


# --- the virial pressure and the totals ---------------------------------------------------------------------------


@eqx.filter_jit
def _raw(system, y, x, p, mollifier):
    (moments,), totals = system.observe([(y, mollifier)], x, p, system.states - 1)
    return moments, totals


def raw(of, y, x, p, mollifier):
    """Moments at y, and the totals."""
    return jax.tree.map(np.asarray, _raw(of, *map(jnp.asarray, (y, x, p)), mollifier))


def on_grid(of, x, p, mollifier, points):
    """Moments on a grid with `points` along each cell vector, at most 64 points at a time, and the totals."""
    grid = np.array(list(itertools.product(np.arange(points) / points, repeat=DIM))) @ of.space.matrix
    parts = [raw(of, part, x, p, mollifier) for part in np.split(grid, max(len(grid) // 64, 1))]
    whole = jax.tree.map(lambda *a: np.concatenate(a), *(part for part, _ in parts))
    return jax.tree.map(lambda a: a.reshape(points, points, *a.shape[1:]), whole), parts[0][1]


@eqx.filter_jit
def exact_means(of, x, p):
    """Mass, momentum, energy, (Σ p⊗p/M − ∂λ̄/∂strain)/volume: sums over particles, no bonds and no split."""
    k, e = of.states - 1, of.edges(x)

    def strained(h):
        return jnp.sum(of.potential.partition(eqx.tree_at(lambda t: t.d, e, e.d + e.d @ h)))

    if k == 0:
        energy, virial = jax.value_and_grad(strained)(jnp.zeros((DIM, DIM)))
    else:  # particles that do not go round the cell: Σ x⊗∇λ̄
        energy, virial = of.levels(x)[k], -x.T @ of.force(x, k)
    velocity = p / of.masses[:, None]
    sums = (jnp.sum(of.masses), jnp.sum(p, axis=0), jnp.sum(p * velocity) / 2, energy, p.T @ velocity - virial, virial)
    return jax.tree.map(lambda a: a / of.space.volume, sums)


def misfits(moments, exact, every):
    """Errors of averages over every so-many-th point of the grid."""
    mean = jax.tree.map(lambda a: a[::every, ::every].mean(axis=(0, 1)), moments)
    mass, momentum, kinetic, energy, pressure, virial = exact
    return {
        "mass": error(mean.rho, mass),
        "momentum": error(mean.momentum, momentum),
        "kinetic energy": error(mean.energy_kinetic, kinetic),
        "potential energy": error(mean.energy_potential, energy),
        "pressure": error(mean.k - mean.s, pressure),
        "virial": error(mean.s, virial),
    }


# Two states couple all particles, and nearest images of far pairs add up (d_nl = d_nm + d_ml) only if the particles
# do not go round the cell: elsewhere the mean of S of `energy` is not the strain derivative. Hence a wide cell.
WIDE = Periodic([[7.0, 0.0], [0.9, 6.4]])


@pytest.mark.parametrize(
    ("potential", "split", "cell", "shift"),
    [
        ("pair", "distance", CELL, ACROSS),
        ("triplet", "energy", CELL, ACROSS),
        ("two states", "energy", WIDE, 2.9),
    ],
)
def test_volume_mean_of_fourier_moments_is_the_virial_pressure_to_rounding(potential, split, cell, shift):
    of = system(potential, split, cell)
    x, p, _ = phase_point()
    exact = exact_means(of, jnp.asarray(x + shift), jnp.asarray(p))
    moments, totals = on_grid(of, x + shift, p, Fourier(cell.cell, 0.4, 2), 4)
    found = misfits(moments, exact, 1)  # on 4 points all modes but k = 0 cancel
    assert max(found.values()) <= ROUNDING, found
    assert error(totals.virial, exact[-1] * cell.volume) <= ROUNDING
    assert misfits(moments, exact, 2)["mass"] > 1e-3  # 2 points take mode 2 for a constant


def test_volume_mean_of_ball_moments_converges_to_the_virial_pressure():
    of = system("pair", "distance", CELL)
    x, p, _ = phase_point()
    moments, _ = on_grid(of, x + ACROSS, p, BALL, 32)
    exact = exact_means(of, jnp.asarray(x + ACROSS), jnp.asarray(p))
    coarse, fine = (misfits(moments, exact, every) for every in (4, 1))
    for name in coarse:
        # modes of (1 − r²)² fall as k^(−7/2) in the plane, so order 7/2 on the whole; single grids scatter
        assert np.log2(coarse[name] / fine[name]) / 2 > 2.5, (name, coarse, fine)
        assert fine[name] < 1e-4, (name, fine)


# --- images -------------------------------------------------------------------------------------------------------


def test_moments_in_a_box_smaller_than_the_mollifier_are_those_of_the_replicated_box():
    edge, copies = 2.2, 2
    triplet = StillingerWeber(1.0, 0.55, 1.9, 21.0, 1.2, -1 / 3, 7.05, 0.602, 4.0, 0.0)
    x = np.array([[0.2, 0.3], [0.95, 0.5], [2.0, 1.9]])  # the third reaches the first through a corner
    p = np.array([[0.4, -1.0], [1.3, 0.2], [-0.5, 0.7]])
    masses = np.array([1.0, 2.0, 3.5])
    shifts = np.array(list(itertools.product(range(copies), repeat=DIM))) * edge
    many = (x[None] + shifts[:, None]).reshape(-1, DIM)
    small = System(triplet, Periodic([edge] * DIM), masses, split="distance")
    large = System(triplet, Periodic([copies * edge] * DIM), np.tile(masses, len(shifts)), split="distance")
    assert 2 * BALL.radius > edge
    y = phase_point()[2][:3]
    one, _ = raw(small, y, x, p, BALL)
    all_of, _ = raw(large, y, many, np.tile(p, (len(shifts), 1)), BALL)
    for name in ("rho", "momentum", "energy_potential", "k", "s", "j_kinetic", "j_potential", "r"):
        assert error(getattr(one, name), getattr(all_of, name)) <= ROUNDING, name
    assert np.max(np.abs(one.s)) > 0.1 * np.max(np.abs(one.k))  # bonds carry stress here
    # one image of each particle is not enough: mass is missing
    alone = np.asarray(BALL.density(jnp.asarray((y[:, None] - x).T))).T @ masses
    assert error(alone, one.rho) > 0.1
