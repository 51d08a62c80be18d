"""Ab initio electrons: full CI against PySCF, the partition (2.9), couplings with moving orbitals, and (2.15)–(2.16).

`data/pyscf_hydrogen.json` holds levels and gradients computed by PySCF.
"""

import itertools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import eigen
from jaxmd_iz.checks import InputError
from jaxmd_iz.orbitals import configurations, even_tempered, molecule
from jaxmd_iz.orbitals.configurations import excitations
from jaxmd_iz.potentials.electrons import Electrons
from jaxmd_iz.space import Free

REFERENCE = json.loads((Path(__file__).parent / "data" / "pyscf_hydrogen.json").read_text())
HYDROGEN = even_tempered({"H": (0.163, 4.88, 3)})
RNG = np.random.default_rng(5)


def edges(x):
    return Free(3).edges(x, jnp.zeros(x.shape[0], int))


def levels(potential, x):
    return jnp.linalg.eigvalsh(potential.total(edges(x)))


LEVELS = jax.jit(levels)
SLOPES = jax.jit(lambda potential, x, u: jax.jvp(lambda y: levels(potential, y), (x,), (u,)))


@pytest.mark.parametrize("name", REFERENCE["cases"])
def test_levels_and_gradients_are_those_of_pyscf(name):
    case = REFERENCE["cases"][name]
    basis = HYDROGEN if case["basis"] == "even" else case["basis"]
    potential = Electrons(case["symbols"], basis, case["electrons"], case["spin"])
    x, d = jnp.asarray(case["positions"], float), len(case["energies"])
    along = RNG.normal(size=(2, *x.shape))
    found = [[np.asarray(v)[:d] for v in SLOPES(potential, x, jnp.asarray(u))] for u in along]
    slopes = np.einsum("knD,unD->uk", case["gradients"], along)
    # PySCF's integrals and eigenvalues are good to 1e-11; its differences of sixth order to 1e-10, and written so
    np.testing.assert_allclose(found[0][0], case["energies"], rtol=0, atol=1e-10)
    np.testing.assert_allclose([slope for _, slope in found], slopes, rtol=0, atol=2e-9)


def test_ground_state_is_that_of_pyscf_live():
    pytest.importorskip("pyscf", reason="PySCF is not installed: only its stored numbers are compared")
    from pyscf import fci, gto, scf

    x = np.array([[0.0, 0.0, 0.0], [0.2, 0.1, 1.5], [1.9, 0.0, 0.4], [2.2, 0.3, 2.0]])
    potential = Electrons(["H"] * 4)
    basis = {"H": [[0, *map(list, shell)] for shell in dict(potential.basis)[1]]}
    mole = gto.M(atom=[("H", tuple(r)) for r in x], unit="Bohr", basis=basis, verbose=0)
    solver = fci.addons.fix_spin_(fci.FCI(scf.RHF(mole).run(conv_tol=1e-12)), ss=0)
    assert abs(solver.kernel()[0] - float(LEVELS(potential, jnp.asarray(x))[0])) < 1e-8  # their convergence


@pytest.mark.parametrize(("orbitals", "alpha", "beta"), [(4, 2, 2), (5, 3, 1), (6, 3, 3), (3, 2, 0)])
def test_states_of_one_spin_are_counted_by_weyl(orbitals, alpha, beta):
    j, twice = alpha + beta, alpha - beta
    count = (twice + 1) * math.comb(orbitals + 1, beta) * math.comb(orbitals + 1, j - beta + 1) // (orbitals + 1)
    space = configurations(orbitals, alpha, beta)
    assert space.dimension == count
    flat = space.states.reshape(-1, count)
    np.testing.assert_allclose(flat.T @ flat, np.eye(count), rtol=0, atol=1e-13)


def test_excitations_obey_their_algebra():
    e = excitations(4, 2)
    product = np.einsum("pqIM,rsMJ->pqrsIJ", e, e)
    unit = np.eye(4)
    right = np.einsum("qr,psIJ->pqrsIJ", unit, e) - np.einsum("ps,rqIJ->pqrsIJ", unit, e)
    np.testing.assert_array_equal(product - product.transpose(2, 3, 0, 1, 4, 5), right)  # [E_pq, E_rs], whole numbers


def test_transition_densities_give_matrix_elements():
    space = configurations(4, 2, 1)
    h, g = RNG.normal(size=(4, 4)), RNG.normal(size=(4,) * 4)
    h, g = jnp.asarray(h + h.T), jnp.asarray(g + g.transpose(2, 3, 0, 1))
    left, right = jnp.asarray(RNG.normal(size=(2, space.dimension)))
    one, two = jax.jit(space.densities)(left, right)
    exact = left @ jax.jit(space.hamiltonian)(h, g) @ right
    assert abs(jnp.sum(h * one) + 0.5 * jnp.sum(g * two) - exact) < 1e-11  # sums of 300 terms of size 1


# An ion with every term present: δ_a > 0 and v_b on, three nuclei of two kinds, three electrons in doublets.
ION = {"electrons": 3, "softening": 0.05, "confinement": 0.3}
X = np.array([[0.1, 0.2, -0.3], [1.9, 0.1, 0.2], [0.6, 1.7, 0.9]])


