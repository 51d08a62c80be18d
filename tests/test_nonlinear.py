"""The nonlinear eigenproblem beyond its first iterate, the d lowest states, and the diagonal partition (2.11).

Entries of V and its derivatives are of order 1 and gaps above 0.1, so 1e-12 is rounding with three digits to spare.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import surfaces
from jaxmd_iz.checks import InputError
from jaxmd_iz.nonlinear import Iterated, converge, electron_matrices, residual
from jaxmd_iz.populations import diabatic_populations
from jaxmd_iz.potentials.adiabatic import DiagonalPartition, Lowest
from jaxmd_iz.potentials.base import AbstractPairPotential, FromFunction, matrix_gradient, matrix_partition
from jaxmd_iz.space import Free

ROUNDING = 1e-12
SPACE = Free(1)
X = jnp.array([[0.0], [0.9], [2.1]])
MASSES = jnp.array([1.0, 2.0, 3.0])
STEP = jnp.array([[0.3], [-0.8], [0.5]])


class Pairs(AbstractPairPotential):
    """φ(r) = Σ_c e^{−r²/w_c} H_c with constant Hermitian H_c of d states."""

    matrices: jax.Array
    cutoff = float("inf")
    own_bonds = invariant = True
    triangles = False

    def __init__(self, d, complex):
        rng = np.random.default_rng(d)
        h = rng.normal(size=(2, d, d)) + (1j * rng.normal(size=(2, d, d)) if complex else 0.0)
        self.matrices = jnp.asarray(h + h.conj().swapaxes(1, 2)) / 4

    @property
    def states(self):
        return self.matrices.shape[-1]

    @property
    def complex(self):
        return jnp.iscomplexobj(self.matrices)

    @property
    def level(self):
        return jnp.diag(0.4 * jnp.arange(float(self.states)) ** 1.3).astype(self.matrices.dtype)

    def pair(self, r2, one, other):
        weights = jnp.exp(-r2[..., None] / jnp.array([1.0, 3.0]).reshape((1,) * r2.ndim + (2,)))
        return jnp.einsum("...c,cij->...ij", weights.astype(self.matrices.dtype), self.matrices)


POTENTIALS = {"real 2": Pairs(2, False), "real 3": Pairs(3, False), "complex 3": Pairs(3, True)}


def edges(x=X):
    return SPACE.edges(x, jnp.zeros(x.shape[0], int))


PAIR = edges(X[:2])  # each iteration differentiates the one before in every coordinate


@pytest.mark.parametrize(("name", "correction"), [("real 3", "dboc"), ("complex 3", "paper")])
def test_each_iterate_gains_one_order_of_the_mass(name, correction):
    masses = [30.0 * 4**i * MASSES[:2] for i in range(3)]
    for iterations in (0, 1, 2) if name == "complex 3" else (0, 1):
        f = eqx.filter_jit(lambda m, i=iterations: residual(POTENTIALS[name], PAIR, m, correction, i))
        found = [float(f(m)) for m in masses]
        orders = np.log(np.divide(found[:-1], found[1:])) / np.log(4)
        # the next term is smaller by 1/(M gap) < 0.1 at the lightest masses
        assert np.all(np.abs(orders - (iterations + 1)) < 0.15), (iterations, orders)


def test_two_real_states_solve_the_nonlinear_problem_exactly():
    # (5.28): Gⁿ ∝ I, so the eigenvectors of V are those of W and one iterate is the solution
    _, found = converge(POTENTIALS["real 2"], PAIR, 10 * MASSES[:2])
    assert len(found) == 1
    assert found[0] <= ROUNDING


def test_iteration_converges_to_rounding_and_starts_from_the_first_iterate():
    potential, masses = POTENTIALS["real 3"], 300 * MASSES[:2]
    last, found = converge(potential, PAIR, masses, tolerance=1e-13, most=2)
    assert last.iterations == len(found) - 1 == 2
    assert all(b < 0.05 * a for a, b in itertools.pairwise(found))
    once = Iterated(potential, masses, "paper", 1).partition(PAIR)
    np.testing.assert_array_equal(once, electron_matrices(potential, PAIR, masses, "paper"))


def test_iterates_are_surfaces_with_sum_rule_and_gradient():
    potential = Iterated(POTENTIALS["complex 3"], 50 * MASSES, "paper", 2)

    @jax.jit
    def f(x):
        s = surfaces.surface(potential, edges(x), MASSES, 1, "none")
        return s.energy, s.gradient, surfaces.levels(potential, edges(x), MASSES, "none")[1]

    energy, gradient, level = f(X)
    np.testing.assert_allclose(jnp.sum(energy), level, rtol=ROUNDING)
    h = 1e-4
    slope = (f(X + h * STEP)[2] - f(X - h * STEP)[2]) / (2 * h)
    np.testing.assert_allclose(jnp.sum(gradient * STEP), slope, rtol=1e-6)  # h² and 1e-16/h


# --- the d lowest states -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["real 3", "complex 3"])
def test_lowest_states_have_the_levels_partition_and_couplings_of_all(name):
    potential = POTENTIALS[name]
    lowest = Lowest(potential, 2)

    @jax.jit
    def f(x):
        e = edges(x)
        return [
            (
                surfaces.levels(p, e, MASSES, "none")[:2],
                surfaces.partition(p, e, MASSES, "none")[:2],
                jnp.abs(surfaces.couplings(p, e)[:2, :2]),
                surfaces.surface(p, e, MASSES, 1, "none").gradient,
                diabatic_populations(p, e, MASSES, 1, "none"),
            )
            for p in (potential, lowest)
        ]

    for whole, part in zip(*f(X), strict=True):
        np.testing.assert_allclose(part, whole, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("wrap", [lambda p: Lowest(p, 3), DiagonalPartition], ids=["all states", "diagonal"])
def test_a_moving_basis_changes_no_surface(wrap):
    # all states kept: the same operator in another basis, so λ̄_k of (5.3) is the same
    potential, masses = POTENTIALS["complex 3"], 20 * MASSES

    @jax.jit
    def f(x):
        return [
            (
                surfaces.levels(p, edges(x), masses, "paper"),
                surfaces.gradient(p, edges(x), masses, 1, "paper"),
                surfaces.surface(p, edges(x), masses, 1, "paper").gradient,
                diabatic_populations(p, edges(x), masses, 1, "paper"),
            )
            for p in (potential, wrap(potential))
        ]

    for whole, part in zip(*f(X), strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-11, atol=1e-11)  # two eigenproblems and their derivatives


def test_diagonal_partition_keeps_energies_without_and_changes_them_with_the_correction():
    potential, masses = POTENTIALS["real 3"], 2 * MASSES
    diagonal = DiagonalPartition(potential)

    @jax.jit
    def f(x):
        return {
            correction: [surfaces.partition(p, edges(x), masses, correction) for p in (potential, diagonal)]
            for correction in ("none", "paper")
        }

    found = f(X)
    np.testing.assert_allclose(*found["none"], rtol=ROUNDING, atol=ROUNDING)
    full, own = found["paper"]
    np.testing.assert_allclose(jnp.sum(full, axis=1), jnp.sum(own, axis=1), rtol=ROUNDING)  # the sum rule of each
    assert np.max(np.abs(full - own)) > 1e-4
    off = diagonal.partition(edges())
    psi = np.linalg.eigh(np.asarray(jnp.sum(off, axis=0)))[1]
    inside = psi.T @ np.asarray(off) @ psi
    assert np.max(np.abs(inside - np.einsum("nkk,kl->nkl", inside, np.eye(3)))) <= ROUNDING


def test_populations_sum_to_one():
    found = diabatic_populations(Lowest(POTENTIALS["complex 3"], 2), edges(), 5 * MASSES, 0, "paper")
    assert found.shape == (3,)
    np.testing.assert_allclose(jnp.sum(found), 1.0, rtol=ROUNDING)


def test_covariant_gradient_is_that_of_the_basis_held_fixed():
    potential = POTENTIALS["real 3"]
    c = np.linalg.eigh(np.asarray(jnp.sum(matrix_partition(potential, edges()), axis=0)))[1][:, :2]
    held = np.abs(c.T @ np.asarray(matrix_gradient(potential, edges())) @ c)
    np.testing.assert_allclose(np.abs(matrix_gradient(Lowest(potential, 2), edges())), held, atol=ROUNDING)


@pytest.mark.parametrize(
    "act",
    [
        lambda: Lowest(POTENTIALS["real 3"], 4),
        lambda: Lowest(FromFunction(lambda x: x[:, 0]), 0),
        lambda: Iterated(Lowest(POTENTIALS["real 3"], 2), MASSES, "paper", 2),
        lambda: Iterated(POTENTIALS["real 3"], MASSES, "paper", -1),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(act):
    with pytest.raises(InputError, match=r"^Argument `\w+` must .*, but .*\."):
        act()
