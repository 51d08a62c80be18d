"""Many-body potentials: Stillinger–Weber and its LAMMPS parameter files; harmonic bonds of a fixed table.

A triplet's energy belongs to its central atom, or in thirds to its three atoms: two partitions λⁿ of
section 3 with one sum.
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

from jaxmd_iz.checks import fail, must, must_traced, one_of
from jaxmd_iz.potentials.base import AbstractDistancePotential, rows

# the order of an entry after its three elements; tol, the last number, is not used
SW_NAMES = ("epsilon", "sigma", "a", "lam", "gamma", "cos0", "A", "B", "p", "q")
Triple = Float[Array, "S S S"]


class StillingerWeber(AbstractDistancePotential):
    """Stillinger–Weber: U = Σ_{i<j} φ₂(r_ij) + Σ_i Σ_{j<k} φ₃(r_ij, r_ik, θ_jik).

    φ₂ = A ε [B (σ/r)ᵖ − (σ/r)^q] e^{σ/(r − aσ)},
    φ₃ = λ ε (cos θ − cos θ₀)² e^{γσ/(r_ij − aσ)} e^{γσ/(r_ik − aσ)}, both zero from r = aσ on.
    As in LAMMPS, φ₂ takes its parameters from entry i j j; φ₃ takes λ, ε and cos θ₀ from entry i j k (i the centre)
    and γ, σ and a from i j j and i k k.
    F. H. Stillinger and T. A. Weber, Phys. Rev. B 31, 5262 (1985).

    Args:
        epsilon, sigma: ε, an energy, and σ, a length, in any coherent units.
        a, lam, gamma, cos0, A, B, p, q: numbers. All ten are (S, S, S) by species, or one number.
        share: whether λⁿ gives a triplet's energy to the `central` atom or in `thirds` to all three.
        cutoff: range of neighbour lists, a length; max aσ if left out. φ₂ and φ₃ are cut there as well, so give a
            larger one when aσ is to grow, as in a fit.

    Raises:
        InputError: parameters of the wrong shape, not finite, negative, or not symmetric where the order of the
            species cannot matter; a traced σ or a without a cutoff.
    """

    epsilon: Triple
    sigma: Triple
    a: Triple
    lam: Triple
    gamma: Triple
    cos0: Triple
    A: Triple
    B: Triple
    p: Triple
    q: Triple
    share: str = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    states: ClassVar[int] = 1
    invariant: ClassVar[bool] = True
    complex: ClassVar[bool] = False
    triangles: ClassVar[bool] = True

    def __init__(self, epsilon, sigma, a, lam, gamma, cos0, A, B, p, q, share="central", cutoff=None):
        self.share = one_of(share, "share", ("central", "thirds"))
        values = dict(zip(SW_NAMES, (epsilon, sigma, a, lam, gamma, cos0, A, B, p, q), strict=True))
        tables = {name: jnp.asarray(value, float) for name, value in values.items()}
        species = max(t.shape[0] if t.ndim else 1 for t in tables.values())
        for name, table in tables.items():
            fits = table.shape in ((), (species,) * 3)
            must(fits, name, "be a number or (S, S, S)", f"its shape is {table.shape}")
            setattr(self, name, jnp.broadcast_to(table, (species,) * 3))
        numbers = {name: np.asarray(v, float) for name, v in values.items() if not isinstance(v, Tracer)}
        known = {name: np.broadcast_to(v, (species,) * 3) for name, v in numbers.items()}
        _check_sw(known)
        if cutoff is None:
            must({"a", "sigma"} <= set(known), "cutoff", "be given when `sigma` or `a` is traced", "it is None")
            cutoff = np.max(_of_pairs(known["a"]) * _of_pairs(known["sigma"]))
        self.cutoff = float(cutoff)
        must(self.cutoff > 0, "cutoff", "be positive", f"it is {self.cutoff}")

    @classmethod
    def from_file(cls, path: str | Path, elements, share: str = "central"):
        """The potential of a LAMMPS parameter file, one element a species.

        Args, Raises: as in `read_sw` and the class.
        """
        return cls(**read_sw(path, elements), share=share)

    @classmethod
    def silicon(cls, share: str = "central"):
        """Silicon of Stillinger and Weber (1985) in eV and Å.

        Args:
            share: as in the class.
        """
        return cls.from_file(Path(__file__).parent / "data" / "Si.sw", ("Si",), share)

    @property
    def own_bonds(self):
        """True when a triplet's energy goes to its central atom."""
        return self.share == "central"

    def _terms(self, row):
        """φ₂ of every bond, (K,), and φ₃ of every ordered pair of bonds, (K, K), of one particle."""
        dtype, single = row.r2.dtype, self.epsilon.shape[0] == 1

        def at(name, one, other):  # entry (this particle, one, other)
            table = getattr(self, name).astype(dtype)
            return table[0, 0, 0] if single else table[row.species, one, other]

        names = ("epsilon", "sigma", "a", "gamma", "A", "B", "p", "q")
        epsilon, sigma, a, gamma, A, B, p, q = (at(name, row.others, row.others) for name in names)
        ends = (row.others[:, None], row.others[None, :])
        lam, triplet_epsilon, cos0 = (at(name, *ends) for name in ("lam", "epsilon", "cos0"))
        edge = a * sigma
        # regular distances first, then the kernels, then the mask: gradients of all branches are finite
        r = jnp.sqrt(jnp.maximum(row.r2, jax.lax.stop_gradient(1e-4 * sigma**2)))
        inside = row.mask & (r < edge) & (row.r2 < self.cutoff**2)
        r = jnp.where(inside, r, 0.5 * edge)
        s = sigma / r
        two = A * epsilon * (B * s**p - s**q) * jnp.exp(sigma / (r - edge))
        screen = jnp.where(inside, jnp.exp(gamma * sigma / (r - edge)), 0.0)
        one, other = r[:, None], r[None, :]
        cosine = (one**2 + other**2 - row.between) / (2.0 * one * other)
        three = lam * triplet_epsilon * (cosine - cos0) ** 2
        three = jnp.where(jnp.eye(len(r), dtype=bool), 0.0, three)
        return jnp.where(inside, two, 0.0), three * screen[:, None] * screen[None, :]

    def on_distances(self, row):
        """½ Σ_j φ₂ + Σ_{j<k} φ₃ with the particle in the centre: whatever `share`, the sum is U."""
        two, three = self._terms(row)
        return 0.5 * jnp.sum(two) + 0.5 * jnp.sum(three)

    def partition(self, e):
        """λⁿ, (n,), with triplets shared as `share` says."""
        two, three = jax.vmap(self._terms)(rows(e, True))
        half = 0.5 * jnp.sum(two, axis=1)
        central = 0.5 * jnp.sum(three, axis=(1, 2))
        if self.share == "central":
            return half + central
        # the end m of bond n → m finds its thirds in row n, in the slot opposite to its own bond m → n
        ends = jnp.sum(three, axis=2)[e.to, e.back]
        return half + (central + jnp.sum(jnp.where(e.mask, ends, 0.0), axis=1)) / 3.0


def _of_pairs(table: np.ndarray) -> np.ndarray:
    """Entries i j j, (S, S)."""
    return np.einsum("ijj->ij", table)


def _check_sw(known: dict[str, np.ndarray]) -> None:
    """Refuses what is not finite, not positive or depends on an order that has no meaning."""
    for name, table in known.items():
        must(bool(np.isfinite(table).all()), name, "be finite", "it has NaN or infinite entries")
        lowest = float(table.min())
        must(name == "cos0" or lowest >= 0, name, "not be negative", f"it holds {lowest:g}")
        pairs = _of_pairs(table)
        lowest = float(pairs.min())
        positive = name not in ("sigma", "a") or lowest > 0
        must(positive, name, "be positive in entries i j j", f"it holds {lowest:g}")
        if name in ("epsilon", "sigma", "a", "A", "B", "p", "q"):
            same = np.allclose(pairs, pairs.T, rtol=1e-6, atol=0)
            must(same, name, "agree in entries i j j and j i i", "they differ")
    if "lam" in known and "epsilon" in known:
        known = {"lam·epsilon": known["lam"] * known["epsilon"], **known}
    for name in {"lam·epsilon", "cos0"} & set(known):
        same = np.allclose(known[name], known[name].swapaxes(1, 2), rtol=1e-6, atol=1e-12)
        must(same, name, "agree in entries i j k and i k j", "they differ")


def read_sw(path: str | Path, elements) -> dict[str, np.ndarray]:
    """Parameters of some elements from a Stillinger–Weber file in the format of LAMMPS.

    An entry is three elements, the first in the centre, and eleven numbers, epsilon sigma a lambda gamma costheta0
    A B p q tol; it may span lines, and `#` starts a comment. tol, by which LAMMPS shortens its neighbour lists, is
    not used: the potential keeps its whole range aσ.

    Args:
        path: the file, in the units of the simulation (LAMMPS `metal`: eV, Å).
        elements: names of the species, in their order; names may repeat.

    Returns:
        The first ten arguments of `StillingerWeber`, each (S, S, S).

    Raises:
        InputError: a file that cannot be read, an entry too short or too long, a triplet missing or given twice.
    """
    elements = tuple(elements)
    must(len(elements) > 0, "elements", "name at least one element", "it is empty")
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fail("path", "be a readable text file", f"{path}: {error}")
    entries: dict[tuple[str, ...], list[float]] = {}
    words: list[str] = []
    start, size = 0, 3 + len(SW_NAMES) + 1
    for number, line in enumerate(lines, 1):
        found = line.split("#")[0].split()
        start = number if not words else start
        words += found
        where = f"the entry of `{path}` that starts in line {start}"
        must(len(words) <= size, "path", f"give {size} words an entry", f"{where} has {len(words)}")
        if len(words) < size:
            continue
        triplet = tuple(words[:3])
        must(triplet not in entries, "path", "give a triplet once", f"{where} repeats it")
        entries[triplet] = [_number(word, where) for word in words[3:]]
        words = []
    where = f"the entry of `{path}` that starts in line {start} has {len(words)}"
    must(not words, "path", f"give {size} words an entry", where)
    shape = (len(elements),) * 3
    wanted = {index: tuple(elements[i] for i in index) for index in np.ndindex(shape)}
    missing = sorted({" ".join(t) for t in wanted.values() if t not in entries})
    listed = ", ".join(missing)
    must(not missing, "path", "hold every triplet of the elements", f"`{path}` lacks {listed}")
    table = np.array([entries[t] for t in wanted.values()]).reshape(*shape, -1)
    return {name: table[..., i] for i, name in enumerate(SW_NAMES)}


def _number(word: str, where: str) -> float:
    try:
        return float(word)
    except ValueError:
        fail("path", "give three elements and eleven numbers an entry", f"{where} has `{word}` for a number")


class HarmonicBonds(AbstractDistancePotential):
    """Bonds of a fixed table: U = Σ_b ½ k_b (r_b − r₀_b)², half of each bond to each end.

    Args:
        pairs: (B, 2) particle indices, known when built.
        stiffness: k, energy/length² in any coherent units: a number or (B,).
        length: r₀, a length: a number or (B,).
        cutoff: range of neighbour lists, a length that no bond may reach; `inf` needs all pairs. A bond without
            an edge raises an error when the energy is computed.

    Raises:
        InputError: a table that is not (B, 2) of distinct bonds, or parameters that are not finite or negative.
    """

    partners: Int[Array, "n Kb"]  # −1 in empty slots
    bond: Int[Array, "n Kb"]
    stiffness: Float[Array, ""] | Float[Array, " B"]
    length: Float[Array, ""] | Float[Array, " B"]
    cutoff: float = eqx.field(static=True)
    states: ClassVar[int] = 1
    own_bonds: ClassVar[bool] = True
    invariant: ClassVar[bool] = True
    complex: ClassVar[bool] = False
    triangles: ClassVar[bool] = False

    def __init__(self, pairs, stiffness, length, cutoff: float = math.inf):
        must(cutoff > 0, "cutoff", "be positive", f"it is {cutoff}")
        table = np.asarray(pairs)
        shaped = table.ndim == 2 and table.shape[1] == 2 and len(table) > 0
        but = f"it is {table.dtype} of shape {table.shape}"
        whole = np.issubdtype(table.dtype, np.integer)
        must(shaped and whole, "pairs", "be (B, 2) particle indices", but)
        must(table.min() >= 0, "pairs", "not hold negative indices", f"it holds {table.min()}")
        distinct = {tuple(sorted(row)) for row in table.tolist()}
        loops = int((table[:, 0] == table[:, 1]).sum())
        must(loops == 0, "pairs", "join different particles", f"{loops} of them do not")
        repeated = len(table) - len(distinct)
        must(repeated == 0, "pairs", "name each bond once", f"{repeated} are repeated")
        self.stiffness, self.length = jnp.asarray(stiffness, float), jnp.asarray(length, float)
        for name, value in (("stiffness", self.stiffness), ("length", self.length)):
            fits = value.shape in ((), (len(table),))
            must(fits, name, f"be a number or ({len(table)},)", f"its shape is {value.shape}")
            valid = isinstance(value, Tracer) or np.all(np.isfinite(value) & (np.asarray(value) >= 0))
            must(valid, name, "be finite and not negative", f"it is {value}")
        ends = np.concatenate([table, table[:, ::-1]])
        ends, number = ends[order := np.argsort(ends[:, 0], kind="stable")], order % len(table)
        counts = np.bincount(ends[:, 0])
        slot = np.arange(len(ends)) - np.repeat(np.cumsum(counts) - counts, counts)
        partners = np.full((len(counts), counts.max()), -1)
        bond = np.zeros_like(partners)
        partners[ends[:, 0], slot], bond[ends[:, 0], slot] = ends[:, 1], number
        self.partners, self.bond = jnp.asarray(partners), jnp.asarray(bond)
        self.cutoff = float(cutoff)

    def on_distances(self, row):
        """¼ Σ_b k_b (r_b − r₀_b)² over the bonds of one particle."""
        listed = row.index < self.partners.shape[0]
        at = jnp.where(listed, row.index, 0)
        wanted = jnp.where(listed, self.partners[at], -1)
        is_bond = row.mask[:, None] & (row.to.astype(wanted.dtype)[:, None] == wanted[None, :])
        k, length = (
            jnp.broadcast_to(p if p.ndim == 0 else p[self.bond[at]], wanted.shape).astype(row.r2.dtype)
            for p in (self.stiffness, self.length)
        )
        r = jnp.sqrt(jnp.maximum(row.r2, jnp.finfo(row.r2.dtype).tiny))
        stretch = r[:, None] - length[None, :]
        energy = 0.25 * jnp.sum(jnp.where(is_bond, k[None, :] * stretch**2, 0.0))
        return must_traced(
            energy,
            jnp.sum(is_bond) != jnp.sum(wanted >= 0),
            "A harmonic bond has no edge: it is longer than the neighbour list reaches, or names no "
            "particle. Give `HarmonicBonds` a larger `cutoff`.",
        )