def partitions(charges):
    """λ_k and λ_kⁿ from Vⁿ and from density matrices, as one compiled function of x."""
    potential = Electrons(charges, **ION)

    def look(x):
        e = edges(x)
        vn = potential.partition(e)
        energies, psi = jnp.linalg.eigh(jnp.sum(vn, axis=0))
        own = jnp.einsum("ik,nij,jk->kn", psi, vn, psi)
        return energies, own, potential.state_partition(e, psi), levels(potential, x)

    return jax.jit(look)


def test_partition_is_a_sum_rule_invariant_and_free_of_labels():
    look = partitions((2, 1, 1))
    energies, own, by_densities, total = look(jnp.asarray(X))
    # energies of size 10 summed from a hundred terms: 1e-12 is rounding
    np.testing.assert_allclose(jnp.sum(own, axis=1), energies, rtol=0, atol=1e-12)
    np.testing.assert_allclose(by_densities, own, rtol=0, atol=1e-12)
    np.testing.assert_allclose(total, energies, rtol=0, atol=1e-12)
    assert jnp.max(jnp.abs(jnp.diff(own, axis=1))) > 0.1  # the particles differ
    q, _ = np.linalg.qr(RNG.normal(size=(3, 3)))  # a rotation or a reflection
    for value, moved in zip(look(jnp.asarray(X)), look(jnp.asarray(X @ q + [5.0, -3.0, 2.0])), strict=True):
        np.testing.assert_allclose(moved, value, rtol=0, atol=1e-11)  # rounding of positions of size 7
    order = np.array([2, 0, 1])
    swapped = partitions((1, 2, 1))(jnp.asarray(X[order]))
    np.testing.assert_allclose(swapped[0], energies, rtol=0, atol=1e-12)
    np.testing.assert_allclose(swapped[1], own[:, order], rtol=0, atol=1e-12)


def overlaps(potential, x, c, psi, y, c_y, psi_y):
    """⟨Ψ_l(x), Ψ_k(y)⟩ with the true overlap of orbitals on the nuclei x and on those y."""
    basis = molecule(potential.charges, potential.basis)
    a, b = basis.exponents[basis.pairs]

    def overlap(one, other):
        s = np.exp(-a * b / (a + b) * np.sum((one - other) ** 2, axis=1)) * (np.pi / (a + b)) ** 1.5
        return basis.contraction @ s

    left, right = basis.left, basis.right
    upper, lower = overlap(left @ x, right @ y), overlap(right @ x, left @ y)  # the first primitive at x, or the second
    order = np.sign(np.subtract.outer(np.arange(basis.size), np.arange(basis.size)))
    assert np.all(np.bincount(basis.homes) == 1)  # one orbital a nucleus: within one the two differ by nothing
    s = np.where(order <= 0, upper, lower)
    one = c.T @ s @ c_y
    space = potential.configurations
    counts = (potential.electrons + potential.spin) // 2, (potential.electrons - potential.spin) // 2
    up, down = (
        np.array([[np.linalg.det(one[np.ix_(i, j)]) for j in strings] for i in strings])
        for strings in (list(itertools.combinations(range(basis.size), k)) for k in counts)
    )
    big = np.einsum("IKm,IJ,KL,JLn->mn", space.states, up, down, space.states, optimize=True)
    return psi.T @ big @ psi_y


def test_couplings_are_those_of_the_moving_orbitals():
    potential = Electrons((2, 1, 1), **ION)
    x, h, d = X, 1e-3, 5
    at = jax.jit(lambda y: (potential.orthonormal(y), *eigen.eigh(potential.total(edges(y)))[::-1]))
    *here, energies = (np.asarray(v) for v in at(jnp.asarray(x)))

    @jax.jit
    def both(y, c):
        return potential.covariant_gradient(edges(y)), potential.covariant_elements(edges(y), c)

    gradient, few = both(jnp.asarray(x), here[1][:, :d])
    np.testing.assert_allclose(few, here[1][:, :d].T @ gradient @ here[1][:, :d], rtol=0, atol=1e-12)
    np.testing.assert_allclose(gradient, jnp.swapaxes(gradient, 2, 3), rtol=0, atol=1e-12)
    coupling = jax.jit(eigen.coupling)(energies, here[1], gradient)
    np.testing.assert_allclose(coupling, -jnp.swapaxes(coupling, 2, 3), rtol=0, atol=1e-12)
    assert abs(overlaps(potential, x, *here, x, *here) - np.eye(here[1].shape[0])).max() < 1e-12
    for n, i in ((0, 0), (1, 2), (2, 1)):
        found = []
        for step in (-2 * h, -h, h, 2 * h):
            y = x.copy()
            y[n, i] += step
            values = overlaps(potential, x, *here, y, *(np.asarray(v) for v in at(jnp.asarray(y))[:2]))
            found.append(values * np.sign(np.diag(values))[None, :])
        slope = (found[0] - 8 * found[1] + 8 * found[2] - found[3]) / (12 * h)
        # fourth order: h⁴ times fifth derivatives of size 1e2, where gaps are 0.1
        np.testing.assert_allclose(slope[:d, :d], coupling[n, i, :d, :d], rtol=0, atol=1e-8)
        assert np.abs(slope[:d, :d]).max() > 0.05


