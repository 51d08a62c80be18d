"""Surfaces λ̄_k, their partition, gradients and couplings: closed forms, general forms, and the order of (5.3).

Entries of V and its derivatives are of order 1 and gaps above 0.1, so 1e-12 is rounding with three digits to spare.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import eigen, nonlinear, surfaces
from jaxmd_iz.neighbours import neighbour_list
from jaxmd_iz.potentials.base import AbstractPairPotential, matrix_partition
from jaxmd_iz.potentials.diabatic import Gaussian, TwoStateFluid
from jaxmd_iz.potentials.many_body import StillingerWeber
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.space import Free, Periodic

ROUNDING = 1e-12
N, DIM = 4, 2
SPACE = Free(DIM)
SPECIES = jnp.zeros(N, int)
MASSES = jnp.array([1.0, 2.5, 4.0, 6.0])
X = np.array([[0.1, 0.0], [1.15, 0.2], [0.3, 1.1], [1.4, 1.3]])
STEP = np.random.default_rng(0).normal(size=X.shape)
BASE = LennardJones(1.0, 0.9, 2.0, "force_shift")
FLUID = TwoStateFluid(BASE, Gaussian(2.0, 0.6, 1.0), Gaussian(1.5, 0.8, 0.9), 0.9, N)


class Embedded(AbstractPairPotential):
    """The fluid in complex numbers: the same V, through the general eigenproblem."""

    fluid: TwoStateFluid
    states, cutoff = 2, 2.0
    own_bonds = invariant = complex = True
    triangles = False

    @property
    def level(self):
        return self.fluid.level.astype(complex)

    def pair(self, r2, one, other):
        return self.fluid.pair(r2, one, other).astype(complex)


class ThreeStates(AbstractPairPotential):
    """φ(r) = Σ_c e^{−r²/w_c²} H_c with constant Hermitian H_c."""

    matrices: jax.Array
    states, cutoff = 3, float("inf")
    own_bonds = invariant = True
    triangles = False

    def __init__(self, complex):
        rng = np.random.default_rng(3)
        h = rng.normal(size=(3, 3, 3)) + (1j * rng.normal(size=(3, 3, 3)) if complex else 0.0)
        self.matrices = jnp.asarray(h + h.conj().swapaxes(1, 2)) / 3

    @property
    def complex(self):
        return jnp.iscomplexobj(self.matrices)

    @property
    def level(self):
        return jnp.diag(jnp.array([0.0, 0.4, 1.1])).astype(self.matrices.dtype)

    def pair(self, r2, one, other):
        widths = jnp.array([1.0, 2.0, 4.0]).reshape((1,) * r2.ndim + (3,))
        weights = jnp.exp(-r2[..., None] / widths).astype(self.matrices.dtype)
        return jnp.einsum("...c,cij->...ij", weights, self.matrices)


POTENTIALS = {"fluid": FLUID, "real": ThreeStates(False), "complex": ThreeStates(True)}
CASES = [("fluid", "none"), ("fluid", "paper"), ("real", "paper"), ("complex", "dboc")]
every = pytest.mark.parametrize(("name", "correction"), CASES)


@eqx.filter_jit
def _everything(potential, x, masses, correction):
    def partition(x):
        return surfaces.partition(potential, SPACE.edges(x, SPECIES), masses, correction)

    e = SPACE.edges(x, SPECIES)

    def of_state(k):
        s = surfaces.surface(potential, e, masses, k, correction)
        near = -s.own + jnp.einsum("Ln,LmD->nmD", s.a, s.b)  # ∂_{xᵐ}λ̄ⁿ, m ≠ n
        same = jnp.sum(s.own, axis=1) + jnp.einsum("Ln,LnD->nD", s.a, s.b)
        rows = jnp.where(jnp.eye(N, dtype=bool)[:, :, None], same[:, None, :], near)
        return s.energy, s.gradient, s.external, rows, surfaces.gradient(potential, e, masses, k, correction)

    energy, gradient, external, rows, direct = jax.vmap(of_state)(jnp.arange(potential.states))
    v = jnp.sum(matrix_partition(potential, e), axis=0)
    return {
        "levels": surfaces.levels(potential, e, masses, correction),
        "partition": partition(x),
        "jacobian": jax.jacfwd(partition)(x),
        "energy": energy,
        "gradient": gradient,
        "external": external,
        "rows": rows,
        "direct": direct,
        "matrix": v,
        "vectors": eigen.eigh(v)[1],
        "couplings": surfaces.couplings(potential, e),
    }


def everything(name, correction, x=X, masses=MASSES, potential=None):
    result = _everything(potential or POTENTIALS[name], jnp.asarray(x), masses, correction)
    return {k: np.asarray(a) for k, a in result.items()}


def error(value, expected):
    return np.max(np.abs(value - expected)) / np.max(np.abs(expected))


@every
def test_energies_of_particles_sum_to_the_level(name, correction):
    got = everything(name, correction)
    assert error(got["partition"].sum(axis=1), got["levels"]) <= ROUNDING
    assert error(got["energy"], got["partition"]) <= ROUNDING
    assert np.min(np.diff(np.linalg.eigvalsh(got["matrix"]))) > 0.1
    assert np.ptp(got["partition"][0]) > 0.01  # the particles differ


@every
def test_own_bonds_and_outer_products_are_the_whole_jacobian(name, correction):
    got = everything(name, correction)
    assert error(got["rows"], got["jacobian"]) <= ROUNDING
    far = got["jacobian"] - got["jacobian"].swapaxes(1, 2)
    assert np.max(np.abs(far)) > 1e-2  # no symmetric table of pair forces would do
    # every λ̄ⁿ is translation invariant: gⁿ = 0
    assert np.max(np.abs(got["jacobian"].sum(axis=2))) <= ROUNDING * np.max(np.abs(got["jacobian"]))
    assert not got["external"].any()


@every
def test_gradient_is_that_of_the_level_in_three_ways(name, correction):
    got = everything(name, correction)
    assert error(got["gradient"], got["jacobian"].sum(axis=1)) <= ROUNDING
    assert error(got["direct"], got["gradient"]) <= ROUNDING
    h = 1e-5
    up, down = (everything(name, correction, X + s * STEP)["levels"] for s in (h, -h))
    # h² third derivatives, of order 1e3 for Lennard-Jones inside its minimum, and 1e-16/h
    np.testing.assert_allclose((up - down) / (2 * h), np.sum(got["gradient"] * STEP, axis=(1, 2)), rtol=1e-6)


def test_closed_form_of_two_real_states_is_the_general_one():
    @jax.jit
    def general(x):
        def partition(x):
            return surfaces.partition(Embedded(FLUID), SPACE.edges(x, SPECIES), MASSES, "paper")

        return partition(x), jax.jacfwd(partition)(x), surfaces.couplings(Embedded(FLUID), SPACE.edges(x, SPECIES))

    closed = everything("fluid", "paper")
    partition, jacobian, couplings = map(np.asarray, general(jnp.asarray(X)))
    assert np.iscomplexobj(couplings)
    assert error(partition, closed["partition"]) <= ROUNDING
    assert error(jacobian, closed["jacobian"]) <= ROUNDING
    assert error(jacobian.sum(axis=1), closed["gradient"]) <= ROUNDING
    # couplings have the phases of the eigenvectors: compare their sizes
    assert error(np.abs(couplings), np.abs(closed["couplings"])) <= ROUNDING


def test_correction_of_two_real_states_is_that_of_the_mixing_angle():
    def alpha(x):
        v = jnp.sum(matrix_partition(FLUID, SPACE.edges(x, SPECIES)), axis=0)
        return jnp.arctan2(2 * v[0, 1], v[0, 0] - v[1, 1])

    @jax.jit
    def f(x):
        light = MASSES / 300
        square = jnp.sum(jnp.sum(jax.grad(alpha)(x) ** 2, axis=1) / light)
        return square, *(surfaces.levels(FLUID, SPACE.edges(x, SPECIES), light, c) for c in nonlinear.KAPPA)

    square, none, paper, dboc = map(np.asarray, f(jnp.asarray(X)))
    # (5.28): λ_± + |∇α|²/16M, the same for both states; `dboc` has twice that
    np.testing.assert_allclose(paper - none, square / 16, rtol=1e-11)  # a difference of levels 10² times larger
    np.testing.assert_allclose(dboc - none, square / 8, rtol=1e-11)
    assert square / 16 > 1e-2


@pytest.mark.parametrize(("name", "correction"), CASES[1:])
def test_couplings_are_the_derivative_of_the_eigenvectors(name, correction):
    got = everything(name, correction)
    d = got["couplings"]
    assert np.max(np.abs(d + d.conj().swapaxes(0, 1))) <= 1e-14 * np.max(np.abs(d))  # anti-Hermitian
    assert not np.einsum("kknD->knD", d).any()  # parallel transport
    psi, h = got["vectors"], 1e-5

    def moved(s):  # numpy's eigenvectors, with phases such that ⟨ψ_k, ψ_k(x + s)⟩ > 0
        vectors = np.linalg.eigh(everything(name, correction, X + s * STEP)["matrix"])[1]
        overlap = np.einsum("ik,ik->k", psi.conj(), vectors)
        return vectors * (overlap.conj() / np.abs(overlap))

    expected = psi.conj().T @ (moved(h) - moved(-h)) / (2 * h)
    along = np.einsum("lknD,nD->lk", d, STEP)
    assert np.max(np.abs(along - expected)) <= 1e-7 * np.max(np.abs(along))  # h² and 1e-16/h


# --- the nonlinear eigenproblem -----------------------------------------------------------------------------------


@eqx.filter_jit
def nonlinear_residual(potential, x, masses, correction):
    """‖Ψ*(V + Σ (κ/M_n) Ψ(∇_nΨ*·∇_nΨ)Ψ*)Ψ − Λ̄‖ of (5.2), with Ψ of the first iterate."""

    def solve(x):
        w = jnp.sum(nonlinear.electron_matrices(potential, SPACE.edges(x, SPECIES), masses, correction), axis=0)
        return eigen.eigh(w)

    levels, psi = solve(x)
    _, slope = jax.jacfwd(solve)(x)  # parallel transport: ⟨ψ_k, ∇ψ_k⟩ = 0
    v = jnp.sum(matrix_partition(potential, SPACE.edges(x, SPECIES)), axis=0)
    term = jnp.einsum("ijnD,iknD,n->jk", slope.conj(), slope, (0.25 / masses).astype(slope.dtype))
    return jnp.max(jnp.abs(psi.conj().T @ v @ psi + term - jnp.diag(levels).astype(v.dtype)))


def test_first_iterate_solves_the_nonlinear_problem_to_second_order():
    masses = [100.0 * 4**i * MASSES for i in range(4)]

    def orders(correction):
        found = [float(nonlinear_residual(POTENTIALS["complex"], jnp.asarray(X), m, correction)) for m in masses]
        return np.log(np.divide(found[:-1], found[1:])) / np.log(4)

    # asymptotic orders 2 and 1; the largest gap over M is 1e-2 at the lightest masses, so a few per cent
    assert np.all(np.abs(orders("paper") - 2) < 0.1)
    assert np.all(np.abs(orders("none") - 1) < 0.1)


# --- special points -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("correction", ["none", "paper"])
def test_gradients_are_finite_at_contacts_cutoffs_and_crossings(correction):
    touching, edge, apart = X.copy(), X.copy(), 10.0 * X
    touching[1] = touching[0]
    edge[1] = edge[0] + [2.0, 0.0]  # exactly the cutoff
    for x in (touching, edge, apart):
        got = everything("fluid", correction, x)
        assert all(np.all(np.isfinite(a)) for a in got.values())
    # no coupling and no gap: an exact crossing, where the derivatives of r and α are set to zero
    crossing = eqx.tree_at(lambda p: p.gap, FLUID, jnp.zeros(()))
    got = everything("fluid", correction, apart, potential=crossing)
    assert all(np.all(np.isfinite(a)) for a in got.values())
    assert got["levels"][0] == got["levels"][1]


# --- fast paths and lists -----------------------------------------------------------------------------------------

CELL = Periodic([4.2, 4.4])
MANY = np.stack(np.meshgrid([0.2, 1.3, 2.2, 3.2], [0.1, 1.2, 2.1, 3.3]), -1).reshape(-1, 2)[::-1] ** 1.02
KINDS, WEIGHTS = jnp.zeros(16, int), jnp.linspace(1.0, 3.0, 16)


@pytest.mark.parametrize("potential", [BASE, FLUID], ids=["one state", "two states"])
def test_fast_gradient_is_the_generic_one_dense_and_listed(potential):
    listed = neighbour_list(CELL, jnp.asarray(MANY), potential.cutoff)

    def combine(levels):
        return -jnp.log(jnp.sum(jnp.exp(-levels)))

    def total(x):
        return combine(surfaces.levels(potential, CELL.edges(x, KINDS), WEIGHTS, "paper"))

    @jax.jit
    def both(x):
        both_edges = (CELL.edges(x, KINDS), listed.edges(CELL, x, KINDS))
        fast = [surfaces.value_and_gradient(potential, e, WEIGHTS, "paper", combine) for e in both_edges]
        return jax.value_and_grad(total)(x), *fast

    generic, dense, sparse = jax.tree.map(np.asarray, both(jnp.asarray(MANY + 0.05 * np.sin(9 * MANY))))
    for value, gradient in (dense, sparse):
        assert error(value, generic[0]) <= ROUNDING
        assert error(gradient, generic[1]) <= ROUNDING


@pytest.mark.parametrize("share", [None, "central", "thirds"])
def test_surface_on_a_list_is_that_on_all_pairs(share):
    potential = BASE if share is None else StillingerWeber(1.0, 1.0, 2.0, 21.0, 1.2, -1 / 3, 7.05, 0.6, 4.0, 0.0, share)
    listed = neighbour_list(CELL, jnp.asarray(MANY), potential.cutoff)
    assert listed.to.shape[1] < 15

    @jax.jit
    def f(x):
        dense, sparse = CELL.edges(x, KINDS), listed.edges(CELL, x, KINDS)
        whole = surfaces.surface(potential, dense, WEIGHTS, 0)
        return whole, surfaces.surface(potential, sparse, WEIGHTS, 0, all_pairs=None if share != "thirds" else dense)

    whole, part = jax.tree.map(np.asarray, f(jnp.asarray(MANY)))
    assert error(part.energy, whole.energy) <= ROUNDING
    assert error(part.gradient, whole.gradient) <= ROUNDING
    i, slot = np.nonzero(part.on.mask)
    own = np.zeros_like(whole.own)
    own[i, part.on.to[i, slot]] = part.own[i, slot]
    assert error(own[whole.on.mask], whole.own[whole.on.mask]) <= ROUNDING  # pairs beyond the cutoff have none
