"""Particles inside each other's core, where pair potentials are held constant and forces would be lost in silence."""

import jax
import numpy as np
from jax.core import Tracer
from scipy.spatial import KDTree

from jaxmd_iz.checks import fail
from jaxmd_iz.potentials.base import AbstractPotential
from jaxmd_iz.potentials.pair import AbstractTruncatedPair
from jaxmd_iz.space import AbstractSpace, Periodic


def pairs_in(potential: AbstractPotential) -> list[AbstractTruncatedPair]:
    """The pair potentials that a potential is made of."""
    parts = jax.tree.leaves(potential, is_leaf=lambda a: isinstance(a, AbstractTruncatedPair))
    return [part for part in parts if isinstance(part, AbstractTruncatedPair)]


def species_of(potential: AbstractPotential) -> float:
    """For how many species the pair potentials in it have parameters; infinite if they are the same for all."""
    tables = [getattr(pair, name) for pair in pairs_in(potential) for name in pair.names]
    return min((float(table.shape[0]) for table in tables if table.ndim == 2), default=np.inf)


def must_be_apart(potential: AbstractPotential, space: AbstractSpace, x: np.ndarray, argument: str) -> None:
    """Refuses particles inside each other's core, where a pair potential is held constant and its force is lost.

    Args:
        potential: the pair potentials in it are meant.
        space: free or periodic.
        x: (F, n, D) configurations, length.
        argument: the key or argument they come from.

    Raises:
        InputError: names the first pair.
    """
    pairs = pairs_in(potential)
    if any(isinstance(getattr(p, p.names[-1]), Tracer) for p in pairs):
        return
    radius = max((float(p.core) ** 0.5 * float(np.max(getattr(p, p.names[-1]))) for p in pairs), default=0.0)
    for frame, points in enumerate(x if radius > 0 else ()):
        number = np.arange(len(points))
        if isinstance(space, Periodic):  # and once more what lies at the lower faces, beyond the upper ones
            cell = space.matrix
            parts = (points @ np.linalg.inv(cell)) % 1.0
            for axis, height in enumerate(space.heights):
                low = parts[:, axis] < radius / height
                parts = np.concatenate([parts, parts[low] + np.eye(len(cell))[axis]])
                number = np.concatenate([number, number[low]])
            points = parts @ cell
        close = [(number[i], number[j]) for i, j in KDTree(points).query_pairs(radius) if number[i] != number[j]]
        if close:
            i, j = min((min(pair), max(pair)) for pair in close)
            but = f"{i} and {j} are on top of each other in frame {frame}"
            fail(argument, f"hold particles at least {radius:g} apart", but)
