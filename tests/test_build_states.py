"""Modules of several electron states from configurations: models, electrons, excitons, and what they refuse."""

import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import build, potentials
from jaxmd_iz.checks import InputError
from jaxmd_iz.config import load, loads
from jaxmd_iz.nonlinear import Iterated
from jaxmd_iz.simulation import simulate

TEMPLATE = Path(__file__).parent / "data" / "LVC_example.template"
LINE = """
units = { system = "atomic" }
space = { kind = "free", dimensions = 1 }
potential = { kind = "model" }
mollifier = { epsilon = 1.5 }
grid = { profile = 4, lower = [-4.0], upper = [4.0] }
"""
PLANE = ["space.dimensions=2", "grid.lower=[-4, -4]", "grid.upper=[4, 4]", "grid.area=8"]
HELIUM = ["species.He=7296.3", "potential.softening=0.1"]


def line(model, *changes):
    return loads(LINE, [f"potential.model={model}", *changes])


def system(c):
    start = build.start_of(c)
    return build.system_of(c, build.space_of(c), start.species, start.masses, start.names)


def refusal(make):
    with pytest.raises(InputError) as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message and message.startswith("Argument `")
    return message


@pytest.mark.parametrize(
    ("name", "kind", "states", "n"),
    [
        ("leps_h3", potentials.LepsH3, 2, 3),
        ("h2_h2", potentials.Lowest, 3, 4),
        ("exciton_fluid", potentials.ExcitonFluid, 32, 32),
    ],
)
def test_examples_build(name, kind, states, n):
    c = load(name)
    s, start = system(c), build.start_of(c)
    assert isinstance(s.potential, kind) and s.states == states
    assert start.x.shape == (n, 3) and s.masses.shape == (n,) and s.kinds == 1
    apart = np.linalg.norm(start.x[:, None] - start.x[None], axis=-1)[~np.eye(n, dtype=bool)]
    assert apart.min() > 0.8 and c.grid.profile >= 32 and c.dynamics.steps >= 50
    assert [g.name for g in build.grids_of(c, s.space)] == ["fields", "grid"][: 1 + bool(c.grid.shape)]


def test_iterations_wrap_the_potential_and_leave_no_correction():
    for name, correction in (("leps_h3", "paper"), ("exciton_fluid", "dboc")):
        s = system(load(name, ["surfaces.iterations=2", f"surfaces.correction={correction}"]))
        assert isinstance(s.potential, Iterated) and s.correction == "none"
        assert (s.potential.iterations, s.potential.correction) == (2, correction)
        np.testing.assert_array_equal(s.potential.masses, s.masses)
    once = system(load("leps_h3", ["surfaces.iterations=1"]))
    assert isinstance(once.potential, potentials.LepsH3) and once.correction == "paper"
    says = refusal(lambda: system(load("h2_h2", ["surfaces.iterations=2", "surfaces.correction=paper"])))
    assert "`surfaces.iterations` must be 1 for electron states that move with the nuclei, but it is 2" in says
    assert "from 1 to 4" in refusal(lambda: load("leps_h3", ["surfaces.iterations=5"]))


@pytest.mark.parametrize("name", ["leps_h3", "h2_h2"])
def test_the_diagonal_partition_wraps_the_potential(name):
    s, plain = system(load(name, ["surfaces.partition=diagonal"])), system(load(name))
    assert isinstance(s.potential, potentials.DiagonalPartition)
    assert type(s.potential.potential) is type(plain.potential)
    assert (s.states, s.correction, s.split) == (plain.states, plain.correction, plain.split)


def electrons(*changes):
    kept = system(load("h2_h2", changes)).potential
    assert isinstance(kept, potentials.Lowest) and isinstance(kept.potential, potentials.Electrons)
    return kept


