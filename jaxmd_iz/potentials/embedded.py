"""Embedded atoms: F(ρ̄) + ½ Σ φ from tables, and the reader of setfl files (LAMMPS eam/alloy and eam/fs).

λⁿ = F_a(ρ̄ₙ) + ½ Σ_m φ_ab(r_nm), ρ̄ₙ = Σ_m ρ_ba(r_nm), n of species a, m of species b: the partition (2.8) with d = 1,
a function of the distances from n alone (section 3).
"""

import math
from pathlib import Path
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from jaxmd_iz.checks import fail, must
from jaxmd_iz.potentials.base import AbstractDistancePotential

LEAST = 5  # points that a spline without knots at the second and the last but one needs


class EmbeddedAtom(AbstractDistancePotential):
    """Embedded atoms: U = Σ_n F_a(Σ_m ρ_ba(r_nm)) + Σ_{n<m} φ_ab(r_nm) (M. S. Daw and M. I. Baskes, 1984).

    Between the points of the tables F, ρ and r φ are cubic splines with two continuous derivatives, not-a-knot at the
    ends; the fields hold their coefficients on uniform B-splines, so any values of them are such functions. F goes on
    linearly outside of its table. Beyond `cutoff` ρ and φ are zero; at it they keep what the table says there. Below
    r = `dr` they are constant.

    Args:
        embedding: (S, R) F_a at ρ̄ = 0, `drho`, 2 `drho`, …, an energy in any coherent units.
        density: ρ at r = 0, `dr`, 2 `dr`, …, in the unit of `drho`: (S, N), or (S, S, N) with [b, a] the density of an
            atom of species b at one of species a (Finnis and Sinclair).
        pair: (S, S, N) r φ_ab(r) at the same r, energy·length, symmetric in the species.
        drho, dr: steps of the tables, `dr` a length.
        cutoff: r_c, a length, at most N·`dr`: the last pieces of ρ and r φ reach one step beyond their table.

    Raises:
        InputError: tables of the wrong shape, too short, not finite or not symmetric, or steps or a cutoff that are
            not positive.
    """

    embedding: Float[Array, "S R"]  # coefficients, as many as points and two more
    density: Float[Array, "S T N"]  # T = S, or 1 where the density does not depend on who feels it
    pair: Float[Array, "S S N"]
    drho: float = eqx.field(static=True)
    dr: float = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    states: ClassVar[int] = 1
    own_bonds: ClassVar[bool] = True
    invariant: ClassVar[bool] = True
    complex: ClassVar[bool] = False
    triangles: ClassVar[bool] = False

    def __init__(self, embedding, density, pair, drho: float, dr: float, cutoff: float):
        tables = {"embedding": embedding, "density": density, "pair": pair}
        tables = {name: jnp.asarray(table, float) for name, table in tables.items()}
        embedding, density, pair = tables.values()
        but = f"shapes are {', '.join(str(t.shape) for t in tables.values())}"
        kinds, points = embedding.shape[0] if embedding.ndim else 0, pair.shape[-1] if pair.ndim else 0
        fits = embedding.ndim == 2 and pair.shape == (kinds, kinds, points)
        fits = fits and density.shape in ((kinds, points), pair.shape)
        must(fits, "embedding, density, pair", "be (S, R), (S, N) or (S, S, N), and (S, S, N)", but)
        must(min(embedding.shape[1], points) >= LEAST, "embedding, density, pair", f"have {LEAST} points or more", but)
        for name, table in tables.items():
            finite = isinstance(table, Tracer) or bool(np.isfinite(np.asarray(table)).all())
            must(finite, name, "be finite", "it has NaN or infinite entries")
        number = np.zeros((1, 1, 1)) if isinstance(pair, Tracer) else np.asarray(pair)
        same = np.array_equal(number, number.swapaxes(0, 1))
        must(same, "pair", "be symmetric in the species", "entries (a, b) and (b, a) differ")
        for name, value in (("drho", drho), ("dr", dr), ("cutoff", cutoff)):
            must(0 < value < math.inf, name, "be positive and finite", f"it is {value}")
        self.drho, self.dr, self.cutoff = float(drho), float(dr), float(cutoff)
        but = f"it is {cutoff:g} and the {points} points end at {(points - 1) * dr:g}"
        must(cutoff <= points * dr * (1 + 1e-6), "cutoff", "be at most a step beyond the tables", but)
        self.embedding = _coefficients(embedding)
        self.density = _coefficients(density[:, None] if density.ndim == 2 else density)
        self.pair = _coefficients(pair)

    @classmethod
    def from_file(cls, path: str | Path, elements):
        """The potential of a setfl file, in eV and Å, one element a species.

        Args, Raises: as in `read_setfl`.
        """
        return cls(**read_setfl(path, elements))

    def on_distances(self, row):
        """F_a(Σ_m ρ_ba) + ½ Σ_m φ_ab of one particle."""
        dtype, edge = row.r2.dtype, self.cutoff**2
        inside = row.mask & (row.r2 < edge)
        # a regular r² first, then the root and the splines, then the mask: gradients of all branches are finite
        r = jnp.sqrt(jnp.clip(jnp.where(inside, row.r2, edge), self.dr**2, edge))
        slots, weights, _ = _place(r / self.dr, self.pair.shape[-1])
        others, slots = row.others[:, None], slots.astype(row.others.dtype)
        felt_by = row.species if self.density.shape[1] > 1 else jnp.zeros_like(row.species)
        rho = jnp.sum(weights * self.density.astype(dtype)[others, felt_by, slots], axis=1)
        phi = jnp.sum(weights * self.pair.astype(dtype)[row.species, others, slots], axis=1) / r
        total = jnp.sum(jnp.where(inside, rho, 0.0))
        return self._embedded(total, row.species) + 0.5 * jnp.sum(jnp.where(inside, phi, 0.0))

    def _embedded(self, rho, species):
        """F_a(ρ̄), linear outside of its table."""
        s = rho / self.drho
        held = jnp.clip(s, 0.0, self.embedding.shape[1] - 3.0)
        slots, weights, slopes = _place(held, self.embedding.shape[1])
        c = self.embedding.astype(rho.dtype)[species, slots.astype(species.dtype)]
        return jnp.sum(weights * c) + (s - held) * jnp.sum(slopes * c)


