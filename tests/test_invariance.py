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

from jaxmd_iz import surfaces
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
MASSES = jnp.linspace(1.0, 6.0, N)
SPECIES = jnp.array([0, 1, 1, 0, 1])
CELL = Periodic([[4.6, 0.0], [0.9, 4.7]])
BALL = Polynomial(1.7, DIM)
TABLE = np.array([[1.0, 0.8], [0.8, 0.6]])
PAIR = LennardJones(TABLE, 0.9 + 0.1 * TABLE, 2.1, "force_shift")
POTENTIALS = {
    "pair": PAIR,
    "triplet": StillingerWeber(1.0, 1.0, 2.1, 21.0, 1.2, -1 / 3, 7.05, 0.602, 4.0, 0.0),
    "two states": TwoStateFluid(PAIR, Gaussian(0.9, 0.6, 1.0), Gaussian(0.5, 0.8, 0.9), 0.9, N),
}
SPLITS = ("distance", "min_norm", "energy")
MANY_BODY = [("triplet", split) for split in SPLITS] + [("two states", "min_norm"), ("two states", "energy")]
# of a wrapped configuration; `min_norm` is refused there and `distance` too for two states
PERIODIC = [("pair", "distance"), ("triplet", "distance"), ("two states", "energy")]


def system(potential, split, space=None, masses=MASSES, species=SPECIES):
    species = species if potential != "triplet" else jnp.zeros_like(species)
    return System(POTENTIALS[potential], space or Free(DIM), masses, species, None, "paper", split, kinds=2)


def phase_point(seed=5):
    """Distances near 1, so that every bond and triplet counts; momenta with a drift; points among the particles."""
    rng = np.random.default_rng(seed)
    x = np.array([[0.0, 0.0], [1.1, 0.1], [0.1, 1.2], [1.2, 1.1], [2.2, 0.5]]) + rng.uniform(-0.12, 0.12, (N, DIM))
    p = rng.normal(size=x.shape) * 1.5 + 0.8
    return jnp.asarray(x), jnp.asarray(p), jnp.asarray(rng.uniform(0.0, 2.0, (7, DIM)))


def centre_velocity(p, masses=MASSES):
    return jnp.sum(p, axis=0) / jnp.sum(masses)


@eqx.filter_jit
def measure(system, y, x, p, w):
    """Fields on the highest surface."""
    return fields(system.moments(y, x, p, system.states - 1, BALL), w)


def error(value, expected):
    return float(jnp.max(jnp.abs(value - expected)) / jnp.max(jnp.abs(expected)))


def same(f, g, rotation=np.eye(DIM), bound=ROUNDING):
    """Every field of f is that of g, rotated."""
    turn = jnp.asarray(rotation)
    for name in ("rho", "number_density", "E", "T", "P"):
        assert error(1.0 + getattr(f, name), 1.0 + getattr(g, name)) <= bound, name
    for name in ("momentum", "u", "q", "q_kinetic", "q_potential"):
        assert error(getattr(f, name), getattr(g, name) @ turn.T) <= bound, name
    for name in ("sigma", "sigma_kinetic", "sigma_potential"):
        assert error(getattr(f, name), turn @ getattr(g, name) @ turn.T) <= bound, name


# --- Galilei ------------------------------------------------------------------------------------------------------

BOOST = jnp.array([1.7, -0.9])


@pytest.mark.parametrize(("potential", "split"), MANY_BODY)
def test_heat_flux_is_galilean_invariant_in_the_frame_of_the_centre_of_mass(potential, split):
    of = system(potential, split)
    x, p, y = phase_point()
    boosted = p + MASSES[:, None] * BOOST[None, :]
    here, there = (measure(of, y, x, a, centre_velocity(a)) for a in (p, boosted))
    assert error(there.q, here.q) <= ROUNDING
    assert error(there.sigma, here.sigma) <= ROUNDING
    assert error(there.T, here.T) <= ROUNDING
    assert error(there.u, here.u + BOOST[None]) <= ROUNDING
    still = jnp.zeros(DIM)
    fixed, moving = measure(of, y, x, p, still), measure(of, y, x, boosted, still)
    if split == "energy":  # R + S = 0: no frame is needed, and none changes anything
        assert error(moving.q, fixed.q) <= ROUNDING
        assert error(fixed.q, here.q) <= ROUNDING
    else:
        assert error(moving.q, fixed.q) > 1e-2


@pytest.mark.parametrize(("potential", "split"), MANY_BODY)
def test_stress_is_symmetric_for_central_splits_only(potential, split):
    of = system(potential, split)
    x, p, y = phase_point()
    f = measure(of, y, x, p, jnp.zeros(DIM))
    skew = error(f.sigma, jnp.swapaxes(f.sigma, 1, 2))
    assert skew > 1e-3 if split == "energy" else skew <= ROUNDING
    assert error(f.sigma_kinetic, jnp.swapaxes(f.sigma_kinetic, 1, 2)) <= ROUNDING


def test_splits_of_a_pair_potential_agree():
    x, p, y = phase_point()
    # particles of a planar frame of 5 have 10 bonds and rank 7, so `min_norm` need not be the pair force; 3 have 3
    few, (masses, species) = slice(0, 3), (MASSES[:3], SPECIES[:3])
    for w in (jnp.zeros(DIM), BOOST):  # R + S = 0, so that w drops out as well
        all_of = [measure(system("pair", s, None, masses, species), y, x[few], p[few], w) for s in SPLITS]
        same(all_of[1], all_of[0])
        same(all_of[2], all_of[0])
    assert (
        error(all_of[0].q, measure(system("pair", "energy", None, masses, species), y, x[few], p[few], -w).q)
        <= ROUNDING
    )
    larger = [measure(system("pair", s), y, x, p, BOOST) for s in ("distance", "energy")]
    same(*larger)


# --- rotations, translations, permutations ------------------------------------------------------------------------


def rotations():
    c, s = np.cos(0.7), np.sin(0.7)
    turn = np.array([[c, -s], [s, c]])
    return {"turn": turn, "mirror": np.diag([1.0, -1.0]), "turn and mirror": turn @ np.diag([-1.0, 1.0])}


@pytest.mark.parametrize(("potential", "split"), MANY_BODY)
def test_fields_turn_and_move_with_the_particles_in_free_space(potential, split):
    of = system(potential, split)
    x, p, y = phase_point()
    w = centre_velocity(p)
    f = measure(of, y, x, p, w)
    for turn in map(jnp.asarray, rotations().values()):
        same(measure(of, y @ turn.T, x @ turn.T, p @ turn.T, turn @ w), f, turn)
    shift = jnp.array([[13.7, -4.1]])  # rounding of positions that large: 16 times that of distances
    same(measure(of, y + shift, x + shift, p, w), f, bound=16 * ROUNDING)


@pytest.mark.parametrize(("potential", "split"), PERIODIC)
def test_fields_move_with_the_particles_through_the_boundary(potential, split):
    of = system(potential, split, CELL)
    x, p, y = phase_point()
    x, w = x.at[4].add(jnp.array([0.9, 2.2])), centre_velocity(p)  # bonds through the boundary from the start
    f = measure(of, y, x, p, w)
    shift = jnp.array([[2.9, 3.3]])
    same(measure(of, y + shift, x + shift, p, w), f)
    same(measure(of, (y + shift) @ jnp.eye(DIM), jnp.asarray(_wrap(x + shift)), p, w), f)
    numbers = np.random.default_rng(1).integers(-2, 3, (N, DIM))  # each particle by its own lattice vector
    same(measure(of, y, x + jnp.asarray(numbers @ CELL.matrix), p, w), f)
    same(measure(of, y + jnp.asarray(numbers[:1] @ CELL.matrix), x, p, w), f)


def _wrap(x):
    fraction = np.asarray(x) @ np.linalg.inv(CELL.matrix)
    return (fraction - np.floor(fraction)) @ CELL.matrix


@pytest.mark.parametrize(("potential", "split"), [*MANY_BODY, ("pair", "distance")])
def test_fields_do_not_depend_on_the_order_of_the_particles(potential, split):
    of = system(potential, split)
    x, p, y = phase_point()
    order = jnp.array([3, 0, 4, 2, 1])
    w = centre_velocity(p)
    moved = eqx.tree_at(lambda s: (s.masses, s.species), of, (of.masses[order], of.species[order]))
    same(measure(moved, y, x[order], p[order], w), measure(of, y, x, p, w))
    swapped = measure(of, y, x[order], p[order], w)  # the particles carry their masses: this one is another system
    assert error(swapped.rho, measure(of, y, x, p, w).rho) > 1e-2


# --- the virial pressure and the totals ---------------------------------------------------------------------------

@eqx.filter_jit
def raw(system, y, x, p, mollifier):
    """Moments at y, and the totals."""
    (moments,), totals = system.observe([(y, mollifier)], x, p, system.states - 1)
    return moments, totals