def test_nuclei_are_the_elements_of_their_species():
    own = electrons().potential
    assert (own.charges, own.electrons, own.spin, own.states) == ((1, 1, 1, 1), 4, 0, 20)
    names = 'density.names=["He", "H", "He", "H"]'
    c = load("h2_h2", [*HELIUM, names])
    mixed = system(c)
    assert mixed.potential.potential.charges == (2, 1, 2, 1) and mixed.kinds == 2
    np.testing.assert_array_equal(mixed.species, [1, 0, 1, 0])
    np.testing.assert_array_equal(mixed.masses, [7296.3, 1837.1526, 7296.3, 1837.1526])
    np.testing.assert_array_equal(build.start_of(c).x, c.density.positions)
    assert (mixed.potential.potential.electrons, float(mixed.potential.potential.softening)) == (6, 0.1)


def test_charge_spin_basis_and_states_reach_the_electrons():
    cation = electrons("potential.charge=1").potential
    assert (cation.electrons, cation.spin) == (3, 1)
    triplet = electrons("potential.spin=2", "potential.states=5", "potential.confinement=0.2")
    assert (triplet.states, triplet.potential.spin, triplet.potential.states) == (5, 2, 15)
    assert float(triplet.potential.confinement) == 0.2 and triplet.potential.confined
    # two electrons in m orbitals: m(m + 1)/2 singlets; of one H₂ in four s functions an atom, m = 8
    pair = ["density.positions=[[0, 0, -0.7], [0, 0, 0.7]]", "potential.basis=even-tempered"]
    assert electrons(*pair).potential.states == 36


NAMES = 'density.names=["H", "H", "H", "X"]'


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["species.X=3", NAMES], "`species` must be one of `H`, `He`, .* but it is `X`"),
        (["species.Ne=3", 'density.names=["H", "H", "H", "Ne"]'], "`species` must be elements that the basis holds"),
        (["potential.basis=sto3g"], r"`potential.basis` must be one of .* Did you mean `sto-3g`\?"),
        (["potential.basis=even-tempered"], "`potential.basis` must give at most 2500 determinants, but 4 electrons"),
        (["potential.charge=1", "potential.spin=0"], "`potential.spin` must be a 2S that the electrons can have"),
        (["potential.spin=6"], "`potential.spin` must be a 2S that the electrons can have, but it is 6"),
        (["potential.charge=4"], r"^Argument `potential\.\w+` must be from 1 to twice the number of orbitals"),
        (["potential.charge=0.5"], "`potential.charge` must be a whole number"),
        (["potential.states=21"], "`potential.states` must be from 1 to 20, .* but it is 21"),
        (["potential.states=0"], "`potential.states` must be a whole number of 1 or more"),
        (["potential.softening=-1"], "`potential.softening` must be a finite number of 0 or more"),
        (["units.system=lj"], "`units.system` must be `atomic` for kind `electrons`, but it is `lj`"),
        (["units.system=metal"], "`units.system` must be `atomic` for kind `electrons`, but it is `metal`"),
        (["split.kind=distance"], "`split.kind` must be `min_norm` or `energy`"),
        (["potential.gap=1"], "`potential.gap` must be left out for kind `electrons`"),
        (["density.positions=[[0, 0, 0], [0, 1]]"], "`density.positions` must have 3 numbers in each row"),
        (["density.positions=[0, 1, 2]"], "`density.positions` must be a list with a number for each dimension"),
        (["density.positions=3"], "`density.positions` must be a list of rows of numbers, but it is 3"),
        ([*HELIUM, NAMES], "`density.names` must be one of `H`, `He`, but it is `X`"),
        ([*HELIUM, NAMES.replace("X", "hE")], r"`density.names` must be one of .* Did you mean `He`\?"),
        ([*HELIUM, 'density.names=["H", "He"]'], "`density.names` must name 4 particles, but it names 2"),
        (HELIUM, "`density.names` must be given for several species, but it is missing"),
        (["species.H="], "`species` must give the mass of each species, but it is empty"),
        (["potential.external.kind=none", "potential.external.stiffness="], "Without a confining V_b"),
    ],
)
def test_what_electrons_cannot_do_is_one_sentence_about_its_key(changes, says):
    message = refusal(lambda: system(load("h2_h2", changes)))
    assert re.search(says, message), message


