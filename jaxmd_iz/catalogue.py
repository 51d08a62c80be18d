"""The list of model systems that `jaxmd-iz models` prints, and the page of their surfaces along a cut."""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxmd_iz import models, report, surfaces
from jaxmd_iz.checks import one_of
from jaxmd_iz.potentials.base import AbstractMovingFrame, AbstractPotential, matrix_total
from jaxmd_iz.space import Free

POINTS = 161


def names() -> list[str]:
    """Every model and family, in the order of the list."""
    return [*models.MODELS, *models.FAMILIES]


def note(name: str) -> str:
    """How to ask for it in a configuration, with its size.

    Args:
        name: a model or family.
    """
    kind = f'potential.kind = "{name}"' if name in models.FAMILIES else f'potential.model = "{name}"'
    model = models.FAMILIES.get(name) or models.MODELS[name]
    if model.x is None:
        return f"{kind}; states and modes as the file says"
    n, dim = model.x.shape
    states = models.family_member(name).states
    if getattr(models.family_member(name), "y_space", True):
        return f"{kind}; d = {states}, n = {n}, D = {dim}"
    return f"{kind}; d = {states}, {n} normal modes: no fields in space, only energies and weights"


def cut(name: str, points: int = POINTS) -> dict[str, np.ndarray | str | None]:
    """λ_k, the diagonal of V and |D_{k,k+1}| along the cut of a model.

    Args:
        name: a model or family that has a cut.
        points: number of points.

    Returns:
        `s`, `levels`, `diabatic` (None where the electron basis moves), `coupling`, `along`, `unit`.
    """
    model = models.FAMILIES.get(name) or models.MODELS[name]
    line = model.cut
    assert line is not None
    potential = models.family_member(name)
    s = np.linspace(line.low, line.high, points)
    s = s + 1e-3 * (s[1] - s[0])  # beside exact crossings
    x = np.stack([line.place(v) for v in s])
    step = np.stack([line.place(v + 1e-6) - line.place(v - 1e-6) for v in s]) / 2e-6
    levels, diagonal, coupling = _along(potential, jnp.asarray(x), jnp.asarray(step))
    most = min(line.most, potential.states)
    own = None if isinstance(potential, AbstractMovingFrame) else np.asarray(diagonal)[:, :most]
    return {
        "s": s,
        "levels": np.asarray(levels)[:, :most],
        "diabatic": own,
        "coupling": np.asarray(coupling)[:, : most - 1],
        "along": line.label,
        "unit": model.unit,
    }


def _along(potential: AbstractPotential, x, step):
    space, n = Free(x.shape[2]), x.shape[1]

    @jax.jit
    def look(x, step):
        e = space.edges(x, jnp.zeros(n, int))
        levels = surfaces.levels(potential, e, jnp.ones(n), "none")
        d = jnp.einsum("lknD,nD->lk", surfaces.couplings(potential, e), step.astype(x.dtype))
        beside = jnp.abs(jnp.diagonal(d, offset=1))
        return levels, jnp.real(jnp.diagonal(matrix_total(potential, e))), beside

    return jax.lax.map(lambda a: look(*a), (x, step))


def write(path: Path | str, chosen: Sequence[str] = ()) -> list[str]:
    """Writes the page of some models, of all by default.

    Args:
        path: the HTML file.
        chosen: names of models.

    Returns:
        The names on it.

    Raises:
        InputError: a name that is not known, a file that cannot be written.
    """
    wanted = [one_of(name, "name", names()) for name in chosen] or names()
    entries = []
    for name in wanted:
        model = models.FAMILIES.get(name) or models.MODELS[name]
        about = {"name": name, "title": model.title, "source": model.source, "note": note(name)}
        entries.append(about | (cut(name) if model.cut is not None else {}))
    report.write_catalogue(path, entries)
    return wanted
