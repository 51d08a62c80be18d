"""The configuration: round trips, overrides, documentation, and one sentence for everything that is refused."""

import dataclasses
import re

import pytest

from jaxmd_iz.checks import InputError
from jaxmd_iz.config import (
    Config,
    DensityTable,
    GridTable,
    MollifierTable,
    PotentialTable,
    SpaceTable,
    describe,
    dumps,
    examples,
    load,
    loads,
)

FREE = "[space]\nkind = 'free'\n[mollifier]\nepsilon = 1\n[grid]\nshape = [2, 2, 2]\nlower = [0, 0, 0]\n"
EXAMPLES = ["exciton_fluid", "h2_h2", "leps_h3", "lj_liquid", "silicon", "two_state_fluid"]
LEAST = "[mollifier]\nepsilon = 1.5\n[grid]\nprofile = 32\n"


def refusal(text="", overrides=(), base=LEAST):
    """The sentence with which a configuration is refused."""
    with pytest.raises(InputError) as caught:
        loads(base + text, overrides)
    message = str(caught.value)
    assert re.match(r"Argument `[^`]+` must .+, but .+\.( .+[.?])?$", message, re.DOTALL), message
    assert "Traceback" not in message and "\n" not in message
    return message


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_load_and_round_trip(name):
    assert name in examples()
    config = load(name)
    assert loads(dumps(config)) == config
    assert dumps(loads(dumps(config))) == dumps(config)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_open_with_what_they_show_and_what_to_change(name):
    from importlib.resources import files

    text = (files("jaxmd_iz") / "examples" / f"{name}.toml").read_text(encoding="utf-8")
    opening = text.split("[units]")[0]
    assert opening.startswith("# ") and "hange" in opening


def test_round_trip_keeps_every_kind_of_value():
    text = """
    [space]
    cell = [[6, 0, 0], [1.5, 6, 0], [0, 0, 7.25]]
    [species]
    A = 1
    "B 'quoted' \\"é\\"" = 2.5
    [potential]
    epsilon = [[1, 0.5], [0.5, 2]]
    sigma = [1.0, 1e-7]
    bonds = [[0, 1, 30.0, 1.1], [1, 2, 30, 1.1]]
    [potential.external]
    kind = "walls"
    stiffness = 3
    lower = 0.5
    [density]
    composition = { A = 0.25, "B 'quoted' \\"é\\"" = 0.75 }
    [output]
    keep = ["positions"]
    """
    config = loads(LEAST + text)
    assert loads(dumps(config)) == config
    assert config.space.cell == ((6.0, 0.0, 0.0), (1.5, 6.0, 0.0), (0.0, 0.0, 7.25))
    assert config.potential.external.upper == float("inf")
    assert list(config.species) == ["A", "B 'quoted' \"é\""]


