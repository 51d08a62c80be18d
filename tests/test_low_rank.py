"""Several states on a neighbour list: ∂λ̄ⁿ as own bonds and outer products, summed over all pairs, never stored."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz.mollifiers import Polynomial
from jaxmd_iz.neighbours import neighbour_list
from jaxmd_iz.potentials.base import AbstractPairPotential
from jaxmd_iz.potentials.diabatic import Gaussian, TwoStateFluid
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.space import Periodic
from jaxmd_iz.system import System

CUTOFF = 1.6
BASE = LennardJones(1.0, 0.95, CUTOFF, "force_shift")


class ThreeStates(AbstractPairPotential):
    """φ(r) = (1 − r²/r_c²)³ H with a constant Hermitian H."""

    matrix: jax.Array
    cutoff, states = CUTOFF, 3
    own_bonds = invariant = complex = True
    triangles = False

    @property
    def level(self):
        return jnp.diag(jnp.array([0.0, 0.3, 0.8])).astype(complex)

    def pair(self, r2, one, other):
        weight = jnp.maximum(1.0 - r2 / CUTOFF**2, 0.0) ** 3
        return weight[..., None, None].astype(complex) * jnp.broadcast_to(self.matrix, (*r2.shape, 3, 3))


def fluid(n):
    return TwoStateFluid(BASE, Gaussian(2.0, 0.4, 1.0), Gaussian(1.5, 0.5, 0.9), 0.6, n)


def three(n):
    h = np.random.default_rng(1).normal(size=(2, 3, 3))
    h = h[0] + 1j * h[1]
    return ThreeStates(jnp.asarray(h + h.conj().T) / 2)


def lattice(side, dim, space):
    sites = np.stack(np.meshgrid(*[np.arange(side) * 1.1] * dim, indexing="ij"), -1).reshape(-1, dim)
    rng = np.random.default_rng(2)
    return jnp.asarray(sites + rng.uniform(-0.1, 0.1, sites.shape)), jnp.asarray(rng.normal(size=sites.shape))


@pytest.mark.parametrize(
    ("make", "correction", "split", "odd"),
    [
        (fluid, "none", "energy", False),
        (fluid, "paper", "energy", True),
        (fluid, "none", "distance", False),
        (three, "dboc", "energy", False),
    ],
)
def test_moments_on_a_list_are_those_on_all_pairs(make, correction, split, odd):
    space = Periodic([4.4, 4.5])
    x, p = lattice(4, 2, space)
    x, p = (x[:15], p[:15]) if odd else (x, p)  # pairs n and n + s: an even number has opposite ones
    n = len(x)
    system = System(make(n), space, jnp.linspace(1.0, 3.0, n), None, None, correction, split)
    near = neighbour_list(space, x, CUTOFF)
    y = jnp.array([[0.3, 0.9], [2.0, 1.1], [3.9, 4.2]])

    @jax.jit
    def f(x, p):
        grids = [(y, Polynomial(1.4, 2))]
        links = system.bonds(x, p, 1, near)[1]
        assert links.everywhere is not None and links.d.shape[0] < n * (n - 1) // 2  # the list is a list
        return system.observe(grids, x, p, 1)[0][0], system.observe(grids, x, p, 1, near)[0][0]

    dense, listed = f(x, p)
    for a, b in zip(jax.tree.leaves(dense), jax.tree.leaves(listed), strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-12 * max(1.0, float(jnp.max(jnp.abs(a)))))
    assert float(jnp.max(jnp.abs(dense.r))) > 1e-3 or split == "energy"
    assert float(jnp.max(jnp.abs(dense.s))) > 1e-3


def sizes(jaxpr):
    """Numbers of elements of every array in a program and the programs within it."""
    for equation in jaxpr.eqns:
        for v in equation.outvars:
            yield int(np.prod(v.aval.shape)), str(equation.primitive), v.aval.shape
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda p: isinstance(p, jax.extend.core.ClosedJaxpr)):
            if isinstance(inner, jax.extend.core.ClosedJaxpr):
                yield from sizes(inner.jaxpr)
            elif isinstance(inner, jax.extend.core.Jaxpr):
                yield from sizes(inner)


@pytest.mark.parametrize("correction", ["none", "paper"])
def test_no_array_of_n_by_n_by_3_on_the_two_state_path(correction):
    side = 9
    space, n = Periodic([side * 1.1] * 3), side**3
    x, p = lattice(side, 3, space)
    near = neighbour_list(space, x, CUTOFF)
    system = System(fluid(n), space, jnp.ones(n), correction=correction)
    y = jnp.array([[0.3, 0.9, 1.0]])

    def look(x, p):
        return system.observe([(y, Polynomial(1.0))], x, p, 1, near), system.force(x, 1, near)

    found = list(sizes(jax.make_jaxpr(look)(x, p).jaxpr))
    assert len(found) > 100
    largest = max(found)
    assert largest[0] < n * n, largest  # bonds of the list, K ≪ n of them for each particle, and their components
    dense = max(sizes(jax.make_jaxpr(lambda x, p: system.bonds(x, p, 1)[0].own)(x, p).jaxpr))
    assert dense[0] >= 3 * n * n  # the check can see one


def test_gradients_through_the_sum_over_all_pairs_are_finite_differences():
    space = Periodic([4.4, 4.5])
    x, p = lattice(4, 2, space)
    near = neighbour_list(space, x, CUTOFF, skin=0.1)
    system = System(fluid(16), space, jnp.linspace(1.0, 3.0, 16))
    y = jnp.array([[2.0, 1.1]])

    @eqx.filter_jit
    def stress(x):
        return jnp.sum(system.moments(y, x, p, 0, Polynomial(1.4, 2), near).s[0, 0])

    step, h = jnp.asarray(np.random.default_rng(4).normal(size=x.shape)), 1e-5
    slope = (stress(x + h * step) - stress(x - h * step)) / (2 * h)
    found = jnp.sum(eqx.filter_jit(jax.grad(stress))(x) * step)
    np.testing.assert_allclose(found, slope, rtol=1e-6)  # h² and 1e-16/h
