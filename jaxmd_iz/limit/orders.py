"""The order of an error in M: slope of log(error) against log(M), with a confidence interval."""

from typing import NamedTuple

import numpy as np

from jaxmd_iz.checks import must


class Order(NamedTuple):
    """error ≈ C M^{−order}; `low` and `high` bound the order with 95 % confidence, NaN for fewer than three points."""

    order: float
    low: float
    high: float
    points: int


def fit_order(masses, errors, floor: float = 0.0) -> Order:
    """Least squares on the logarithms, with Student's t for the interval.

    Args:
        masses: M of each error, at least two different ones.
        errors: of either sign.
        floor: errors of at most this size are rounding and are left out.

    Returns:
        Order; all NaN where fewer than two errors are above the floor.

    Raises:
        InputError: lengths that differ.
    """
    m, e = np.asarray(masses, float), np.abs(np.asarray(errors, float))
    must(m.shape == e.shape and m.ndim == 1, "errors", f"have the shape {m.shape} of `masses`", f"it is {e.shape}")
    kept = np.isfinite(e) & (e > floor)
    m, e = m[kept], e[kept]
    if len(np.unique(m)) < 2:
        return Order(np.nan, np.nan, np.nan, len(m))
    x, y = np.log(m) - np.log(m).mean(), np.log(e)
    slope = float(np.sum(x * y) / np.sum(x**2))
    if len(m) < 3:
        return Order(-slope, np.nan, np.nan, len(m))
    from scipy.stats import t

    rest = y - y.mean() - slope * x
    error = np.sqrt(np.sum(rest**2) / (len(m) - 2) / np.sum(x**2))
    half = float(t.ppf(0.975, len(m) - 2) * error)
    return Order(-slope, -slope - half, -slope + half, len(m))