SQUARE = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [2.0, 2.0, 0.0], [0.0, 2.0, 0.0]])


def test_derivatives_are_exact_on_a_square():
    potential = Electrons(["H"] * 4)  # two eigenvalues of its overlap are equal
    x, u, h = jnp.asarray(SQUARE), jnp.asarray(np.sin(np.arange(12.0)).reshape(4, 3)), 5e-4
    both = jax.jit(lambda y: jax.jvp(jax.grad(lambda z: levels(potential, z)[0]), (y,), (u,)))
    gradient, second = both(x)
    g = [both(x + s * h * u)[0] for s in (-2, -1, 1, 2)]
    np.testing.assert_allclose(
        second, (g[0] - 8 * g[1] + 8 * g[2] - g[3]) / (12 * h), rtol=0, atol=1e-7
    )  # h⁴ · 1e5: gap 0.15
    np.testing.assert_allclose(jnp.sum(gradient, axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(gradient, REFERENCE["cases"]["square H4"]["gradients"][0], rtol=0, atol=2e-9)


def test_levels_are_continuous_in_softening():
    x = jnp.asarray(X)
    soft = jax.jit(lambda delta: levels(Electrons((2, 1, 1), electrons=3, softening=delta), x)[:3])
    exact = LEVELS(Electrons((2, 1, 1), electrons=3), x)[:3]
    deltas = 10.0 ** -np.arange(3, 8)
    gaps = jnp.stack([soft(jnp.asarray(d)) for d in deltas]) - exact[None, :]
    assert jnp.all(jnp.diff(jnp.abs(gaps), axis=0) < 0)  # (2.16)
    # the electron density is finite at a nucleus, so λ(δ) − λ(0) = δ(a + b log 1/δ) + O(δ^{3/2})
    rise = np.diff(np.asarray(gaps / deltas[:, None]), axis=0)
    np.testing.assert_allclose(rise[2:], rise[1:-1], rtol=2e-2)
    assert np.all(rise[1:] > 0.1)
    assert abs(soft(jnp.asarray(1e-12)) - exact).max() < 1e-9  # 1e-12 (a + b log 1e12), b ≈ 10 hartree/bohr²


def test_highest_level_grows_with_the_basis():
    x = jnp.asarray([[0.0, 0.0, 0.0]])
    found = []
    for number in (3, 6):
        found.append(np.asarray(LEVELS(Electrons([1], even_tempered({1: (0.163, 4.88, number)})), x)))
    assert found[0][-1] < found[1][-1] > 1e2  # (2.15): λ_d → ∞ with d
    assert np.all(found[1][:3] <= found[0] + 1e-12)  # min–max: each level falls as the span grows
    assert found[1][0] > -0.5  # the exact atom
    assert abs(found[0][0] + 0.49584) < 1e-4


def test_confinement_raises_every_level():
    x = jnp.asarray(X)
    free, held = (LEVELS(Electrons((2, 1, 1), electrons=3, confinement=k), x) for k in (0.0, 0.3))
    # v_b ≥ 0, and ⟨v_b⟩ ≥ ½k J (3/4p) with the largest exponent p = 6.4 of the basis
    assert jnp.all(held - free > 0.5 * 0.3 * 3 * 0.75 / 6.4)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"charges": []}, "must hold at least one nucleus"),
        ({"charges": [1, 6]}, "be elements that the basis holds (H, He, Li), but one is 6"),
        ({"charges": [1], "basis": "sto"}, "`basis` must be one of `sto-3g`, `even-tempered`"),
        ({"charges": [1, 1], "electrons": 5}, "be from 1 to twice the number of orbitals, but it is 5"),
        ({"charges": [1, 1], "electrons": 0}, "but it is 0"),
        ({"charges": [1, 1], "spin": 1}, "`spin` must be a 2S that the electrons can have, but it is 1"),
        ({"charges": [2], "spin": 2}, "with 2 electrons in 1 orbitals"),
        ({"charges": [1] * 8}, "must give at most 2500 determinants, but 8 electrons in 8 orbitals have 4900"),
        ({"charges": [1, 1], "softening": -1.0}, "`softening` must be finite and not negative"),
        ({"charges": [1, 1], "confinement": [1.0]}, "`confinement` must be a number"),
    ],
)
def test_impossible_electrons_are_refused(arguments, says):
    with pytest.raises(InputError) as error:
        Electrons(**arguments)
    assert says in str(error.value)


def test_positions_must_fit():
    potential = Electrons([1, 1])
    with pytest.raises(InputError, match="hold one number for each particle, but it holds 2 for 3"):
        potential.total(edges(jnp.asarray(X)))
    with pytest.raises(InputError, match="have three dimensions for electrons, but it has 2"):
        potential.total(Free(2).edges(jnp.asarray(X[:2, :2]), jnp.zeros(2, int)))
