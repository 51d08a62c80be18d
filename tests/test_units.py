"""Units: round trips, coherence of the internal system, conversions, and the refusals."""

import itertools

import ase.units
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz.checks import (
    InputError,
    must,
    must_traced,
    nearest,
    one_of,
    refuse_unsupported,
)
from jaxmd_iz.units import QUANTITIES, convert, units

SYSTEMS = ("lj", "metal", "atomic", "ase")
PHYSICAL = ("metal", "atomic", "ase")
KINETIC = 1.0364269e-4  # eV, 1/1 amu (Å/ps)²: LAMMPS mvv2e
BOLTZMANN = 8.617343e-5  # eV/K: LAMMPS boltz


@pytest.mark.parametrize("name", SYSTEMS)
def test_round_trip(name):
    u = units(name)
    value = np.array([0.3, -7.1, 4e5])
    for quantity in QUANTITIES:
        inside = u.to_internal(value, quantity)
        np.testing.assert_allclose(u.from_internal(inside, quantity), value, rtol=4e-16)


@pytest.mark.parametrize("source", PHYSICAL)
@pytest.mark.parametrize("target", PHYSICAL)
def test_conversion_round_trip(source, target):
    for quantity, dim in itertools.product(QUANTITIES, (1, 2, 3)):
        there = convert(1.7, quantity, source, target, dim)
        assert convert(there, quantity, target, source, dim) == pytest.approx(1.7, rel=1e-14)


def test_metal_kinetic_energy_is_mvv2e():
    # m v² of 1 amu at 1 Å/ps; LAMMPS halves it where it uses it
    u = units("metal")
    m, v = u.to_internal(1.0, "mass"), u.to_internal(1.0, "velocity")
    assert u.from_internal(m * v**2, "energy") == pytest.approx(KINETIC, rel=1e-15)


def test_temperature_is_an_energy_inside():
    assert units("metal").to_internal(300.0, "temperature") == pytest.approx(300 * BOLTZMANN)
    assert units("ase").to_internal(300.0, "temperature") == pytest.approx(300 * ase.units.kB)
    assert units("lj").to_internal(0.7, "temperature") == 0.7
    assert units("atomic").to_internal(0.01, "temperature") == 0.01


@pytest.mark.parametrize("name", SYSTEMS)
def test_factors_are_coherent(name):
    f = units(name).factor
    assert f("velocity") == pytest.approx(f("length") / f("time"))
    assert f("momentum") == pytest.approx(f("mass") * f("velocity"))
    assert f("momentum_density") == pytest.approx(f("density") * f("velocity"))
    assert f("heat_flux") == pytest.approx(f("energy_density") * f("velocity"))
    assert f("power_density") == pytest.approx(f("force_density") * f("velocity"))
    assert f("stress") == f("pressure") == f("energy_density") == f("force") == 1.0


def test_ase_time_is_the_internal_time():
    # fs in ase.units is 1 fs in Å√(amu/eV), here against the picosecond of LAMMPS
    assert convert(1.0, "time", "metal", "ase") == pytest.approx(1000 * ase.units.fs, rel=1e-7)
    assert units("ase").factor("time") == 1.0
    assert convert(1.0, "energy", "metal", "ase") == 1.0


def test_metal_to_atomic_against_codata():
    # CODATA 2022, typed in (pressure: 2018); LAMMPS's mvv2e and boltz show in time and temperature
    bohr, hartree, electron = 0.529177210544, 27.211386245981, 5.485799090441e-4
    seconds, speed, pascal = 2.4188843265864e-17, 2.18769126216e6, 2.9421015697e13
    ev_per_cubic_angstrom = 1.602176634e11  # Pa

    def metal(quantity):
        return convert(1.0, quantity, "atomic", "metal")

    assert metal("length") == pytest.approx(bohr, rel=1e-11)
    assert metal("energy") == pytest.approx(hartree, rel=1e-11)
    assert metal("mass") == pytest.approx(electron, rel=1e-11)
    assert metal("stress") == pytest.approx(pascal / ev_per_cubic_angstrom, rel=5e-9)
    assert metal("time") == pytest.approx(seconds * 1e12, rel=1e-7)
    assert metal("velocity") == pytest.approx(speed * 1e-2, rel=1e-7)
    assert metal("temperature") == pytest.approx(315775.024804, rel=2e-6)
    assert metal("heat_flux") == pytest.approx(hartree / bohr**2 / (seconds * 1e12), rel=1e-7)


