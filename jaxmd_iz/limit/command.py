"""What the command `limit` does: configuration → problem → study, and the page and rows it writes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxmd_iz import build, report, store
from jaxmd_iz.build.names import keys_of
from jaxmd_iz.checks import must
from jaxmd_iz.config import Config, dumps
from jaxmd_iz.limit import conical
from jaxmd_iz.limit.problem import Problem
from jaxmd_iz.limit.study import Study, as_json, orders_of, study
from jaxmd_iz.potentials import JahnTeller, Lowest, ShinMetiu


def problem_of(settings: Config) -> Problem:
    """The model of a configuration in the scaling of section 5.

    Args:
        settings: tables `potential`, `space`, `species`, `density` (where particles start) and `limit`.

    Raises:
        InputError: more than two coordinates, normal modes, electrons whose basis moves, a periodic space.
    """
    must(settings.space.kind == "free", "space.kind", "be `free`", "it is `periodic`")
    start = build.start_of(settings)
    space = build.space_of(settings)
    system = build.system_of(settings, space, start.species, start.masses, start.names)
    potential = system.potential
    if isinstance(potential, Lowest) and isinstance(potential.potential, ShinMetiu):
        potential = potential.potential  # the quantum side takes the whole electron; `limit.surfaces` the lowest ones
    in_space = getattr(potential, "y_space", True)
    must(in_space, "potential.model", "have positions in space", f"`{settings.potential.model}` is one of normal modes")
    push = np.asarray(settings.limit.push) if settings.limit.push else None
    return Problem(potential, start.x, start.masses / start.masses[0], system.external, push, settings.limit.squeeze)


def measure(settings: Config, progress: Callable[[str], None] = lambda _: None) -> Study:
    """Runs the study of a configuration.

    Args:
        settings: the configuration.
        progress: is told what is being done.

    Raises:
        InputError: as `problem_of` and `study.study`.
    """
    table, problem = settings.limit, problem_of(settings)
    name = settings.potential.model or settings.potential.kind
    radial = set(table.observables) <= set(conical.OBSERVABLES) and problem.external is None and not table.surfaces
    if isinstance(problem.potential, JahnTeller) and radial:
        rows = conical.rows(
            masses=table.masses,
            temperatures=table.temperatures,
            times=table.times,
            corrections=table.corrections,
            observables=table.observables,
            coupling=float(problem.potential.coupling),
            progress=progress,
        )
        return Study(rows, orders_of(rows), [])
    field = next(iter(build.grids_of(settings, problem.space)))
    with keys_of("limit"):
        return study(
            problem,
            name,
            masses=table.masses,
            temperatures=table.temperatures,
            times=table.times,
            corrections=table.corrections,
            observables=table.observables,
            field=field,
            surfaces=table.surfaces,
            tolerance=table.tolerance,
            step=table.step,
            points=(table.points[0], table.points[1]) if table.points else None,
            progress=progress,
        )


def write(result: Study, settings: Config, out: Path | str, json: Path | str | None = None) -> None:
    """Writes the page of a study, and its rows as JSON.

    Args:
        result: of `measure`.
        settings: the configuration it was made with.
        out: the page, a HTML file.
        json: the file of rows and orders, or None.

    Raises:
        InputError: a file that cannot be written.
    """
    report.write_limit(out, result.rows, result.orders, result.profiles, dumps(settings))
    if json is not None:
        store.write_json(as_json(result), json)
