"""The classical limit as a measurement: errors of molecular dynamics against exact quantum mechanics, and their orders.

One row for each model, observable, temperature T, time τ, mass M and kind of classical side.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmd_iz.checks import fail, must, one_of
from jaxmd_iz.fields import Fields, fields
from jaxmd_iz.limit import classical, exact
from jaxmd_iz.limit.orders import fit_order
from jaxmd_iz.limit.problem import Problem
from jaxmd_iz.simulation import Grid

#: What can be asked for, with its meaning; statics at τ = 0, the rest at every time.
OBSERVABLES = {
    "x": "⟨x⟩ of the first coordinate, canonical",
    "x2": "⟨Σ x²⟩, canonical",
    "population": "⟨|χ_1⟩⟨χ_1|⟩ of the first electron state, canonical",
    "x_x": "Σ_c ⟨x_c(τ) x_c(0)⟩, canonical",
    "rho": "density ρ(y, τ)",
    "momentum": "momentum ρu(y, τ)",
    "E": "energy E(y, τ)",
    "sigma": "stress σ(y, τ)",
    "q": "heat flux q(y, τ)",
}
FIELDS = ("rho", "momentum", "E", "sigma", "q")
#: Errors of at most this size are those of quadrature and rounding, and do not enter an order.
FLOORS = {"statics": 1e-12, "dynamics": 1e-7}


class Study(NamedTuple):
    """Rows of errors, fitted orders, and fields side by side."""

    rows: list[dict[str, Any]]
    orders: list[dict[str, Any]]
    profiles: list[dict[str, Any]]  # model, T, tau, M, y, and each field as {"exact": …, correction: …}


def study(
    problem: Problem,
    model: str = "model",
    *,
    masses: Sequence[float] = (10.0, 30.0, 100.0, 300.0, 1000.0),
    temperatures: Sequence[float] = (1.0,),
    times: Sequence[float] = (0.0,),
    corrections: Sequence[str] = ("none", "paper", "dboc", "second_order"),
    observables: Sequence[str] = ("x", "x2"),
    field: Grid | None = None,
    surfaces: Sequence[int] = (),
    tolerance: float = 1e-11,
    step: float = 0.025,
    points: tuple[int, int] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Study:
    """Measures the errors of (5.17), (5.21) for each M, T, τ and kind of classical side.

    Args:
        problem: the model in the scaling of section 5.
        model: its name in the rows.
        masses: M.
        temperatures: T, energies.
        times: τ.
        corrections: names of `classical.CORRECTIONS`.
        observables: names of `OBSERVABLES`. The first four are canonical averages of the Hamiltonian itself, with
            errors in their own units; fields start from the Gibbs density with the push of the problem, and their
            error is the largest over y, relative to the largest value of the field at any time.
        field: points y and mollifier, needed by fields.
        surfaces: numbers of lowest surfaces to use on the classical side, one row each; all of them by default.
        tolerance: relative weight e^{−(E − E_min)/T} of what is left out on either side.
        step: of the classical trajectories, in τ.
        points: quadrature points a coordinate, in x and in p.
        progress: is told what is being done.

    Returns:
        Study.

    Raises:
        InputError: names that are not known, fields without points, a classical side that does not define an
            observable, more than fits the memory of the machine.
    """
    _check(problem, masses, temperatures, times, corrections, observables, field, surfaces)
    temperatures, times = [float(t) for t in temperatures], sorted({float(t) for t in times})
    counts = [int(d) for d in surfaces] or [None]
    wanted = _Wanted(observables, times)
    reference: dict[float, dict] = {}
    for mass in masses:
        progress(f"exact, M = {mass:g}")
        reference[mass] = _exact(problem, mass, temperatures, wanted, field, tolerance)
    found: dict[tuple, dict] = {}
    tables: dict[tuple, Problem] = {}
    most = max(surfaces, default=problem.potential.states)
    for correction in corrections:
        for mass in masses if correction in ("paper", "dboc", "second_order") else masses[:1]:
            moving = problem
            if correction != "second_order":
                kind = (correction, mass) if correction in ("paper", "dboc") else ("none", 0.0)
                if kind not in tables:
                    hottest = max(temperatures)
                    tables[kind] = classical.tabulated(problem, mass, correction, hottest, most, tolerance)
                moving = tables[kind]
            for temperature in temperatures:
                for count in counts:
                    progress(f"{correction}, M = {mass:g}, T = {temperature:g}")
                    key = (correction, mass, temperature, count)
                    found[key] = _classical(problem, moving, *key, wanted, field, tolerance, step, points)
    rows: list[dict[str, Any]] = []
    profiles: list[dict[str, Any]] = []
    for correction in corrections:
        for mass in masses:
            for temperature in temperatures:
                for count in counts:
                    at = mass if (correction, mass, temperature, count) in found else masses[0]
                    value = found[correction, at, temperature, count]
                    about = {"model": model, "T": temperature, "M": float(mass), "correction": correction}
                    about |= {} if count is None else {"surfaces": count}
                    rows += _rows(about, value, reference[mass][temperature])
    for mass in masses:
        for temperature in temperatures:
            profiles += _profiles(model, mass, temperature, reference, found, field, masses)
    return Study(rows, orders_of(rows), profiles)


class _Wanted:
    """Which observables at which times."""

    def __init__(self, observables: Sequence[str], times: Sequence[float]):
        self.statics = [o for o in observables if o in classical.STATICS]
        self.correlation = "x_x" in observables
        self.fields = [o for o in observables if o in FIELDS]
        self.times = times


def _check(problem, masses, temperatures, times, corrections, observables, field, surfaces) -> None:
    for name, values in (("masses", masses), ("temperatures", temperatures), ("times", times)):
        must(len(values) > 0, name, "hold at least one number", "it is empty")
        least = 0.0 if name == "times" else np.nextafter(0.0, 1.0)
        good = bool(np.all(np.isfinite(values))) and min(values) >= least
        must(good, name, f"be {'0 or more' if name == 'times' else 'positive'}", f"they are {list(values)}")
    for name in corrections:
        one_of(name, "corrections", classical.CORRECTIONS)
    for name in observables:
        one_of(name, "observables", OBSERVABLES)
    must(len(corrections) > 0 and len(observables) > 0, "corrections, observables", "not be empty", "one is")
    needs = [o for o in observables if o in FIELDS]
    must(not needs or field is not None, "field", f"be given for {needs}", "it is None")
    if "second_order" in corrections and not set(observables) & set(classical.STATICS):
        but = f"observables are {list(observables)}"
        fail("observables", f"hold one of {classical.STATICS} for `second_order`, a weight at τ = 0", but)
    still = (float(problem.squeeze) == 0 and not np.any(np.asarray(problem.push))) or max(times) == 0
    vanishing = [o for o in needs if still and o in ("momentum", "q")]
    remedy = "Give a push or a squeeze, and a time after it."
    must(not vanishing, "observables", f"leave out {vanishing}", "both vanish in equilibrium and at τ = 0", remedy)
    d = problem.potential.states
    for count in surfaces:
        must(1 <= count <= d, "surfaces", f"be from 1 to the {d} states of the model", f"it is {count}")


def _exact(problem, mass, temperatures, wanted: _Wanted, field, tolerance) -> dict[float, dict]:
    of = exact.solve(problem, mass, max(temperatures), tolerance, pushed=bool(wanted.fields))
    found: dict[float, dict] = {t: {} for t in temperatures}
    if wanted.statics:
        for t in temperatures:
            found[t] |= {(name, 0.0): v for name, v in exact.statics(of, t).items() if name in wanted.statics}
    if wanted.correlation:
        table = np.asarray(exact.correlations(of, temperatures, wanted.times))
        for t, row in zip(temperatures, table, strict=True):
            found[t] |= {("x_x", tau): float(v) for tau, v in zip(wanted.times, row, strict=True)}
    if wanted.fields:
        for t in temperatures:
            start = exact.start(of, t)
            for tau in wanted.times:
                found[t] |= _named(fields(*exact.moments(of, start, tau, field)), wanted.fields, tau)
    return found


def _classical(
    problem, moving, correction, mass, temperature, count, wanted: _Wanted, field, tolerance, step, points
) -> dict:
    """Statics and dynamics, with tabulated surfaces where that is worth while and the observable allows it."""
    found: dict[tuple[str, float], Any] = {}
    if wanted.statics:
        of = problem if "population" in wanted.statics or correction == "second_order" else moving
        values = classical.statics(of, mass, temperature, correction, count, None, tolerance, wanted.statics)
        found |= {(name, 0.0): value for name, value in values.items()}
    if correction == "second_order":
        return found
    for wants, pushed in ((wanted.correlation, False), (bool(wanted.fields), True)):
        if not wants:
            continue
        flow, now = classical.flow(moving, mass, temperature, correction, pushed, count, points, tolerance), 0.0
        for tau in wanted.times:
            flow, now = classical.advance(flow, tau - now, step), tau
            if pushed:
                found |= _named(fields(*classical.moments(flow, field)), wanted.fields, tau)
            else:
                found["x_x", tau] = classical.correlation(flow)
    return found


def _named(of: Fields, names: Sequence[str], tau: float) -> dict[tuple[str, float], np.ndarray]:
    return {(name, tau): np.asarray(getattr(of, name)) for name in names}


def _rows(about: dict, value: dict, reference: dict) -> list[dict]:
    """Errors of scalars in their own units, of fields relative to their largest value at any time."""
    size = {name: max(np.max(np.abs(v)) for (n, _), v in reference.items() if n == name) for name, _ in reference}
    found = []
    for (name, tau), true in reference.items():
        if (name, tau) not in value:
            continue
        got = value[name, tau]
        row = {"model": about["model"], "observable": name, "T": about["T"], "tau": tau} | about
        if name in FIELDS:
            row |= {"error": float(np.max(np.abs(got - true)) / size[name]), "exact": float(np.max(np.abs(true)))}
            row |= {"classical": float(np.max(np.abs(got)))}
        else:
            row |= {"error": float(abs(got - true)), "exact": float(true), "classical": float(got)}
        found.append(row)
    return found


def orders_of(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The order in M of every series of rows that differ in M alone, with its 95 % interval.

    Args:
        rows: as in `Study`.

    Returns:
        Rows with `order`, `low`, `high` (None where fewer than three masses are left) and `masses`.
    """
    series: dict[tuple, list[dict]] = {}
    names = ("model", "observable", "T", "tau", "correction", "surfaces")
    for row in rows:
        series.setdefault(tuple(row.get(n) for n in names), []).append(row)
    found = []
    for key, group in series.items():
        floor = FLOORS["dynamics" if key[1] in (*FIELDS, "x_x") else "statics"]
        fit = fit_order([r["M"] for r in group], [r["error"] for r in group], floor)
        if not np.isfinite(fit.order):
            continue
        about = {n: v for n, v in zip(names, key, strict=True) if v is not None}
        interval = {n: float(v) if np.isfinite(v) else None for n, v in (("low", fit.low), ("high", fit.high))}
        found.append(about | {"order": fit.order} | interval | {"masses": fit.points})
    return found


def _profiles(model, mass, temperature, reference, found, field, masses) -> list[dict]:
    """Fields side by side at one M and T, a dict for each time."""
    if field is None:
        return []
    out: dict[float, dict] = {}
    for (name, tau), value in reference[mass][temperature].items():
        if name in FIELDS:
            entry = {"model": model, "M": float(mass), "T": temperature, "tau": tau, "y": np.asarray(field.y)}
            out.setdefault(tau, entry)[name] = {"exact": value}
    for (correction, at, t, count), values in found.items():
        same = at == (mass if correction in ("paper", "dboc") else masses[0])
        if t != temperature or not same or count is not None:
            continue
        for (name, tau), value in values.items():
            if name in FIELDS:
                out[tau][name][correction] = value
    return list(out.values())


def as_json(result: Study) -> list[dict[str, Any]]:
    """Rows and orders as one list."""
    return [*result.rows, *result.orders]
