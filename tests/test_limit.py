"""Theorems 5.1 and 5.2 measured: molecular dynamics on every surface against exact quantum mechanics, orders in M."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import Gaussian, HarmonicTrap, Morse, Polynomial, QuarticCrossing, ShinMetiu, TwoStateFluid, cli, config
from jaxmd_iz.checks import InputError
from jaxmd_iz.limit import classical, exact
from jaxmd_iz.limit.command import problem_of
from jaxmd_iz.limit.orders import fit_order
from jaxmd_iz.limit.problem import Problem
from jaxmd_iz.limit.study import study
from jaxmd_iz.potentials import Lowest
from jaxmd_iz.simulation import Grid

LINE = Grid(jnp.linspace(-2.5, 3.5, 13)[:, None], Polynomial(1.0, dimensions=1, exponent=3))
MASSES = (30.0, 100.0, 300.0)  # a decade
KINDS = ("none", "paper", "dboc", "second_order", "ground", "mean_field")


@pytest.fixture(scope="module")
def well():
    """Canonical averages of the model of gap 1 at T = 1."""
    return study(
        Problem(QuarticCrossing(), [[0.5]]),
        "quartic_crossing",
        masses=MASSES,
        corrections=KINDS,
        observables=("x", "x2", "population"),
    )


@pytest.fixture(scope="module")
def moving():
    """The correlation, and fields after a push, at τ = 1."""
    return study(
        Problem(QuarticCrossing(), [[0.5]], push=[0.5]),
        masses=(100.0, 300.0, 1000.0),
        times=(1.0,),
        corrections=("none", "ground", "mean_field"),
        observables=("x_x", "rho", "momentum", "E", "sigma", "q"),
        field=LINE,
        points=(121, 61),
    )


def errors(result, observable, correction, tau=0.0, **more):
    rows = [r for r in result.rows if (r["observable"], r["correction"], r["tau"]) == (observable, correction, tau)]
    rows = [r for r in rows if all(r[k] == v for k, v in more.items())]
    return np.array([r["error"] for r in sorted(rows, key=lambda r: r["M"])])


def order(result, observable, correction, tau=0.0):
    key = (observable, correction, tau)
    (row,) = [o for o in result.orders if (o["observable"], o["correction"], o["tau"]) == key]
    return row["order"]


def test_order_of_a_power_law_is_found_with_its_interval():
    m = np.array([10.0, 30.0, 100.0, 1000.0])
    exact_law = fit_order(m, -3.0 * m**-1.5)
    assert exact_law.order == pytest.approx(1.5, abs=1e-12) and exact_law.high - exact_law.low < 1e-9
    noisy = fit_order(m, 3.0 * m**-1.5 * np.array([1.1, 0.95, 1.05, 0.9]))
    assert noisy.low < 1.5 < noisy.high and noisy.high - noisy.low > 0.05
    # 1.4e-13 is below the floor: three points are left
    assert fit_order(m, [1e-3, 1e-4, 1e-5, 1.4e-13], floor=1e-12).points == 3
    assert np.isnan(fit_order(m[:1], [1.0]).order) and np.isnan(fit_order(m[:2], [1e-2, 1e-3]).low)


@pytest.mark.parametrize("observable", ["x", "x2", "population"])
@pytest.mark.parametrize("correction", ["none", "paper", "dboc"])
def test_canonical_averages_on_all_surfaces_are_of_first_order(well, observable, correction):
    assert order(well, observable, correction) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("observable", ["x", "x2", "population"])
def test_second_order_weight_is_of_second_order(well, observable):
    assert order(well, observable, "second_order") == pytest.approx(2.0, abs=0.1)


def test_errors_are_those_of_the_theory(well):
    # section 2, M = 100, T = 1: two digits are given, hence 5 %
    known = {"none": 2.4e-4, "paper": 5.9e-4, "dboc": 9.4e-4, "second_order": 5.6e-7}
    for correction, expected in known.items():
        assert errors(well, "x", correction)[1] == pytest.approx(expected, rel=0.05)


def test_correlation_needs_the_excited_state_and_its_own_surface(moving):
    weighted, ground, mean = (errors(moving, "x_x", kind, 1.0) for kind in ("none", "ground", "mean_field"))
    assert weighted[1] == pytest.approx(6e-5, rel=0.1)  # section 10, M = 300: one digit is given
    assert ground[1] == pytest.approx(0.12, rel=0.05)
    assert mean[1] > 0.08  # the mean force is right at τ = 0 only
    assert weighted[2] < weighted[0] / 4 and ground[2] > 0.9 * ground[0]


@pytest.mark.parametrize("observable", ["rho", "momentum", "E", "sigma", "q"])
def test_fields_after_a_push_are_of_first_order(moving, observable):
    weighted, ground = errors(moving, observable, "none", 1.0), errors(moving, observable, "ground", 1.0)
    # the largest error over y may come from another y at another M
    assert order(moving, observable, "none", 1.0) == pytest.approx(1.0, abs=0.2)
    assert ground[-1] > 20 * weighted[-1]


def test_rows_hold_what_they_promise(well, moving):
    assert {"model", "observable", "T", "tau", "M", "correction", "error"} <= set(well.rows[0])
    assert {r["observable"] for r in well.rows if r["correction"] == "second_order"} == {"x", "x2", "population"}
    profile = next(p for p in moving.profiles if p["M"] == 1000.0 and p["tau"] == 1.0)
    assert set(profile["sigma"]) == {"exact", "none", "ground", "mean_field"}
    difference = np.max(np.abs(profile["rho"]["exact"] - profile["rho"]["none"]))
    assert difference / np.max(profile["rho"]["exact"]) < 2e-3


def two_nuclei(**more):
    base = Morse(depth=0.5, steepness=1.0, distance=2.0, cutoff=12.0)
    fluid = TwoStateFluid(base, Gaussian(0.8, 0.8, 2.0), Gaussian(-0.4, 0.6, 2.4), 0.6, 2)
    return Problem(fluid, [[-1.0], [1.0]], external=HarmonicTrap(0.5), **more)


def test_fields_of_two_nuclei_on_a_line_approach_the_quantum_ones():
    result = study(
        two_nuclei(push=[0.2], squeeze=0.5),
        masses=(10.0, 40.0),
        temperatures=(0.3,),
        times=(1.0,),
        corrections=("none", "ground"),
        observables=("rho", "momentum", "E", "sigma", "q"),
        field=Grid(jnp.linspace(-4.0, 4.0, 9)[:, None], Polynomial(1.5, dimensions=1, exponent=3)),
        tolerance=1e-6,
        points=(33, 17),
    )
    for name in ("rho", "momentum", "E", "sigma"):
        first, last = errors(result, name, "none", 1.0)
        # a factor 4 in M; higher orders are still felt at M = 10, most in σ, where they cancel half of the first
        assert last < first / (1.8 if name == "sigma" else 2.5)
        # kinetic and potential energy cancel in E, so that its error is the larger part of it
        assert last < (0.15 if name == "E" else 0.05)
    assert errors(result, "E", "ground", 1.0)[1] > 2 * errors(result, "E", "none", 1.0)[1]


def test_particles_that_cannot_pass_keep_their_order():
    problem = two_nuclei()
    found = classical.statics(problem, 10.0, 0.3, "none", tolerance=1e-8)
    assert found["x"] < -0.9  # the first particle stays on the left, both ways
    assert exact.statics(exact.solve(problem, 10.0, 0.3, 1e-8), 0.3)["x"] < -0.9


def test_number_of_surfaces_decides_at_the_real_mass_ratio():
    problem = Problem(ShinMetiu(), [[-2.0]])
    t = 0.01  # twice the least gap of the two lowest levels
    of = exact.solve(problem, 1836.0, t, 1e-7)
    true = exact.statics(of, t)["x"]
    wrong = [
        abs(classical.statics(problem, 1836.0, t, "none", d, tolerance=1e-9, names=["x"])["x"] - true)
        for d in (1, 2, 3)
    ]
    assert wrong[0] > 10 * wrong[1] > 10 * abs(wrong[2])
    assert wrong[2] < 1.5e-3  # bohr: what is left is of order 1/M


def test_tabulated_surfaces_carry_trajectories_like_the_model():
    from jaxmd_iz.limit.tables import Tabulated

    problem = Problem(QuarticCrossing(), [[0.5]])
    table = Tabulated.of(problem, np.array([-4.0, 5.0]), jnp.ones(1), "none", 2, points=2001)
    x = jnp.array([0.3137])
    v = jnp.linalg.eigvalsh(problem.matrix(x))
    # 5h⁴ λ⁗/384 with h = 4.5e-3 and λ⁗ near 50
    assert float(jnp.max(jnp.abs(table.levels(x[0]) - v))) < 1e-9
    by_table = Problem(table, problem.start)
    for correction in ("none", "mean_field"):
        one, other = (
            classical.correlation(classical.advance(classical.flow(p, 1.0, 1.0, correction, points=(61, 31)), 0.5))
            for p in (problem, by_table)
        )
        assert abs(one - other) < 1e-7


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"masses": (-1.0,)}, "`masses` must be positive"),
        ({"times": (-1.0,)}, "`times` must be 0 or more"),
        ({"corrections": ("second",)}, "`corrections` must be one of"),
        ({"observables": ("y",)}, "`observables` must be one of"),
        ({"observables": ("rho",)}, "`field` must be given"),
        ({"observables": ("x_x",)}, "for `second_order`, a weight at τ = 0"),
        ({"observables": ("q",), "field": LINE, "corrections": ("none",)}, "vanish in equilibrium"),
        ({"surfaces": (3,)}, "`surfaces` must be from 1 to the 2 states"),
        ({"temperatures": ()}, "`temperatures` must hold"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(change, says):
    with pytest.raises(InputError, match=says):
        study(Problem(QuarticCrossing(), [[0.5]]), **change)


def test_problems_that_cannot_be_solved_on_a_grid_are_refused():
    with pytest.raises(InputError, match="one or two coordinates"):
        Problem(QuarticCrossing(), [[0.5], [0.5], [0.5]])
    with pytest.raises(InputError, match="does not move"):
        Problem(Lowest(ShinMetiu(), 2), [[0.5]])
    with pytest.raises(InputError, match="have surfaces to run on"):
        classical.flow(Problem(QuarticCrossing(), [[0.5]]), 10.0, 1.0, "second_order")
    with pytest.raises(InputError, match="memory"):
        exact.solve(two_nuclei(), 1e8, 1.0)


def test_command_writes_rows_and_a_page(tmp_path, capsys):
    sets = ("limit.masses=[10,30]", "limit.temperatures=[1.0]", 'limit.observables=["x","rho"]', "limit.times=[0.0]")
    sets += ("grid.profile=5", 'limit.corrections=["none","second_order"]', "limit.points=[61,31]")
    files = ("--out", str(tmp_path / "page.html"), "--json", str(tmp_path / "rows.json"))
    cli.main(["limit", "limit_1d", *files, "--set", *sets])
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {r["correction"] for r in rows if "error" in r} == {"none", "second_order"}
    assert [r for r in rows if "order" in r and r["correction"] == "second_order"]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Error against M" in page and "Fields side by side" in page and "nan" not in page
    assert "order in 1/M" in capsys.readouterr().out


def test_shin_metiu_of_a_configuration_keeps_every_electron_state():
    problem = problem_of(config.load("shin_metiu"))
    assert isinstance(problem.potential, ShinMetiu) and problem.potential.states == 64
    assert problem_of(config.load("limit_two_nuclei")).start.shape == (2, 1)


def test_periodic_spaces_are_refused():
    with pytest.raises(InputError, match=r"space\.kind"):
        problem_of(config.load("two_state_fluid"))
