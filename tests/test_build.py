"""Modules from configurations: units, cells, starts, grids and potentials, and errors in the words of the keys."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import build, potentials
from jaxmd_iz.checks import InputError
from jaxmd_iz.config import load, loads
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.units import convert
from jaxmd_iz.windows import Fourier, Separable, Slab

EXAMPLES = [("lj_liquid", 1, 108), ("silicon", 1, 64), ("two_state_fluid", 2, 64)]
LJ500 = Path(__file__).parent / "data" / "lj500.extxyz"
BASE = """
mollifier = { epsilon = 1.2 }
grid = { profile = 8 }
density = { number = 27, number_density = 0.5, temperature = 1.0 }
potential = { cutoff = 1.5 }
"""


def config(*changes):
    return loads(BASE, changes)


def system(c):
    start = build.start_of(c)
    return build.system_of(c, build.space_of(c), start.species, start.masses, start.names)


def least(x, cell):
    d = (x[:, None] - x[None]) @ np.linalg.inv(cell)
    r = np.linalg.norm((d - np.round(d)) @ cell, axis=-1)
    return r[~np.eye(len(x), dtype=bool)].min()


@pytest.mark.parametrize(("name", "states", "n"), EXAMPLES)
def test_examples_build(name, states, n):
    c = load(name)
    s = system(c)
    assert s.states == states and s.masses.shape == (n,) and s.kinds == 1
    assert s.potential.cutoff <= s.space.largest_cutoff()
    assert c.grid.profile >= 32 and c.dynamics.steps >= 200
    assert [g.name for g in build.grids_of(c, s.space)] == ["fields", "grid"][: 1 + bool(c.grid.shape)]
    assert build.sampling_of(c).samples == c.density.samples
    assert least(build.start_of(c).x, s.space.matrix) > 0.5


def test_the_demo_has_both_states_and_few_frames():
    c = load("two_state_fluid", ["surfaces.correction=none"])
    s, x = system(c), jnp.asarray(build.start_of(c).x)
    levels = np.asarray(s.levels(x)) / build.density_of(c).temperature
    w = np.exp(levels.min() - levels)
    assert (w / w.sum()).min() > 0.05
    assert c.density.samples >= 32 and c.dynamics.steps // c.dynamics.interval() + 1 <= 3


def test_metal_units_become_internal_ones():
    c = load("silicon", ["density.temperature=300", "dynamics.integrator=baoab", "dynamics.friction=2"])
    integrator, density = build.integrator_of(c), build.density_of(c)
    picosecond = 1.0364269e-4**-0.5  # in Å√(amu/eV)
    assert density.temperature == pytest.approx(300 * 8.617343e-5, rel=1e-14)
    assert integrator.temperature == density.temperature
    assert integrator.step == pytest.approx(0.001 * picosecond, rel=1e-14)
    assert integrator.friction == pytest.approx(2 / picosecond, rel=1e-14)
    assert build.sampling_of(c).step == pytest.approx(0.003 * picosecond, rel=1e-14)
    assert build.start_of(c).masses[0] == 28.0855


@pytest.mark.parametrize(("name", "step"), [("lj", 0.005), ("metal", 0.001), ("atomic", 10.0)])
def test_default_steps_follow_the_units(name, step):
    c = config(f"units.system={name}", "potential.epsilon=1", "potential.sigma=1")
    inside = build.units_of(c).to_internal(step, "time")
    assert build.integrator_of(c).step == build.sampling_of(c).step == inside


def test_parameter_files_are_converted():
    changes = ["units.system=atomic", "density.number_density=0.0074", "dynamics.step=20"]
    c = load("silicon", changes)
    here, there = system(c).potential, system(load("silicon")).potential
    assert here.cutoff == pytest.approx(convert(there.cutoff, "length", "metal", "atomic"), rel=1e-12)
    assert float(here.epsilon[0, 0, 0]) == pytest.approx(convert(2.1683, "energy", "metal", "atomic"), rel=1e-12)
    with pytest.raises(InputError, match=r"`potential.file` must name a parameter file in `lj` units, but `Si.sw`"):
        system(load("silicon", ["units.system=lj"]))
    with pytest.raises(InputError, match=r"`potential.file` must hold every triplet .* lacks Ge"):
        system(load("silicon", ["species.Ge=72.6"]))


@pytest.mark.parametrize(
    ("n", "dim", "distance"),  # in units of the edge
    [(108, 3, 0.5**0.5 / 3), (256, 3, 0.5**0.5 / 4), (64, 3, 1 / 4), (125, 3, 1 / 5), (16, 2, 1 / 4), (7, 1, 1 / 7)],
)
def test_lattices_fill_the_cell(n, dim, distance):
    c = config(f"density.number={n}", f"space.dimensions={dim}")
    start, cell = build.start_of(c), build.space_of(c).matrix
    assert start.x.shape == (n, dim)
    assert np.prod(np.diag(cell)) == pytest.approx(n / 0.5)
    assert least(start.x, cell) == pytest.approx(distance * cell[0, 0])


def test_lattices_leave_surplus_sites_out_and_follow_long_cells():
    c = config("space.cell=[4, 4, 16]", "density.number=90", "density.number_density=")
    x = build.start_of(c).x
    assert x.shape == (90, 3) and least(x, np.diag([4.0, 4.0, 16.0])) > 0.95
    assert np.abs(np.histogram(x[:, 2], 4, (0, 16))[0] - 22.5).max() < 8


def test_silicon_starts_from_diamond():
    x = build.start_of(load("silicon")).x
    assert least(x, 2 * 5.431 * np.eye(3)) == pytest.approx(3**0.5 / 4 * 5.431, rel=1e-5)


def test_random_starts_follow_the_seed_and_keep_apart():
    one, same, other = (build.start_of(config("density.start=random", f"density.seed={s}")) for s in (3, 3, 4))
    np.testing.assert_array_equal(one.x, same.x)
    assert np.abs(one.x - other.x).max() > 0.1
    assert least(one.x, build.space_of(config()).matrix) > 0.7


def test_species_follow_the_composition():
    c = config("species.A=1", "species.B=2.5", "density.composition.A=0.3", "density.composition.B=0.7")
    start = build.start_of(c)
    assert start.names == ("A", "B") and np.bincount(start.species).tolist() == [8, 19]
    np.testing.assert_array_equal(start.masses, np.where(start.species == 1, 2.5, 1.0))
    assert np.any(np.diff(start.species) < 0)
    assert system(c).kinds == 2
    equal = build.start_of(config("species.A=1", "species.B=2"))
    assert sorted(np.bincount(equal.species).tolist()) == [13, 14]


def test_a_start_file_gives_cell_particles_and_masses():
    c = load("lj_liquid", [f"density.start={LJ500}"])
    start, space = build.start_of(c), build.space_of(c)
    assert start.x.shape == (500, 3) and start.names == ("X",) and set(start.masses) == {1.0}
    assert space.matrix[0, 0] == pytest.approx(8.397980956912537)
    given = load("lj_liquid", [f"density.start={LJ500}", "density.kind=given", "density.temperature="])
    assert build.snapshots_of(given).v.any() and build.density_of(given).temperature == 1.0
    with pytest.raises(InputError, match=r"`space.cell` must be that of the file, but it is .* leave `space.cell` out"):
        build.space_of(load("lj_liquid", [f"density.start={LJ500}", "space.cell=[9, 9, 9]"]))
    with pytest.raises(InputError, match=r"`density.start` must name a file, but `.*latice` does not exist"):
        build.start_of(load("lj_liquid", ["density.start=latice"]))


def test_free_space_has_corners_and_a_cluster_at_the_centre_of_its_trap():
    c = config(
        "space.kind=free", "grid.lower=[-4, -4, -2]", "grid.upper=[4, 4, 6]", "grid.area=64", "potential.cutoff=2.5",
        "potential.external.kind=harmonic", "potential.external.stiffness=0.2", "potential.external.centre=[0, 0, 2]",
    )  # fmt: skip
    start, space = build.start_of(c), build.space_of(c)
    assert isinstance(space, Free)
    np.testing.assert_allclose(start.x.mean(axis=0), [0, 0, 2], atol=1e-12)
    (grid,) = build.grids_of(c, space)
    np.testing.assert_allclose(grid.y[:, 2], -2 + 8 * (np.arange(8) + 0.5) / 8)
    assert grid.mollifier.area == 64 and isinstance(system(c).external, potentials.HarmonicTrap)


def test_grids_have_their_names_points_and_windows(tmp_path):
    file = tmp_path / "y.txt"
    file.write_text("# x y z\n0 0 0\n1.5, 2, 3\n".replace(",", ""))
    c = config("grid.shape=[2, 3, 4]", f"grid.points={file}", "grid.axis=x", "space.cell=[[6,0,0],[1,6,0],[0,0,9]]",
               "density.number_density=")  # fmt: skip
    space = build.space_of(c)
    profile, grid, points = build.grids_of(c, space)
    assert [g.name for g in (profile, grid, points)] == ["fields", "grid", "points"]
    assert (profile.axis, grid.axis, grid.shape) == (0, None, (2, 3, 4))
    np.testing.assert_allclose(profile.y[:, 0], 6 * (np.arange(8) + 0.5) / 8)
    assert isinstance(profile.mollifier, Slab) and profile.mollifier.area == pytest.approx(37**0.5 * 9)
    np.testing.assert_allclose(grid.y[0], (np.array([1, 1, 1]) / np.array([4, 6, 8])) @ space.matrix)
    np.testing.assert_allclose(grid.y[1] - grid.y[0], [0, 0, 9 / 4], atol=1e-12)
    np.testing.assert_allclose(points.y, [[0, 0, 0], [1.5, 2, 3]])
    (alone,) = build.grids_of(config("grid.profile=0", "grid.shape=[2, 2, 2]"), space)
    assert alone.name == "fields" and alone.axis is None
    file.write_text("1 2\n")
    with pytest.raises(
        InputError, match=r"`grid.points` must name a file with 3 finite numbers a line, but .*\(1, 2\)"
    ):
        build.grids_of(c, space)
    with pytest.raises(InputError, match=r"`grid.points` must name a text file of numbers, but .* cannot be read"):
        build.grids_of(config("grid.points=nothing.txt"), space)


@pytest.mark.parametrize("kind", ["polynomial", "bump", "trapezoid", "cubic", "separable", "fourier"])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_every_mollifier_builds_in_every_dimension(kind, dim):
    shape = str([3] * dim)
    c = config(f"mollifier.kind={kind}", f"space.dimensions={dim}", f"grid.shape={shape}")
    space = build.space_of(c)
    profile, grid = build.grids_of(c, space)
    assert profile.mollifier.profile.dimensions == 1 and grid.mollifier.dimensions == dim
    assert grid.y.shape == (3**dim, dim) and profile.axis == dim - 1
    # one particle seen on a fine profile across the cell has weight 1
    height, steps = float(space.heights[-1]), 4000
    z = (np.arange(steps) / steps - 0.5) * height
    u = jnp.zeros((dim, steps)).at[-1].set(jnp.asarray(z))
    total = float(jnp.sum(profile.mollifier.density(u))) * space.volume / steps
    assert total == pytest.approx(1.0, rel=1e-4)
    assert isinstance(grid.mollifier, {"separable": Separable, "fourier": Fourier}.get(kind, object))


MORSE = ["potential.kind=morse", "potential.epsilon=", "potential.depth=1.5", "potential.steepness=5",
         "potential.distance=1.1"]  # fmt: skip

TWO = "potential.kind=two_state_fluid"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ([], potentials.LennardJones),
        (["potential.kind=wca"], potentials.WCA),
        (MORSE, potentials.Morse),
        (["potential.kind=soft_sphere", "potential.exponent=9"], potentials.SoftSphere),
        ([TWO, "potential.gap=1"], potentials.TwoStateFluid),
        ([TWO, "potential.gap=1", "potential.base=morse", *MORSE[2:]], potentials.TwoStateFluid),
        (["potential.kind=bonds", "potential.cutoff=", "potential.bonds=[[0, 1, 10, 1]]"], potentials.HarmonicBonds),
        (["potential.bonds=[[0, 1, 10, 1], [1, 2, 10, 1.2]]"], potentials.Sum),
    ],
)
def test_every_potential_builds(changes, kind):
    potential = system(config(*changes)).potential
    assert isinstance(potential, kind)
    assert potential.cutoff == (np.inf if kind is potentials.HarmonicBonds else 1.5)
    assert "potential.base=morse" not in changes or isinstance(potential.base, potentials.Morse)


def test_lists_by_species_are_mixed():
    species = ["species.A=1", "species.B=1"]
    p = system(config(*species, "potential.epsilon=[1, 4]", "potential.sigma=[1.0, 1.2]")).potential
    np.testing.assert_allclose(p.epsilon, [[1, 2], [2, 4]])
    np.testing.assert_allclose(p.sigma, [[1, 1.1], [1.1, 1.2]])
    p = system(
        config(*species, "potential.epsilon=[[1, 3], [3, 4]]", "potential.cutoff=", "density.number=64")
    ).potential
    assert p.epsilon.shape == (2, 2) and p.cutoff == 2.5


def test_every_external_potential_builds():
    def external(*changes):
        return build.external_of(config(*(f"potential.external.{c}" for c in changes)))

    assert isinstance(external("kind=harmonic", "stiffness=[1, 0, 2]"), potentials.HarmonicTrap)
    assert isinstance(external("kind=quartic", "stiffness=1"), potentials.QuarticTrap)
    assert external("kind=walls", "stiffness=50", "lower=0.5", "axis=y").axis == 1
    assert external("kind=none") is None


def test_precision_follows_the_output():
    c = config("output.dtype=float32")
    assert system(c).masses.dtype == jnp.float32
    assert build.grids_of(c, Periodic([5.0, 5, 5]))[0].y.dtype == jnp.float32


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["potential.cutoff=3"], "`space.cell` must leave room for the cutoff 3"),
        (["potential.epsilon=[1, 2]"], "`potential.epsilon` must be a number, or have 1 entries .* for the species X"),
        (["species.A=1", "species.B=1", "potential.epsilon=[1, 2]", "potential.sigma=[[1, 1], [1, 1]]"], "to be mixed"),
        (["potential.tail=true", "potential.truncation=shift"], "`potential.tail` must go with truncation `cut`"),
        (["potential.bonds=[[0, 1, 10]]"], r"`potential.bonds` must hold rows \[i, j, k, r₀\]"),
        (["potential.bonds=[[0, 27, 10, 1]]"], "`potential.bonds` must join particles numbered from 0 to 26"),
        (["potential.bonds=[[0, 1.5, 10, 1]]"], "`potential.bonds` must join particles"),
        (["potential.bonds=[[0, 1, 10, 1], [1, 0, 10, 1]]"], "`potential.bonds` must name each bond once"),
        (["potential.kind=bonds", "potential.cutoff=", "potential.bonds=[[0, 1, 1, 1]]", "dynamics.neighbours=list"],
         "`dynamics.neighbours` must be `auto` or `dense`, but the potential reaches to infinity"),
        (["density.number="], "`space.cell` must be given in a periodic space"),
        (["density.number=", "density.number_density=", "space.cell=[5, 5, 5]"], "`density.number` must be given"),
        (["space.cell=[5, 5, 5]"], "`density.number` must agree with the rest, but it is 27 and .* make it 62"),
        (["space.cell=[[5, 0, 0], [5, 0, 0], [0, 0, 5]]"], "`space.cell` must have a volume"),
        (["units.system=metal", "potential.epsilon=1", "potential.sigma=1"], "`species` must give the mass"),
        (["potential.external.kind=walls", "potential.external.stiffness=1", "potential.external.lower=3",
          "potential.external.upper=2"], "`potential.external.lower` must be below `upper`"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence_about_its_key(changes, says):
    with pytest.raises(InputError, match=says) as caught:
        system(config(*changes))
    assert "\n" not in str(caught.value) and str(caught.value).startswith("Argument `")


def test_a_missing_temperature_is_named():
    with pytest.raises(InputError, match=r"`density.temperature` must be given, but it is missing"):
        build.density_of(config("density.temperature="))
    with pytest.raises(InputError, match=r"`density.temperature` must be given for `baoab`"):
        build.integrator_of(config("density.temperature=", "dynamics.integrator=baoab"))


@pytest.mark.parametrize(("split", "correction"), [("distance", "none"), ("min_norm", "none"), ("energy", "dboc")])
def test_splits_and_corrections_reach_the_system(split, correction):
    s = system(load("silicon", [f"split.kind={split}", f"surfaces.correction={correction}"]))
    assert (s.split, s.correction) == (split, correction)
    with pytest.raises(InputError, match=r"`split.kind` must"):
        system(load("two_state_fluid", ["split.kind=distance"]))
