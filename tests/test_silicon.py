"""Stillinger–Weber silicon against LAMMPS and MDStressLab, and its two partitions against the balance laws."""

import itertools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz.balance import balance_terms, relative_residual
from jaxmd_iz.mollifiers import Polynomial, Trapezoid
from jaxmd_iz.neighbours import neighbour_list
from jaxmd_iz.potentials.many_body import StillingerWeber
from jaxmd_iz.space import Periodic
from jaxmd_iz.system import System

REF = dict(np.load(Path(__file__).parent / "data" / "sw_si216.npz"))
VOIGT = [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]


def error(value, expected):
    value, expected = np.asarray(value), np.asarray(expected)
    return float(np.max(np.abs(value - expected)) / np.max(np.abs(expected)))


def silicon(box, n, split, share="central"):
    return System(StillingerWeber.silicon(share), Periodic(box), np.full(n, float(REF["mass"])), split=split)


@pytest.fixture(scope="module")
def of_216():
    """The surface and the bonds of each split, for momenta M v, on a list with bonds out of range and empty slots."""
    x, v = jnp.asarray(REF["x"]), jnp.asarray(REF["v"])
    near = neighbour_list(Periodic(REF["box"]), x, StillingerWeber.silicon().cutoff, skin=0.2, capacity=20)
    assert not near.overflow and not near.mask.all()
    see = eqx.filter_jit(lambda system: system.bonds(x, v * system.masses[:, None], 0, near))
    return {split: see(silicon(REF["box"], 216, split)) for split in ("energy", "distance")}


def test_forces_are_those_of_lammps(of_216):
    surface, _ = of_216["energy"]
    assert error(-np.asarray(surface.gradient), REF["f_lammps"]) < 1e-9
    assert error(surface.energy, REF["U_centre"]) < 1e-9


def test_per_atom_virials_and_their_current_are_those_of_the_central_partition(of_216):
    """W_i = Σ_j (x_j − x_i) ⊗ ∂U_j/∂x_i, J = Σ W_i v_i: the second index is that of the derivative."""
    surface, bonds = of_216["energy"]
    e, own = jax.tree.map(np.asarray, (surface.on, surface.own))
    by_mover = np.where(e.mask[:, :, None], own[e.to, e.back], 0.0)  # ∂U_j/∂x_i = −this
    w = np.einsum("nkl,nkj->nlj", e.d, by_mover)
    assert error(w, REF["W_centre"]) < 1e-8
    assert error(np.einsum("nlj,nj->l", w, REF["v"]), REF["Jvirial_centre"]) < 1e-8
    assert error(np.einsum("pl,p->l", bonds.d, bonds.g), REF["Jvirial_centre"]) < 1e-8  # what spreads over space
    kinetic = 1.0364269e-4 * REF["mass"] * np.sum(REF["v"] ** 2, axis=1) / 2  # LAMMPS has amu (Å/ps)² so in eV
    assert error(np.einsum("n,nl->l", kinetic + surface.energy, REF["v"]), REF["Jconv_centre"]) < 1e-8


@pytest.mark.parametrize("split", ["energy", "distance"])
def test_split_closes_the_momentum_law(of_216, split):
    """Σ_m f_nm = ∇_nλ: rounding of 20 bonds, whose forces cancel tenfold in a crystal."""
    surface, b = jax.tree.map(np.asarray, of_216[split])
    total = np.zeros((216, 3))
    np.add.at(total, b.i, b.f)
    np.add.at(total, b.j, -b.f)
    assert error(total, surface.gradient) < 1e-12
    virial = np.einsum("pl,pj->lj", b.d, b.f)  # the same for every split: the derivative in the strain
    assert error(virial, np.einsum("nkl,nkj->lj", surface.on.d, surface.own)) < 1e-12


def test_splits_differ_inside_and_only_distance_has_central_forces(of_216):
    def off_axis(b):
        torque = np.cross(b.d, b.f)
        return np.max(np.abs(torque)) / np.max(np.abs(b.f))

    assert off_axis(of_216["distance"][1]) < 1e-14
    assert off_axis(of_216["energy"][1]) > 0.1


def read_mdstresslab(folder):
    """Cell, positions, field points and their stress (xx yy zz xy xz yz, eV/Å³)."""
    lines = (folder / "config.data").read_text().splitlines()
    n = int(lines[0])
    cell = np.array([line.split() for line in lines[4:7]], float)
    x = np.array([line.split()[1:4] for line in lines[8:] if line.strip()], float)
    assert x.shape == (n, 3)
    y = np.loadtxt(folder / "grid_cauchy.data", skiprows=2)
    stress = np.loadtxt(folder / "hardy1Reference.stress", skiprows=2)
    np.testing.assert_allclose(stress[:, :3], y, rtol=1e-12)
    return cell, jnp.asarray(x), jnp.asarray(y), stress[:, 3:]


def test_stress_of_strained_silicon_is_that_of_mdstresslab(reference):
    """8000 atoms, Hardy's trapezoid, central triplet forces. Its ε is that of OpenKIM, 2.1682 eV (Aε = 15.28485)."""
    cell, x, y, stress = read_mdstresslab(reference / "mdstresslab_sw")
    system = silicon(cell, len(x), "distance")
    system = eqx.tree_at(lambda s: s.potential.epsilon, system, jnp.full((1, 1, 1), 2.1682))
    near = neighbour_list(system.space, x, system.potential.cutoff)
    see = eqx.filter_jit(lambda y, x, nl: system.moments(y, x, jnp.zeros_like(x), 0, Trapezoid(5.29216036151419), nl))
    s = see(y, x, near).s
    s = np.asarray(s)
    assert error(s[:, *VOIGT], stress) < 2e-5  # its parameters have six digits
    assert error(s, s.swapaxes(1, 2)) < 1e-12


def crystal():
    """64 atoms away from their sites, with momenta, masses, and a list."""
    rng, a = np.random.default_rng(2), 5.431
    basis = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0], [1, 1, 1], [1, 3, 3], [3, 1, 3], [3, 3, 1]]) / 4
    x = a * np.concatenate([basis + shift for shift in itertools.product((0, 1), repeat=3)])
    x = x + rng.uniform(-0.35, 0.35, x.shape)
    return Periodic([2 * a] * 3), jnp.asarray(x), jnp.asarray(rng.normal(size=x.shape) * 20)


def test_thirds_have_the_same_forces_and_obey_the_laws():
    """A triplet in thirds: λⁿ depends on bonds of its neighbours, so energy currents join atoms without a bond."""
    space, x, p = crystal()
    y = jnp.asarray(np.random.default_rng(4).uniform(0, 10, (4, 3)))
    near = neighbour_list(space, x, StillingerWeber.silicon().cutoff, skin=0.2)
    system = System(StillingerWeber.silicon("thirds"), space, np.linspace(20.0, 40.0, 64), split="distance")

    @eqx.filter_jit
    def look(system):
        w = jnp.sum(p, axis=0) / jnp.sum(system.masses)
        terms = balance_terms(system, y, x, p, 0, w, Polynomial(3.0), near)
        return relative_residual(terms), system.force(x, 0, near)

    r, force = look(system)
    assert max(r.mass, r.momentum, r.energy) < 1e-12, r  # rounding, relative to the sum of the terms' norms
    central = eqx.tree_at(lambda s: s.potential, system, StillingerWeber.silicon())
    assert error(force, eqx.filter_jit(lambda s: s.force(x, 0, near))(central)) < 1e-12
