"""The parts of the measurement, by name, in the order of the table."""

from collections.abc import Iterable, Iterator

from bench.eigenproblems import eigenproblems
from bench.ensembles import ensembles, states
from bench.fields import fields
from bench.gradients import gradients
from bench.models import model_systems
from bench.one_system import one_system, sizes
from bench.processes import memory, scaling, start
from bench.split import split

#: Each part: what it measures with --quick or without, and its title.
PARTS = {
    "ensembles": (ensembles, "Ensembles of small systems, all pairs, whole steps, float32"),
    "one_system": (one_system, "One large system on neighbour lists, whole steps, float32"),
    "states": (states, "Two states against one, whole steps, float32"),
    "fields": (fields, "All moments on regular grids, ε of three spacings, float32"),
    "split": (split, "The shortest split of forces over pairs"),
    "sizes": (sizes, "Cost against the number of particles"),
    "scaling": (scaling, "Several devices, n = 64"),
    "start": (start, "First result after start"),
    "memory": (memory, "Peak memory"),
    "eigenproblems": (eigenproblems, "Batches of small eigenproblems"),
    "gradients": (gradients, "Gradients through trajectories, n = 64, float32"),
    "models": (model_systems, "A force of each model, float64"),
}

#: Left out of a quick run unless they are named: they compile for minutes.
SLOW = ("start", "models")


def run(parts: Iterable[str], quick: bool) -> Iterator[dict]:
    """The rows of these parts, each with the name of its part."""
    for part in parts:
        for row in PARTS[part][0](quick):
            yield {"part": part} | row