def test_excitons_take_their_functions_and_keep_the_lowest_states():
    p = system(load("exciton_fluid", ["potential.coupling.amplitude=0.3", "potential.shift.width=0.5"])).potential
    assert (float(p.coupling.amplitude), float(p.shift.width), float(p.site_energy)) == (0.3, 0.5, 5.0)
    assert p.cutoff == 1.8 and p.particles == 32
    few = system(load("exciton_fluid", ["potential.states=4", "potential.gap="])).potential
    assert isinstance(few, potentials.Lowest) and few.states == 4
    assert float(few.potential.site_energy) == 0.0
    says = refusal(lambda: system(load("exciton_fluid", ["potential.states=33"])))
    assert "`potential.states` must be from 1 to 32" in says


@pytest.mark.parametrize(
    ("model", "changes", "n", "dim"),
    [
        ("tully_1", [], 1, 1),
        ("shin_metiu", ["potential.states=4", "potential.parameters.points=24"], 1, 1),
        ("jahn_teller", PLANE, 1, 2),
        ("leps_h3", PLANE, 3, 2),  # atoms in a plane
        ("leps_h3", [], 3, 1),  # and on a line
    ],
)
def test_models_start_by_themselves(model, changes, n, dim):
    c = line(model, *changes)
    start, s = build.start_of(c), system(c)
    assert start.x.shape == (n, dim) and s.masses.shape == (n,) and start.species.tolist() == [0] * n
    vn = np.asarray(s.potential.partition(s.edges(jnp.asarray(start.x))))
    assert vn.shape == (n, s.states, s.states) and np.isfinite(vn).all()
    assert s.states == (4 if model == "shin_metiu" else 2)


def test_a_model_takes_the_mass_parameters_and_positions_of_the_configuration():
    own, heavy = system(line("tully_1")), system(line("tully_1", "species.X=4000", "potential.parameters.A=0.02"))
    assert (float(own.masses[0]), float(heavy.masses[0]), float(heavy.potential.A)) == (2000.0, 4000.0, 0.02)
    placed = build.start_of(line("tully_1", "species.X=4000", "density.positions=[[3.5]]"))
    np.testing.assert_array_equal(placed.x, [[3.5]])


@pytest.mark.parametrize(
    ("model", "changes", "says"),
    [
        ("tully_9", [], r"`potential.model` must be one of .* Did you mean `tully_\d`\?"),
        ("tully_1", ["potential.parameters.F=1"], "`potential.parameters` must be one of `A`, `B`, `C`, `D`"),
        ("shin_metiu", ["potential.parameters.points=8.5"], "`potential.parameters` must hold a whole number `points`"),
        ("tully_1", ["potential.states=3"], "`potential.states` must be from 1 to 2"),
        ("tully_1", ["units.system=lj"], "`units.system` must be `atomic` for kind `model`, but it is `lj`"),
        ("tully_1", PLANE, "`space.dimensions` must be 1 for the model `tully_1`, but it is 2"),
        ("jahn_teller", [], "`space.dimensions` must be 2 for the model `jahn_teller`, but it is 1"),
        ("tully_1", ["species.X=1", "species.Y=1"], "`species` must have one entry for a model"),
        ("tully_1", ["split.kind=distance"], "`split.kind` must be `energy`"),
        ("shin_metiu", ["surfaces.iterations=2"], "`surfaces.iterations` must be 1"),
        ("linear_vibronic", [], "`potential.template` must be given"),
        ("tully_1", [f"potential.template={TEMPLATE}"], "`potential.template` must be left out"),
        ("tully_1", ["potential.gap=1"], "`potential.gap` must be left out for kind `model`"),
    ],
)
def test_what_a_model_cannot_do_is_one_sentence_about_its_key(model, changes, says):
    message = refusal(lambda: system(line(model, *changes)))
    assert re.search(says, message), message


