"""Starting configurations that no file gives: sites of a lattice, or points scattered at random."""

import itertools

import numpy as np

_FACES = [(0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)]
_FCC = np.array(_FACES)
_DIAMOND = np.concatenate([_FCC, _FCC + 0.25])
_CANDIDATES = 30  # random points of which the loneliest is taken


def _least(step: np.ndarray, basis: np.ndarray) -> float:
    """The least distance between two sites of a lattice with cell vectors `step` (rows)."""
    dim = len(step)
    shifts = np.array(list(itertools.product((-1, 0, 1), repeat=dim)))
    between = (basis[:, None, None, :] - basis[None, :, None, :] + shifts) @ step
    squares = np.sum(between**2, axis=-1)
    return float(np.sqrt(squares[squares > 1e-20].min()))


def lattice(cell: np.ndarray, particles: int, diamond: bool = False) -> np.ndarray:
    """Sites of a lattice in a cell: one with as many, else the one whose sites are farthest apart with enough of them.

    Face-centred or simple cubic, or diamond; square or linear below three dimensions. Surplus sites are
    left out evenly.

    Args:
        cell: (D, D) cell vectors in rows, length.
        particles: n.
        diamond: take the diamond lattice (D = 3).

    Returns:
        (n, D) positions.
    """
    dim = len(cell)
    single = np.zeros((1, dim))
    bases = [single] if dim < 3 else [_DIAMOND] if diamond else [_FCC, single]
    lengths = np.linalg.norm(cell, axis=1)
    best, sites, counts = (False, -1.0), single, (1,) * dim
    for basis in bases:
        edge = (abs(np.linalg.det(cell)) * len(basis) / particles) ** (1 / dim)
        ranges = [sorted({max(1, int(l / edge + 1e-6)), int(np.ceil(l / edge - 1e-6))}) for l in lengths]
        for numbers in itertools.product(*ranges):
            if np.prod(numbers) * len(basis) >= particles:
                exact = int(np.prod(numbers)) * len(basis) == particles
                found = exact, round(_least(cell / np.array(numbers)[:, None], basis), 9)
                if found > best:
                    best, sites, counts = found, basis, numbers
    corners = np.array(list(itertools.product(*map(range, counts))), float)
    fractions = ((corners[:, None, :] + sites[None]) / np.array(counts)).reshape(-1, dim)
    return fractions[np.arange(particles) * len(fractions) // particles] @ cell


def scatter(cell: np.ndarray, particles: int, rng: np.random.Generator) -> np.ndarray:
    """Points at random in a periodic cell, each the loneliest of some candidates, so that few are very close.

    Args:
        cell: (D, D) cell vectors in rows, length.
        particles: n.
        rng: random numbers.

    Returns:
        (n, D) positions.
    """
    dim = len(cell)
    fractions = rng.random((1, dim))
    for _ in range(1, particles):
        tries = rng.random((_CANDIDATES, dim))
        apart = tries[:, None, :] - fractions[None]
        squares = np.sum(((apart - np.round(apart)) @ cell) ** 2, axis=-1)
        fractions = np.concatenate([fractions, tries[[np.argmax(squares.min(axis=1))]]])
    return fractions @ cell


def kinds(fractions: np.ndarray, particles: int, rng: np.random.Generator) -> np.ndarray:
    """Species of n particles, as near to the fractions as whole numbers come, in random order.

    Args:
        fractions: (S,) summing to 1.
        particles: n.
        rng: random numbers.

    Returns:
        (n,) species numbers.
    """
    ideal = fractions * particles
    counts = np.floor(ideal + 1e-9).astype(int)
    missing = particles - counts.sum()
    counts[np.argsort(counts - ideal, kind="stable")[:missing]] += 1
    return rng.permutation(np.repeat(np.arange(len(fractions)), counts))