def test_tables_can_be_made_in_python_and_are_checked():
    config = Config(mollifier=MollifierTable(epsilon=1.0), grid=GridTable(shape=(2, 2, 2)))
    assert config.mollifier.epsilon == 1.0 and config.grid.shape == (2, 2, 2)
    assert loads(dumps(config)) == config
    with pytest.raises(InputError, match=r"`mollifier.epsilon` must be a finite number of 0 or more, but it is -1"):
        MollifierTable(epsilon=-1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.grid.profile = 3


def test_overrides_take_toml_values_words_and_nothing():
    changes = [
        "density.temperature=0.9",
        "dynamics.integrator=baoab",
        "grid.shape=[2, 3, 4]",
        "potential.external.kind=harmonic",
        "potential.external.stiffness = 2",
        "species.Ar=39.95",
        'potential.truncation="shift"',
        "potential.cutoff=",
    ]
    config = load("lj_liquid", changes)
    assert config.density.temperature == 0.9
    assert config.dynamics.integrator == "baoab"
    assert config.grid.shape == (2, 3, 4)
    assert config.potential.external.stiffness == 2.0
    assert config.species == {"Ar": 39.95}
    assert config.potential.truncation == "shift" and config.potential.cutoff is None
    assert load("lj_liquid").potential.cutoff == 2.5


def test_paths_are_relative_to_the_file_and_those_of_overrides_to_the_directory(tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    file = tmp_path / "my.toml"
    file.write_text(LEAST + 'points = "y.txt"\n[density]\nstart = "x.extxyz"\n')
    monkeypatch.chdir(here)
    config = load(file, ["density.start=other.extxyz"])
    assert config.grid.points == str(tmp_path / "y.txt")
    assert config.density.start == str(here / "other.extxyz")
    assert load(str(file)).density.start == str(tmp_path / "x.extxyz")
    assert load(file, ["density.start=lattice"]).density.start == "lattice"


def test_a_shipped_parameter_file_gives_way_to_one_beside_the_configuration(tmp_path):
    assert load("silicon").potential.file == "Si.sw"
    (tmp_path / "Si.sw").write_text("")
    file = tmp_path / "a.toml"
    file.write_text(dumps(load("silicon")))
    assert load(file).potential.file == str(tmp_path / "Si.sw")


def test_frames_are_three_by_default():
    assert load("lj_liquid").dynamics.interval() == 100
    assert loads(LEAST, ["dynamics.steps=1"]).dynamics.interval() == 1
    assert loads(LEAST, ["dynamics.steps=500", "dynamics.average=time"]).dynamics.interval() == 10
    assert loads(LEAST, ["dynamics.steps=500", "dynamics.every=7"]).dynamics.interval() == 7


def test_unknown_sources_are_refused_with_the_nearest_example(tmp_path):
    with pytest.raises(InputError, match=r"example \(.*`lj_liquid`, .*no file `lj_liqid`. Did you mean `lj_liq"):
        load("lj_liqid")
    with pytest.raises(InputError, match="must name a readable text file, but"):
        (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
        load(tmp_path / "b.toml")
    with pytest.raises(InputError, match=r"must be valid TOML, but `.*c.toml` is not: .*line 1"):
        (tmp_path / "c.toml").write_text("a = = 1")
        load(tmp_path / "c.toml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[mollifer]\n", "`mollifer` must be a table of the configuration .* Did you mean `mollifier`?"),
        ("[density]\ntemprature = 1", r"must be a key of \[density\] .*Did you mean `temperature`?"),
        ("[potential.external]\nstifness = 1", r"\[potential.external\] .*Did you mean `stiffness`?"),
        ("[potential]\nexternal = 3", "`potential.external` must be a table, but it is 3"),
        ("[density]\ntemperature = 'hot'", '`density.temperature` must be a finite number above 0, but it is "hot"'),
        ("[density]\ntemperature = -1", "above 0, but it is -1"),
        ("[density]\ntemperature = true", "above 0, but it is true"),
        ("[density]\ntemperature = nan", "above 0, but it is nan"),
        ("[density]\ntemperature = 1979-05-27", "above 0, but it is 1979-05-27"),
        ("[density]\nsamples = 0", "whole number of 1 or more, but it is 0"),
        ("[density]\nsamples = 2.5", "whole number of 1 or more, but it is 2.5"),
        ("[density]\ncomposition = { X = 0.4 }", "`density.composition` must sum to 1, but it sums to 0.4"),
        ("[density]\ncomposition = { Y = 1 }", "`density.composition` must be `X`, but it is `Y`"),
        ("[density]\ncomposition = 3", "must be a table of numbers by name"),
        ("[density]\nkind = 'given'", "`density.start` must be a file for kind `given`, but it is `lattice`"),
        ("[density]\nkind = 'npt'", "Barostats .* not supported"),
        ("[density]\nstart = ''", "text that is not empty"),
        ("[space]\ndimensions = 4", "whole number from 1 to 3, but it is 4"),
        ("[space]\ncell = [5, 5]", "`space.cell` must have 3 edge lengths or 3 vectors.*`space.dimensions`"),
        ("[space]\ncell = [[5, 0, 0], [0, 5], [0, 0, 5]]", "D edge lengths or a D × D matrix"),
        ("[space]\ncell = []", "D edge lengths or a D × D matrix, but it is \\[\\]"),
        ("[space]\nkind = 'fre'", "one of `periodic`, `free`.*Did you mean `free`?"),
        ("[space]\nkind = 'free'\ncell = [5, 5, 5]", "`space.cell` must be left out in free space"),
        ("[space]\nkind = 'free'", "`grid.area` must be given in free space"),
        ("[species]\nA = 0", "`species.A` must be a finite number above 0, but it is 0"),
        ("[units]\nsystem = 'si'", "one of `lj`, `metal`, `atomic`, but it is `si`"),
        ("[units]\nfiles = 'metal'", "`units.files` must be convertible to `lj`"),
        ("[potential]\nkind = 'lj/cut/coul/long'", "Charges .* not supported"),
        ("[potential]\ncharges = [1, -1]", "`potential.charges` must name a supported feature.*Charges"),
        ("[potential]\nangles = []", "Angle.* not supported"),
        ("[constraints]\n", "Constraints .* not supported"),
        ("[rigid_bodies]\n", "Rigid bodies are not supported"),
        ("[dynamics]\nbarostat = 'mtk'", "Barostats .* not supported"),
        ("[dynamics]\nintegrator = 'velocity-verlet'", "one of `velocity_verlet`.*Did you mean `velocity_verlet`?"),
        ("[dynamics]\nevery = 0", "`dynamics.every` must be a whole number of 1 or more"),
        ("[potential]\ndepth = 2", "`potential.depth` must be left out for kind `lennard_jones`"),
        ("[potential]\nkind = 'morse'\ncutoff = 3", "`potential.depth` must be given for kind `morse`"),
        ("[potential]\nkind = 'two_state_fluid'", "`potential.gap` must be given"),
        ("[potential]\nkind = 'bonds'", "`potential.bonds` must be given for kind `bonds`"),
        ("[potential]\nepsilon = [[1, 2], [2]]", "`potential.epsilon` must be a number, a list by species"),
        ("[potential]\nepsilon = 0", "`potential.epsilon` must be a finite number above 0"),
        ("[potential]\ntail = 1", "`potential.tail` must be true or false, but it is 1"),
        ("[potential]\nbonds = [1, 2]", "list of bonds"),
        ("[potential.external]\nkind = 'harmonic'", "`potential.external.stiffness` must be given"),
        ("[potential.external]\nstiffness = 1", "`potential.external.stiffness` must be left out for kind `none`"),
        ("[potential.external]\nkind = 'uniform'\nforce = [1, 0]", "`potential.external.force` must have 3 entries"),
        ("[density]\ntemperature = 1\n[potential.external]\nkind = 'uniform'\nforce = [1, 0, 0]", "no equilibrium"),
        ("[output]\nkeep = 'positions'", "`output.keep` must be a list of names"),
        ("[output]\nkeep = ['forces']", "`output.keep` must be `positions`, but it is `forces`"),
        ("[surfaces]\ncorrection = 'second'", "one of `paper`, `none`, `dboc`"),
        ("[split]\nkind = 'energies'", "Did you mean `energy`?"),
    ],
)
def test_bad_input_is_one_sentence(text, says):
    message = refusal(text)
    assert re.search(says, message), message


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ("", "`mollifier.epsilon` must be given, but it is missing"),
        ("mollifier = 3", "`mollifier` must be a table, but it is 3"),
        ("[mollifier]\nepsilon = 1", "`grid` must name points by `profile`, `shape` or `points`"),
        ("[mollifier]\nepsilon = 0\n[grid]\nprofile = 3", "`mollifier.epsilon` must be a number above 0, but it is 0"),
        (
            "[mollifier]\nepsilon = 1\nexponent = 3\nkind = 'bump'",
            "`mollifier.exponent` must be left out for kind `bump`",
        ),
        ("[mollifier]\nepsilon = 1\n[grid]\nshape = [2, 2]", "`grid.shape` must have 3 entries"),
        ("[mollifier]\nepsilon = 1\n[grid]\nshape = [2, 2, 0]", "`grid.shape` must be a whole number of 1 or more"),
        ("[mollifier]\nepsilon = 1\n[grid]\nprofile = 4\narea = 2", "`grid.area` must be left out in a periodic space"),
        (
            "[space]\ndimensions = 2\n[mollifier]\nepsilon = 1\n[grid]\nprofile = 4\naxis = 'z'",
            "`grid.axis` must be one of `x`, `y` in 2 dimensions, but it is `z`",
        ),
        (
            FREE + "upper = [1, 0, 1]",
            "`grid.lower` must be below `grid.upper`",
        ),
        (
            FREE + "upper = [1, 1, 1]\n[density]\ntemperature = 1",
            "`potential.external.kind` must be `harmonic` or `quartic` to sample free space",
        ),
        (
            "[space]\nkind = 'free'\n[mollifier]\nkind = 'fourier'\nepsilon = 1\n[grid]\npoints = 'y'",
            "`mollifier.kind` must be of compact support",
        ),
        ("[units]\nsystem = 'metal'\n" + LEAST, "`potential.epsilon` must be given in `metal` units"),
    ],
)
def test_tables_that_do_not_go_together_are_refused(base, says):
    message = refusal(base=base)
    assert re.search(says, message), message


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("steps=3", "`--set` must be `table.key=value`, but it is `steps=3`"),
        ("dynamics.steps", "must be `table.key=value`"),
        ("dynamics..steps=3", "must be `table.key=value`"),
        ("dynamics.stps=3", "Did you mean `steps`?"),
        ("dynamics.steps=many", 'whole number of 0 or more, but it is "many"'),
        ("dynamics.steps=[1", r'but it is "\[1"'),
        ("dynamics=3", "must be `table.key=value`"),
        ("dynamics.steps.more=3", "`dynamics.steps` must be a whole number"),
        ("density.charge=1", "Charges"),
    ],
)
def test_bad_overrides_are_one_sentence(override, says):
    message = refusal(overrides=[override])
    assert re.search(says, message), message


def test_free_space_needs_no_confinement_to_be_measured():
    assert loads(FREE + "upper = [1, 1, 1]").density.temperature is None


def test_every_key_is_described():
    text = describe()
    for table in (SpaceTable, PotentialTable, GridTable, DensityTable):
        for f in dataclasses.fields(table):
            if "rule" in f.metadata:
                assert f"| `{table.NAME}.{f.name}` |" in text
    rows = text.strip().splitlines()
    assert all(row.count("|") == 5 and "||" not in row.replace(" ", "") for row in rows)
    for key in ("species.NAME", "potential.coupling.amplitude", "potential.external.kind", "output.residual_points"):
        assert f"| `{key}` |" in text
