"""Gauss–Legendre quadrature on panels that grow away from a point where functions vary fast."""

import numpy as np


def panels(first: float, top: float, longest: float, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Legendre nodes and weights on (0, top), in panels that double from the first on.

    Args:
        first: length of the first panel.
        top: upper end, at least.
        longest: no panel is longer.
        nodes: of each panel.
    """
    edges = [0.0, min(first, top)]
    while edges[-1] < top:
        edges.append(edges[-1] + min(edges[-1], longest))
    x, w = np.polynomial.legendre.leggauss(nodes)
    half, centre = np.diff(edges)[:, None] / 2, (np.array(edges[1:]) + np.array(edges[:-1]))[:, None] / 2
    return (centre + half * x).reshape(-1), (half * w).reshape(-1)