def test_models_that_do_not_confine_need_a_trap_to_be_sampled():
    for model in ("tully_1", "tully_2", "tully_3", "super_exchange", "sodium_iodide", "leps_h3"):
        says = refusal(lambda m=model: line(m, "density.temperature=0.01"))
        assert "`potential.external.kind` must be `harmonic` or `quartic`" in says and "Without a confining V_b" in says
        assert line(model).density.temperature is None  # measured or given, not sampled
        trap = ["potential.external.kind=harmonic", "potential.external.stiffness=0.01"]
        assert line(model, "density.temperature=0.01", *trap).density.temperature == 0.01
    assert line("shin_metiu", "density.temperature=0.01").potential.external.kind == "none"
    assert line("jahn_teller", "density.temperature=0.2", *PLANE).potential.external.kind == "none"


def beside(folder, modes):
    """The template, without spin–orbit couplings, beside a V0.txt of its modes."""
    text = TEMPLATE.read_text()
    (folder / "LVC.template").write_text(text[: text.index("SOC")])
    (folder / "V0.txt").write_text(f"Geometry\nFrequencies\n{' '.join(map(str, modes))}\n")
    return folder / "LVC.template"


def test_a_vibronic_template_needs_its_frequencies_beside_it(tmp_path):
    c = line("linear_vibronic", f"potential.template={beside(tmp_path, [0.0] * 6 + [0.008, 0.01, 0.012])}")
    s = system(c)
    assert isinstance(s.potential, potentials.LinearVibronicCoupling) and s.states == 3
    np.testing.assert_allclose(s.masses, [125.0, 100.0, 1 / 0.012], rtol=1e-14)  # 1/ω_α
    assert build.start_of(c).x.shape == (3, 1)
    shutil.copy(TEMPLATE, tmp_path / "LVC.template")
    assert "spin–orbit coupling" in refusal(lambda: system(c))
    (tmp_path / "V0.txt").unlink()
    assert "V0.txt" in refusal(lambda: system(c))


@pytest.mark.parametrize("changes", [[], ["surfaces.partition=diagonal"], ["potential.states=1"]])
def test_normal_modes_have_no_fields(changes):
    c = line("spin_boson", "density.temperature=1", "density.samples=2", *changes)
    s, x = system(c), jnp.asarray(build.start_of(c).x)
    grids = build.grids_of(c, s.space)
    says = refusal(lambda: simulate(s, build.density_of(c), grids, x, key=jax.random.key(0)))
    assert "`grids` must be left out for normal modes, which have no place in space" in says


def test_a_confined_model_of_one_particle_runs_without_a_trap_and_keeps_its_balance_laws():
    c = line(
        "jahn_teller", "density.temperature=0.5", "density.samples=2", "density.burn_in=2", "dynamics.steps=2",
        "surfaces.correction=none", *PLANE,
    )  # fmt: skip
    s, x = system(c), jnp.asarray(build.start_of(c).x)
    grids, integrator = build.grids_of(c, s.space), build.integrator_of(c)
    options = {"sampling": build.sampling_of(c), "integrator": integrator, "steps": 2}
    run = simulate(s, build.density_of(c), grids, x, key=jax.random.key(0), **options)
    assert float(run.residuals.max()) < 1e-13  # sums of a few roundings, relative to their terms
    assert float(run.q_star.sum()) == pytest.approx(1.0, abs=1e-14) and run.q_star[0] > run.q_star[1] > 0
    assert run.diabatic.shape == (2, 2)
    np.testing.assert_allclose(run.diabatic.sum(axis=1), 1.0, atol=1e-13)  # |Ψ_k|² of one 2 × 2 eigenproblem