def _coefficients(values: Float[Array, "*b N"]) -> Float[Array, "*b M"]:
    """B-spline coefficients of the not-a-knot cubic spline through values a unit apart, M = N + 2.

    With m = δ²c the second derivatives, c_i = f_i − m_i/6 and m_{i−1} + 4m_i + m_{i+1} = 6 δ²f_i; no knot at the second
    point means m_0 − 2m_1 + m_2 = 0, so that m_1 = δ²f_1, and likewise at the other end.
    """
    flat = values.reshape(-1, values.shape[-1]).T
    second = flat[:-2] - 2.0 * flat[1:-1] + flat[2:]
    right = (6.0 * second[1:-1]).at[0].add(-second[0]).at[-1].add(-second[-1])
    one = jnp.ones(right.shape[0], right.dtype)
    inner = jax.lax.linalg.tridiagonal_solve(one.at[0].set(0.0), 4.0 * one, one.at[-1].set(0.0), right)
    m = jnp.concatenate([second[:1], inner, second[-1:]])
    m = jnp.concatenate([2.0 * m[:1] - m[1:2], m, 2.0 * m[-1:] - m[-2:-1]])
    c = flat - m / 6.0
    c = jnp.concatenate([m[:1] + 2.0 * c[:1] - c[1:2], c, m[-1:] + 2.0 * c[-1:] - c[-2:-1]])
    return c.T.reshape(*values.shape[:-1], -1)


def _place(s: Float[Array, "*b"], size: int) -> tuple[Int[Array, "*b 4"], Float[Array, "*b 4"], Float[Array, "*b 4"]]:
    """Which four of `size` B-splines are not zero at s, what they are there, and their slopes."""
    k = jnp.clip(jnp.floor(jax.lax.stop_gradient(s)), 0.0, size - 4.0)
    t = s - k
    u = 1.0 - t
    weights = [u**3, 4.0 - 6.0 * t**2 + 3.0 * t**3, 4.0 - 6.0 * u**2 + 3.0 * u**3, t**3]
    slopes = [-(u**2), 3.0 * t**2 - 4.0 * t, 4.0 * u - 3.0 * u**2, t**2]
    slots = k.astype(int)[..., None] + jnp.arange(4).reshape((1,) * s.ndim + (4,))
    return slots, jnp.stack(weights, -1) / 6.0, jnp.stack(slopes, -1) / 2.0