def on_grid(of, x, p, mollifier, points):
    """Moments on a grid with `points` along each cell vector, 64 points at a time, and the totals."""
    grid = np.array(list(itertools.product(np.arange(points) / points, repeat=DIM))) @ of.space.matrix
    parts = [raw(of, jnp.asarray(part), x, p, mollifier) for part in np.split(grid, max(len(grid) // 64, 1))]
    whole = jax.tree.map(lambda *a: np.concatenate(a), *(part for part, _ in parts))
    return jax.tree.map(lambda a: a.reshape(points, points, *a.shape[1:]), whole), parts[0][1]


@eqx.filter_jit
def exact_means(of, x, p):
    """Mass, momentum, energy and (Σ p⊗p/M − ∂λ̄/∂strain)/volume: sums over particles, no bonds and no split."""
    k = of.states - 1

    def strained(h):
        e = of.edges(x)
        e = eqx.tree_at(lambda t: t.d, e, e.d + e.d @ h)
        return surfaces.levels(of.potential, e, of.masses, of.correction)[k]

    energy, virial = jax.value_and_grad(strained)(jnp.zeros((DIM, DIM)))
    velocity = p / of.masses[:, None]
    kinetic = jnp.sum(p * velocity) / 2
    sums = (jnp.sum(of.masses), jnp.sum(p, axis=0), kinetic, energy, p.T @ velocity - virial, virial)
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
    ("potential", "split", "cell"),
    [("pair", "distance", CELL), ("triplet", "distance", CELL), ("triplet", "energy", CELL), ("two states", "energy", WIDE)],
)
def test_volume_mean_of_fourier_moments_is_the_virial_pressure_to_rounding(potential, split, cell):
    of = system(potential, split, cell)
    x, p, _ = phase_point()
    shift = 2.9 if cell is WIDE else jnp.array([[0.0, 0.0]] * 4 + [[0.9, 2.2]])  # bonds through the boundary
    x, exact = x + shift, exact_means(of, x + shift, p)
    moments, totals = on_grid(of, x, p, Fourier(cell.cell, 0.4, 3), 4)
    found = misfits(moments, exact, 1)  # 4 points: all modes up to 3 cancel but k = 0
    assert max(found.values()) <= ROUNDING, found
    assert error(totals.virial, exact[-1] * cell.volume) <= ROUNDING
    assert misfits(moments, exact, 2)["mass"] > 1e-3  # 2 points take mode 2 for a constant


def test_volume_mean_of_ball_moments_converges_to_the_virial_pressure():
    of = system("two states", "energy", WIDE)
    x, p, _ = phase_point()
    moments, _ = on_grid(of, x + 2.9, p, BALL, 32)
    coarse, middle, fine = (misfits(moments, exact_means(of, x + 2.9, p), every) for every in (4, 2, 1))
    for name in coarse:
        # modes of (1 − r²)² fall as k^(−7/2) in the plane, so order 7/2 on the whole; single grids scatter
        assert np.log2(coarse[name] / fine[name]) / 2 > 2.5, (name, coarse, middle, fine)
        assert fine[name] < 1e-4, (name, fine)


# --- images -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("potential", ["pair", "triplet"])
def test_moments_in_a_box_smaller_than_the_mollifier_are_those_of_the_replicated_box(potential):
    edge, copies = 2.2, 2
    choice = {
        "pair": LennardJones(1.0, 0.8, 1.05, "force_shift"),
        "triplet": StillingerWeber(1.0, 0.55, 1.9, 21.0, 1.2, -1 / 3, 7.05, 0.602, 4.0, 0.0),
    }[potential]
    x = jnp.array([[0.2, 0.3], [0.95, 0.5], [2.0, 1.9]])  # the third reaches the first through a corner
    p = jnp.array([[0.4, -1.0], [1.3, 0.2], [-0.5, 0.7]])
    masses = jnp.array([1.0, 2.0, 3.5])
    shifts = jnp.asarray(np.array(list(itertools.product(range(copies), repeat=DIM))) * edge)
    many = jnp.reshape(x[None] + shifts[:, None], (-1, DIM))
    tile = len(shifts)
    small = System(choice, Periodic([edge] * DIM), masses, split="distance")
    large = System(choice, Periodic([copies * edge] * DIM), jnp.tile(masses, tile), split="distance")
    assert 2 * BALL.radius > edge
    y = phase_point()[2][:3]
    one, _ = raw(small, y, x, p, BALL)
    all_of, _ = raw(large, y, many, jnp.tile(p, (tile, 1)), BALL)
    for name in ("rho", "momentum", "energy_potential", "k", "s", "j_kinetic", "j_potential", "r"):
        assert error(getattr(one, name), getattr(all_of, name)) <= ROUNDING, name
    assert jnp.max(jnp.abs(one.s)) > 0.1 * jnp.max(jnp.abs(one.k))  # bonds carry stress here
    # without the images, mass is missing
    alone = sum(masses[i] * BALL.density((y - x[i]).T) for i in range(3))
    assert error(alone, one.rho) > 0.1
