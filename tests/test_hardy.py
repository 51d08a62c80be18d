"""Hardy fields and the virial of a Lennard-Jones liquid against LAMMPS and an independent evaluation.

LAMMPS, and the evaluation of the heat flux, see a bond from each of its two ends, half from each, in the image of that
end which is nearest to y. With R + r_c = 5.5 against L/2 = 4.2 this leaves out images that reach y, 2e-4 of the
stress; here every image counts, as the conservation laws need. So S and J are compared in the images of LAMMPS, with
our bonds, forces and bond function; and the sum over every image is compared with a cell in which both agree.
"""

import itertools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz.fields import fields
from jaxmd_iz.mollifiers import Polynomial
from jaxmd_iz.moments import spread_bonds
from jaxmd_iz.neighbours import neighbour_list
from jaxmd_iz.pair_split import Bonds
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.system import System

REF = dict(np.load(Path(__file__).parent / "data" / "hardy_lj500_quartic.npz"))
VIRIAL = dict(np.load(Path(__file__).parent / "data" / "lj500_cut_shift.npz"))
LJ, HARDY = LennardJones(1.0, 1.0, 2.5, "shift"), Polynomial(3.0, 3, 2)
VOIGT = [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]


def error(value, expected):
    value, expected = np.asarray(value), np.asarray(expected)
    return float(np.max(np.abs(value - expected)) / np.max(np.abs(expected)))


def liquid(copies=1):
    """The configuration repeated along each axis, with a list that holds more than the bonds in range."""
    shifts = np.array(list(itertools.product(range(copies), repeat=3))) * REF["box"]
    x, p = (np.concatenate(a) for a in zip(*((REF["x"] + s, REF["v"]) for s in shifts), strict=True))
    system = System(LJ, Periodic(copies * REF["box"]), np.ones(len(x)), split="distance")
    near = neighbour_list(system.space, x, LJ.cutoff, skin=0.2)
    assert near.to.shape[1] < 100
    return system, jnp.asarray(x), jnp.asarray(p), near


@eqx.filter_jit
def observe(system, y, x, p, near):
    (moments,), totals = system.observe([(y, HARDY)], x, p, 0, near)
    return moments, totals, system.bonds(x, p, 0, near)[1]


def in_lammps_images(system, y, x, p, bonds):
    """S and the bond part of J, (Y, 3, 3) and (Y, 3): the power −f·v/2 of each end goes with the image of that end."""

    def from_end(i, j, d, f):
        g = -jnp.sum(f * p[i], axis=1) / 2
        return Bonds(i, j, d, f / 2, jnp.zeros_like(f), g, bonds.reach)

    ends = from_end(bonds.i, bonds.j, bonds.d, bonds.f), from_end(bonds.j, bonds.i, -bonds.d, -bonds.f)

    def at(point):
        nearest = point[None] - system.space.displacement(point[None] - x)
        return sum(spread_bonds(point[None], nearest, b, HARDY, Free(3))[0] for b in ends)

    seen = jax.lax.map(at, y)
    return seen[:, :9].reshape(-1, 3, 3), seen[:, 18:]


see_fields = eqx.filter_jit(fields)


@pytest.fixture(scope="module")
def runs():
    """Every point on a list, every 31st on all pairs."""
    system, x, p, near = liquid()
    y = jnp.asarray(REF["grid"])
    return {
        name: (stride, system, x, p, y[::stride], *observe(system, y[::stride], x, p, nl))
        for name, stride, nl in (("list", 1, near), ("dense", 31, None))
    }


@pytest.mark.parametrize("kind", ["list", "dense"])
def test_densities_are_those_of_hardy(runs, kind):
    """Sums of η over at most 100 particles: rounding leaves 1e-13."""
    stride, *_, moments, _, _ = runs[kind]
    kinetic, potential = np.asarray(moments.energy_kinetic), np.asarray(moments.energy_potential)
    found = [moments.rho, moments.momentum, kinetic, potential, kinetic + potential]
    names = ["mass_density", "momentum", "kinetic_energy", "potential_energy", "energy"]
    errors = {name: error(a, REF[name][::stride]) for name, a in zip(names, found, strict=True)}
    assert max(errors.values()) < 1e-11, errors


def test_stress_and_heat_flux_are_those_of_hardy(runs):
    """LAMMPS integrates its bonds to 3e-8; the heat flux is an evaluation in float64 of some 10⁵ terms."""
    _, system, x, p, y, moments, _, bonds = runs["list"]

    @eqx.filter_jit
    def look():
        s, j = in_lammps_images(system, y, x, p, bonds)
        convected = moments.j_potential - spread_bonds(y, x, bonds, HARDY, system.space)[:, 18:]
        seen = eqx.tree_at(lambda m: (m.s, m.r, m.j_potential), moments, (s, -s, convected + j))
        return s, fields(seen, jnp.zeros(3))

    s, f = look()
    assert error(np.asarray(f.sigma)[:, *VOIGT], REF["stress"]) < 1e-6
    assert error(f.q, REF["heat_flux"]) < 1e-10
    assert 1e-5 < error(moments.s, s) < 1e-3  # the images that LAMMPS leaves out


def test_a_list_sees_what_all_pairs_see(runs):
    """The same bonds in another order, and 10⁵ zeros: 1e-12."""
    stride, *_, moments, totals, _ = runs["list"]
    *_, whole, all_totals, _ = runs["dense"]
    for a, b in zip(jax.tree.leaves(moments), jax.tree.leaves(whole), strict=True):
        assert np.max(np.abs(np.asarray(a)[::31] - b)) <= 1e-12 * np.max(np.abs(a))
    assert stride == 1 and error(totals.virial, all_totals.virial) < 1e-12


def test_every_image_is_counted(runs):
    """In a cell of twice the length a single image reaches each point: the same fields to 1e-12."""
    *_, y, moments, totals, _ = runs["dense"]
    system, x, p, near = liquid(2)
    assert len(HARDY.images(system.space, LJ.cutoff)) == 1 < len(HARDY.images(Periodic(REF["box"]), LJ.cutoff))
    whole, _, _ = observe(system, y, x, p, near)
    f, expected = (see_fields(m, totals.momentum / 500) for m in (moments, whole))
    for name in ("sigma", "q", "sigma_potential", "q_potential", "T", "E"):
        assert error(getattr(f, name), getattr(expected, name)) < 1e-12, name


def test_the_frame_drops_out_for_a_pair_potential(runs):
    """R + S = 0, so q is Galilean invariant with w = 0 as in the frame of the centre of mass."""
    *_, moments, _, _ = runs["dense"]
    assert error(moments.r, -np.asarray(moments.s)) < 1e-13  # the same products, up to the order of a sum
    still, moving = (see_fields(moments, jnp.asarray(w)) for w in ([0.0, 0.0, 0.0], [0.4, -0.3, 0.5]))
    assert error(moving.q, still.q) < 1e-12


@pytest.mark.parametrize("kind", ["list", "dense"])
def test_totals_are_those_of_lammps(runs, kind):
    """K − S of the whole system over its volume is the pressure tensor; LAMMPS prints 16 digits."""
    totals = jax.tree.map(np.asarray, runs[kind][-2])
    volume, v = np.prod(VIRIAL["box"]), VIRIAL["v"]
    tensor = (v.T @ v - totals.virial) / volume
    assert error(totals.potential, VIRIAL["pe"]) < 1e-10 and error(totals.kinetic, VIRIAL["ke"]) < 1e-10
    assert error(-totals.virial[VOIGT] / volume, VIRIAL["p_virial"]) < 1e-10
    assert error(tensor[VOIGT], VIRIAL["p_tensor"]) < 1e-10
    assert error((2 * totals.kinetic - np.trace(totals.virial)) / (3 * volume), VIRIAL["press"]) < 1e-10