def read_setfl(path: str | Path, elements) -> dict:
    """Tables of some elements from a setfl file (DYNAMO; LAMMPS eam/alloy and eam/fs).

    Three lines of comment; the number of elements and their names; R, `drho`, N, `dr`, `cutoff`; for each element its
    number, mass, lattice constant and lattice, then R values of F and N of ρ, or of Finnis and Sinclair's kind N of
    ρ at each element; then N values of r φ for every pair 11, 21, 22, 31, …. Which kind it is the count tells. Numbers,
    masses and lattices are not used.

    Args:
        path: the file, in eV and Å.
        elements: names of the species, in their order; names may repeat.

    Returns:
        The arguments of `EmbeddedAtom`.

    Raises:
        InputError: a file that cannot be read, is no text, cut short or too long, holds what is not a finite number
            where one belongs, or lacks an element.
    """
    elements = tuple(elements)
    must(len(elements) > 0, "elements", "name at least one element", "it is empty")
    try:
        words = [w for line in Path(path).read_text(encoding="utf-8").splitlines()[3:] for w in line.split()]
    except (OSError, UnicodeDecodeError) as error:
        fail("path", "be a readable text file", f"{path}: {error}")
    count = _whole(words, 0, path, "the number of elements in line 4")
    names, at = words[1 : 1 + count], 1 + count
    r_size = _whole(words, at, path, "the number R of values of F in line 5")
    n_size = _whole(words, at + 2, path, "the number N of values of ρ in line 5")
    must(len(words) > at + 4, "path", "give R, drho, N, dr and the cutoff in line 5", f"`{path}` ends before")
    drho, dr, cutoff = _numbers([words[at + 1], *words[at + 3 : at + 5]], path)
    words = words[at + 5 :]
    pairs = count * (count + 1) // 2 * n_size
    expected = {t: count * (4 + r_size + t * n_size) + pairs for t in (1, count)}
    kinds = [t for t, size in expected.items() if size == len(words)]
    listed = " or ".join(str(size) for size in sorted(set(expected.values())))
    must(
        bool(kinds), "path", f"hold {listed} words after line 5", f"`{path}` holds {len(words)}: it is cut or not setfl"
    )
    block, tables = 4 + r_size + kinds[0] * n_size, []
    for a in range(count):  # four words of a header, then the numbers
        tables.append(_numbers(words[a * block + 4 : (a + 1) * block], path))
    rows = np.array(tables)
    embedding, density = rows[:, :r_size], rows[:, r_size:].reshape(count, kinds[0], n_size)
    lower, pair = np.tril_indices(count), np.zeros((count, count, n_size))
    pair[lower] = pair[lower[::-1]] = _numbers(words[count * block :], path).reshape(-1, n_size)
    missing = ", ".join(sorted(set(elements) - set(names)))
    must(not missing, "elements", f"be in `{path}` ({', '.join(names)})", f"{missing} are not")
    index = np.array([names.index(name) for name in elements])
    density = density[index][:, index] if kinds[0] > 1 else density[index, 0]
    steps = {"drho": float(drho), "dr": float(dr), "cutoff": float(cutoff)}
    return {"embedding": embedding[index], "density": density, "pair": pair[index][:, index], **steps}


def _whole(words: list[str], at: int, path, what: str) -> int:
    word = words[at] if at < len(words) else "missing"
    good = word.isascii() and word.isdigit() and 0 < int(word) < 10**8
    must(good, "path", f"give {what} as a whole number above 0", f"in `{path}` it is `{word[:40]}`")
    return int(word)


def _numbers(words: list[str], path) -> np.ndarray:
    """Finite numbers, or what is wrong with the first that is none."""
    try:
        values = np.array(words, float)
    except ValueError:
        values = np.array([_number(word) for word in words])
    bad = np.flatnonzero(~np.isfinite(values))
    but = f"`{path}` has `{words[bad[0]][:40]}` among them" if bad.size else ""
    must(not bad.size, "path", "hold finite numbers", but)
    return values


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan
