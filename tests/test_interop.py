"""ASE's atoms and a calculator that agrees with ASE's own: the same numbers."""

import dataclasses

import ase
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from ase import units as ase_units
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.md.verlet import VelocityVerlet

import jaxmd_iz as iz
from jaxmd_iz.checks import InputError
from jaxmd_iz.interop import calculator as module
from jaxmd_iz.units import convert

CELL = np.array([[5.4, 0.0, 0.0], [0.9, 5.2, 0.0], [-0.5, 0.7, 5.6]])
EPS, SIGMA, CUT = 0.0104, 1.6, 2.4


def crystal(n=2, seed=0, names=("Ar",)):
    """A shaken triclinic lattice of n³ atoms with velocities."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(n) / n] * 3, indexing="ij"), -1).reshape(-1, 3)
    symbols = [names[k % len(names)] for k in range(len(grid))]
    atoms = ase.Atoms(
        symbols, (grid + 0.15 * rng.normal(size=grid.shape) / n) @ CELL * n / 2, cell=CELL * n / 2, pbc=True
    )
    atoms.set_velocities(rng.normal(size=grid.shape))
    return atoms


def lj(**more):
    return iz.LennardJones(**({"epsilon": EPS, "sigma": SIGMA, "cutoff": CUT, "truncation": "shift"} | more))


def two_states(n):
    base = lj(truncation="force_shift")
    return iz.TwoStateFluid(base, iz.Gaussian(0.01, 0.4, 2.0), iz.Gaussian(0.005, 0.4, 1.9), gap=0.02, particles=n)


@pytest.mark.parametrize("units", ["ase", "metal", "atomic", "lj"])
def test_atoms_come_back_from_a_round_trip(units):
    atoms = crystal(names=("O", "H"))
    atoms.set_masses([16.5, 2.5] * 4)
    for pbc in (True, False):
        atoms.pbc = pbc
        atoms.cell = CELL if pbc else None
        particles = iz.from_ase(atoms, units, species=("H", "O"))
        assert particles.names == ("H", "O") and particles.species.tolist() == [1, 0] * 4
        again = iz.to_ase(particles, units)
        for name in ("positions", "momenta", "masses"):
            np.testing.assert_allclose(again.arrays[name], atoms.arrays[name], rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(again.cell.array, atoms.cell.array, rtol=1e-13, atol=1e-14)
        assert (again.pbc == atoms.pbc).all() and again.get_chemical_symbols() == atoms.get_chemical_symbols()
        kinetic = jnp.sum(particles.p**2 / particles.masses[:, None]) / 2  # mv²/2 with no constant
        expected = (
            atoms.get_kinetic_energy() if units == "lj" else convert(atoms.get_kinetic_energy(), "energy", "ase", units)
        )
        np.testing.assert_allclose(kinetic, expected, rtol=1e-12)


def test_fewer_dimensions_come_back():
    atoms = ase.Atoms("He2", [[0, 0, 0], [1, 2, 0]], cell=[4, 5, 0], pbc=[1, 1, 0], momenta=[[1, 2, 0], [3, 4, 0]])
    flat = iz.from_ase(atoms, dimensions=2)
    assert flat.x.shape == (2, 2) and flat.space.cell == ((4, 0), (0, 5))
    again = iz.to_ase(flat)
    assert (again.positions == atoms.positions).all() and (again.cell.array == atoms.cell.array).all()
    assert (again.pbc == atoms.pbc).all() and (again.get_momenta() == atoms.get_momenta()).all()


@pytest.mark.parametrize("units", ["ase", "metal", "atomic"])
def test_calculator_agrees_with_that_of_ase(units):
    atoms, own = crystal(), crystal()
    atoms.calc = AseLennardJones(epsilon=EPS, sigma=SIGMA, rc=CUT, smooth=False)
    energy, length = convert(1.0, "energy", "ase", units), convert(1.0, "length", "ase", units)
    potential = lj(epsilon=EPS * energy, sigma=SIGMA * length, cutoff=CUT * length)
    own.calc = iz.SurfaceCalculator(potential, units=units)
    for strain in (0.0, 0.04, 0.04):  # a cell that changes, then stays
        for a in (atoms, own):
            a.set_cell(
                a.cell.array @ (np.eye(3) + strain * np.array([[1, 1, 0], [0, 1, 1], [0, 0, 1]])), scale_atoms=True
            )
        for get in ("get_potential_energy", "get_forces", "get_stress", "get_potential_energies"):
            want = getattr(atoms, get)()
            np.testing.assert_allclose(getattr(own, get)(), want, rtol=1e-9, atol=1e-11 * np.abs(want).max())


def test_calculator_compiles_nothing_anew_for_another_cell_and_lists_agree_with_all_pairs(monkeypatch):
    atoms = crystal(4)
    traces = []

    def phi(r):
        traces.append(1)
        return EPS * jnp.exp(-((r / SIGMA) ** 2)) * (1 - (r / CUT) ** 2) ** 3

    def run():
        found = []
        for stretch in (1.0, 0.97, 1.03, 1.06):
            atoms.set_cell(CELL * 2 * [1, stretch, 1], scale_atoms=True)
            found.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
        return found

    atoms.calc = iz.SurfaceCalculator(iz.PairFunction(phi, CUT))
    dense = run()
    assert atoms.calc._near is None
    before = len(traces)
    run()
    assert len(traces) == before
    monkeypatch.setattr(module, "FEW", 0)
    atoms.calc = iz.SurfaceCalculator(iz.PairFunction(phi, CUT))
    listed = run()
    assert atoms.calc._near.slots.shape[0] < 63
    for one, other in zip(dense, listed, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-14)


def test_calculator_has_the_surfaces_of_the_system():
    atoms = crystal()
    particles, potential = iz.from_ase(atoms), two_states(8)
    system = iz.System(potential, particles.space, particles.masses)
    levels = eqx.filter_jit(lambda x: system.levels(x))(particles.x)
    forces = eqx.filter_jit(lambda x, k: system.force(x, k))
    for k in (0, 1):
        atoms.calc = iz.SurfaceCalculator(potential, k=k)
        np.testing.assert_allclose(atoms.get_potential_energy(), levels[k], rtol=1e-12)
        np.testing.assert_allclose(atoms.get_forces(), forces(particles.x, jnp.asarray(k)), rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(atoms.get_potential_energies().sum(), levels[k], rtol=1e-12)
        stress, work = atoms.get_stress(), []
        for sign in (1, -1):  # against the work of a strain xz, which is entry 4 of ASE's six
            bent, strain = atoms.copy(), np.eye(3) + sign * 1e-5 * np.outer([1, 0, 0], [0, 0, 1])
            bent.calc = atoms.calc
            bent.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            work.append(bent.get_potential_energy())
        np.testing.assert_allclose(stress[4], (work[0] - work[1]) / 2e-5 / atoms.get_volume(), rtol=1e-6)
    energy = atoms.get_potential_energy()
    atoms.set_masses([0.01] * 8)  # κ/M_n: ASE itself does not look at masses
    assert abs(atoms.get_potential_energy() - energy) > 1e-12


def test_calculator_in_free_space_and_in_two_dimensions(monkeypatch):
    atoms = ase.Atoms("Ar3", [[0, 0, 1], [1.8, 0, 1], [0, 1.9, 1]])
    atoms.calc = iz.SurfaceCalculator(lj(), dimensions=2)
    flat = atoms.get_forces()
    monkeypatch.setattr(module, "FEW", 0)
    atoms.calc = iz.SurfaceCalculator(lj())
    np.testing.assert_allclose(atoms.get_forces(), flat, rtol=1e-12, atol=1e-16)
    assert (flat[:, 2] == 0).all() and np.abs(flat).max() > 1e-3
    near = atoms.calc._near
    atoms.positions[0] += 0.01
    atoms.get_forces()
    assert atoms.calc._near is near  # the list covers that
    atoms.positions[0] += 0.5
    atoms.get_forces()
    assert atoms.calc._near is not near


def test_velocity_verlet_of_ase_conserves_energy():
    atoms = bulk("Ar", "fcc", a=5.26, cubic=True).repeat(2)
    atoms.set_velocities(np.random.default_rng(0).normal(size=(32, 3)) * np.sqrt(60 * ase_units.kB / 39.948))
    atoms.calc = iz.SurfaceCalculator(lj(sigma=3.4, cutoff=5.2, truncation="force_shift"))

    def drift(step, count):
        copy = atoms.copy()
        copy.calc = atoms.calc
        start, worst = copy.get_total_energy(), []
        VelocityVerlet(copy, step * ase_units.fs, trajectory=None).run(0)
        dynamics = VelocityVerlet(copy, step * ase_units.fs)
        for _ in range(count):
            dynamics.run(5)
            worst.append(abs(copy.get_total_energy() - start))
        return max(worst) / copy.get_kinetic_energy(), copy

    coarse, moved = drift(10.0, 10)
    fine, _ = drift(5.0, 20)
    assert coarse < 3e-3 and fine < coarse / 3  # second order in the step
    assert np.abs(moved.positions - atoms.positions).max() > 0.1


def with_atoms(change):
    atoms = crystal()
    change(atoms)
    return atoms


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: iz.from_ase("atoms"), "`atoms` must be `ase.Atoms`, but it is a str"),
        (lambda: iz.from_ase(ase.Atoms()), "hold at least one atom"),
        (lambda: iz.from_ase(crystal(), dimensions=4), "`dimensions` must be 1, 2 or 3"),
        (lambda: iz.from_ase(crystal(), dimensions=2), "atoms differ beyond the first 2"),
        (lambda: iz.from_ase(crystal(), "si"), "`units` must be one of"),
        (lambda: iz.from_ase(crystal(), species=("He",)), "`species` must name `Ar`"),
        (lambda: iz.from_ase(with_atoms(lambda a: a.set_pbc([1, 0, 1]))), "every direction or none"),
        (lambda: iz.from_ase(with_atoms(lambda a: a.set_cell([0, 1, 1]))), "`cell` must have a volume"),
        (lambda: iz.from_ase(with_atoms(lambda a: a.positions.fill(np.nan))), "finite positions"),
        (lambda: iz.from_ase(with_atoms(lambda a: a.set_masses([0.0] * 8))), "positive masses"),
        (lambda: iz.from_ase(with_atoms(lambda a: a.set_momenta(a.positions * np.inf))), "finite momenta"),
        (
            lambda: iz.from_ase(with_atoms(lambda a: a.set_constraint(ase.constraints.FixAtoms([0])))),
            "has constraints",
        ),
        (
            lambda: iz.from_ase(with_column()),
            "column `velocities` whose units are not known",
        ),
        (
            lambda: iz.to_ase(dataclasses.replace(iz.from_ase(crystal()), names=("fluid",))),
            "Name it `X`",
        ),
        (lambda: iz.to_ase(dataclasses.replace(iz.from_ase(crystal()), names=())), "be numbers from 0 to -1"),
        (lambda: iz.SurfaceCalculator("lj"), "`potential` must be a potential"),
        (lambda: iz.SurfaceCalculator(two_states(8), k=2), "`k` must be a state from 0 to 1"),
        (lambda: iz.SurfaceCalculator(lj(), correction="full"), "`correction` must"),
        (lambda: energy_of(crystal(), lj(cutoff=3.0)), "Replicate the cell"),
        (lambda: energy_of(crystal(names=("O", "H")), lj()), "say which element is which number"),
        (lambda: energy_of(crystal(), iz.from_jax_md(lambda x: x[:, 0] * jnp.nan)), "finite energy and forces"),
        (lambda: iz.PairFunction(jnp.exp, jnp.inf), "`cutoff` must be positive and finite"),
        (lambda: iz.from_jax_md(3.0), "`energy` must be a function"),
    ],
)
def test_bad_input_ends_in_one_sentence(call, says):
    with pytest.raises(InputError) as error:
        call()
    assert says in str(error.value) and "\n" not in str(error.value)


def with_column():
    atoms = ase.Atoms("H", [[0.0, 0.0, 0.0]])
    atoms.new_array("velocities", np.ones((1, 3)))
    return atoms


def energy_of(atoms, potential):
    atoms.calc = iz.SurfaceCalculator(potential)
    return atoms.get_potential_energy()


def test_stress_is_refused_where_it_is_not_known():
    free, periodic = with_atoms(lambda a: a.set_pbc(False)), crystal()
    free.calc = iz.SurfaceCalculator(lj())
    periodic.calc = iz.SurfaceCalculator(iz.from_jax_md(lambda x: jnp.sum(x**2, axis=1)))
    for atoms, says in ((free, "periodic in three"), (periodic, "absolute positions")):
        assert atoms.get_forces().shape == (8, 3)
        with pytest.raises(PropertyNotImplementedError, match=says):
            atoms.get_stress()