def test_conversion_keeps_kinetic_energy():
    for source, target in itertools.product(PHYSICAL, PHYSICAL):
        u = units(target)
        m = u.to_internal(convert(28.0855, "mass", source, target), "mass")
        v = u.to_internal(convert(3.7, "velocity", source, target), "velocity")
        here = units(source).to_internal(3.7, "velocity") ** 2 * 28.0855
        assert convert(m * v**2, "energy", target, source) == pytest.approx(here, rel=1e-14)


@pytest.mark.parametrize(
    ("name", "quantity", "dim", "label"),
    [
        ("metal", "heat_flux", 3, "eV/Å²/ps"),
        ("metal", "heat_flux", 1, "eV/ps"),
        ("metal", "momentum", 3, "amu·Å/ps"),
        ("metal", "number_density", 2, "1/Å²"),
        ("metal", "temperature", 3, "K"),
        ("metal", "rate", 3, "1/ps"),
        ("lj", "stress", 3, "ε/σ³"),
        ("lj", "temperature", 3, "ε/k_B"),
        ("atomic", "force_density", 3, "hartree/bohr⁴"),
        ("atomic", "time", 3, "ħ/E_h"),
        ("ase", "velocity", 3, "Å/(Å√(amu/eV))"),
    ],
)
def test_labels(name, quantity, dim, label):
    assert units(name).label(quantity, dim) == label


def test_arrays_keep_their_type():
    value = jnp.ones(3, jnp.float32)
    assert units("metal").to_internal(value, "time").dtype == jnp.float32


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"`units` must be one of .* it is `metl`\. Did you mean `metal`\?"):
        units("metl")
    with pytest.raises(InputError, match=r"`quantity` must .* Did you mean `heat_flux`\?"):
        units("lj").factor("heatflux")


@pytest.mark.parametrize(("source", "target"), [("lj", "metal"), ("atomic", "lj")])
def test_reduced_units_convert_only_to_themselves(source, target):
    with pytest.raises(InputError, match=r"it is `lj`, which has no size\. Scale by the σ, ε and m"):
        convert(1.0, "length", source, target)
    assert convert(1.5, "length", "lj", "lj") == 1.5


def test_must_makes_one_sentence_and_the_remedy():
    must(True, "dt", "be positive", "it is 1")
    with pytest.raises(InputError) as caught:
        must(False, "dt", "be positive", "it is -1.0", "Give a time step.")
    assert str(caught.value) == ("Argument `dt` must be positive, but it is -1.0. Give a time step.")


def test_nearest_and_one_of():
    assert nearest("Epsilom", ["sigma", "epsilon"]) == " Did you mean `epsilon`?"
    assert nearest("zzz", ["sigma"]) == ""
    assert one_of("sigma", "key", ["sigma"]) == "sigma"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lj/cut/coul/long", "Coulomb"),
        ("Charges", "Charges"),
        ("harmonic_angle", "Angle"),
        ("dihedrals", "dihedral"),
        ("shake", "Constraints"),
        ("rigid bodies", "Rigid"),
        ("npt", "Barostats"),
    ],
)
def test_unsupported_features_are_refused_by_name(name, says):
    for refuse in (refuse_unsupported, lambda n, a: one_of(n, a, ["lennard_jones"])):
        with pytest.raises(InputError, match=f"but it is `{name}`.*{says}.* not supported"):
            refuse(name, "potential.kind")
    refuse_unsupported("lennard_jones", "potential.kind")


def test_traced_condition_raises_when_the_result_is_used():
    x = jnp.ones(2)
    assert must_traced(x, x < 0, "unused") is not None
    with pytest.raises(Exception, match="negative count"):
        must_traced(x, x > 0, "negative count").block_until_ready()
