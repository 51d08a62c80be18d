"""One physical system: potential, space, masses, surface and split together, as pure functions of (x, p, state)."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from jaxmd_iz import moments as mo
from jaxmd_iz import surfaces
from jaxmd_iz.apart import species_of
from jaxmd_iz.checks import must
from jaxmd_iz.mollifiers import AbstractMollifier
from jaxmd_iz.neighbours import Neighbours, check_cutoff
from jaxmd_iz.pair_split import Bonds, bonds, check_split
from jaxmd_iz.populations import diabatic_populations
from jaxmd_iz.potentials.base import AbstractPotential
from jaxmd_iz.potentials.external import AbstractExternal, external_gradient
from jaxmd_iz.space import AbstractSpace, Edges
from jaxmd_iz.tiles import RegularGrid


class System(eqx.Module):
    """n particles with a potential in a space; every method is a pure function and handles one phase point.

    Args:
        potential: Vⁿ(x) or λⁿ(x).
        space: free or periodic.
        masses: (n,) M_n, mass.
        species: (n,) numbers from 0; all 0 by default.
        external: confining V_b, or None.
        correction: `paper` (default), `none` or `dboc`.
        split: `energy` (default), `distance` or `min_norm`.

    Raises:
        InputError: masses that are not positive, a cell too small for the cutoff, a split that does not hold.
    """

    potential: AbstractPotential
    space: AbstractSpace
    masses: Float[Array, " n"]
    species: Int[Array, " n"]
    external: AbstractExternal | None
    correction: str = eqx.field(static=True)
    split: str = eqx.field(static=True)
    kinds: int = eqx.field(static=True)

    def __init__(
        self, potential, space, masses, species=None, external=None, correction="paper", split="energy", kinds=None
    ):
        if not isinstance(masses, Tracer):
            masses = np.asarray(masses)
            masses = masses.astype(float) if masses.dtype.kind in "iu" else masses
            must(masses.dtype.kind in "fV", "masses", "be numbers", f"they are of type {masses.dtype}")
        shape = masses.shape
        must(len(shape) == 1 and shape[0] > 0, "masses", "have shape (n,)", f"its shape is {shape}")
        if not isinstance(masses, Tracer):
            least = float(np.min(np.asarray(masses)))
            must(least > 0, "masses", "be positive", f"the smallest is {least:g}")
            must(bool(np.isfinite(masses).all()), "masses", "be finite", "some are infinite")
        numbers = np.zeros(shape, int) if species is None else species
        numbers = numbers if isinstance(numbers, Tracer) else np.asarray(numbers)
        must(numbers.shape == shape, "species", f"have shape {shape}", f"it is {numbers.shape}")
        if not isinstance(numbers, Tracer):
            whole = np.issubdtype(numbers.dtype, np.integer) and int(np.min(np.asarray(numbers))) >= 0
            must(whole, "species", "hold whole numbers from 0", f"it is {np.unique(np.asarray(numbers))}")
            least, size = int(np.max(np.asarray(numbers))) + 1, species_of(potential)
            but = f"the potential has parameters for {size:g}"
            must(least <= size, "species", f"number at most {size:g} species", f"it numbers {least} and {but}")
        if kinds is None:
            must(not isinstance(numbers, Tracer), "kinds", "be given when `species` is traced", "it is None")
            kinds = int(np.max(np.asarray(numbers))) + 1
        surfaces.kappa(correction)
        check_split(split, potential, correction, space)
        check_cutoff(space, potential.cutoff)
        self.potential = potential
        self.space = space
        self.masses = jnp.asarray(masses)
        self.species = jnp.asarray(numbers)
        self.external = external
        self.correction = correction
        self.split = split
        self.kinds = kinds

    @property
    def states(self) -> int:
        """Number d of electron states."""
        return self.potential.states

    def edges(self, x: Float[Array, "n D"], neighbours: Neighbours | None = None) -> Edges:
        """Bonds of x: all pairs, or those of a neighbour list."""
        if neighbours is None:
            return self.space.edges(x, self.species)
        return neighbours.edges(self.space, x, self.species)

    def levels(self, x: Float[Array, "n D"], neighbours: Neighbours | None = None) -> Float[Array, " d"]:
        """λ̄_j(x) of every state, without V_b."""
        return surfaces.levels(self.potential, self.edges(x, neighbours), self.masses, self.correction)

    def confinement(self, x: Float[Array, "n D"]) -> Float[Array, "n D"]:
        """∇V_b."""
        return external_gradient(self.external, x, self.species)

    def force(
        self, x: Float[Array, "n D"], k: int | Int[Array, ""], neighbours: Neighbours | None = None
    ) -> Float[Array, "n D"]:
        """−∇(λ̄_k + V_b)."""
        e = self.edges(x, neighbours)
        slope = surfaces.gradient(self.potential, e, self.masses, k, self.correction)
        return -(slope + self.confinement(x))

    def surface(
        self, x: Float[Array, "n D"], k: int | Int[Array, ""], neighbours: Neighbours | None = None
    ) -> surfaces.Surface:
        """Surface k at x."""
        return self._surface(x, k, neighbours)[1]

    def _surface(self, x, k, neighbours):
        e = self.edges(x, neighbours)
        local = surfaces.is_local(self.potential, self.correction)
        far = self.states > 1 and self.split == "distance" and surfaces.kappa(self.correction) != 0
        whole = not (local or self.states == 1) or far or not self.potential.own_bonds
        if whole and not e.dense:
            pairs = self.space.edges(x, self.species)
            if self.potential.own_bonds:  # dense evaluation is simplest; part of V vanishes beyond the cutoff
                return pairs, surfaces.surface(self.potential, pairs, self.masses, k, self.correction)
            return e, surfaces.surface(self.potential, e, self.masses, k, self.correction, pairs)
        return e, surfaces.surface(self.potential, e, self.masses, k, self.correction)

    def bonds(
        self,
        x: Float[Array, "n D"],
        p: Float[Array, "n D"],
        k: int | Int[Array, ""],
        neighbours: Neighbours | None = None,
    ) -> tuple[surfaces.Surface, Bonds]:
        """Surface k at x and its bonds for momenta p."""
        e, surface = self._surface(x, k, neighbours)
        velocity = p / self.masses[:, None]
        return surface, bonds(self.split, self.potential, e, self.masses, k, self.correction, surface, velocity)

    def moments(
        self,
        y: Float[Array, "Y D"],
        x: Float[Array, "n D"],
        p: Float[Array, "n D"],
        k: int | Int[Array, ""],
        mollifier: AbstractMollifier,
        neighbours: Neighbours | None = None,
        regular: RegularGrid | None = None,
    ) -> mo.Moments:
        """Raw moments at y, which may be `regular`, of the phase point (x, p) on surface k."""
        return self.observe([(y, mollifier, regular)], x, p, k, neighbours)[0][0]

    def observe(
        self,
        grids: Sequence[
            tuple[Float[Array, "_ D"], AbstractMollifier]
            | tuple[Float[Array, "_ D"], AbstractMollifier, RegularGrid | None]
        ],
        x: Float[Array, "n D"],
        p: Float[Array, "n D"],
        k: int | Int[Array, ""],
        neighbours: Neighbours | None = None,
    ) -> tuple[tuple[mo.Moments, ...], mo.Totals]:
        """Moments on several grids, with one evaluation of the surface, and the totals.

        A grid is (y, mollifier), or (y, mollifier, regular) if y is a regular grid.
        """
        surface, links = self.bonds(x, p, k, neighbours)
        confinement = self.confinement(x)
        of = x, p, self.masses, self.species, self.kinds, surface, links, confinement
        several = tuple(mo.moments(y, *of, mollifier, self.space, *more) for y, mollifier, *more in grids)
        e = self.edges(x, neighbours)
        virial = surfaces.virial(self.potential, e, self.masses, k, self.correction)
        total = mo.Totals(
            momentum=jnp.sum(p, axis=0),
            kinetic=jnp.sum(jnp.sum(p**2, axis=-1) / self.masses) / 2,
            drift=jnp.sum(jnp.sum(p, axis=0) ** 2) / (2 * jnp.sum(self.masses)),
            potential=jnp.sum(surface.energy),
            virial=virial,
            adiabatic=jax.nn.one_hot(k, self.states, dtype=x.dtype),
            diabatic=diabatic_populations(self.potential, e, self.masses, k, self.correction).astype(x.dtype),
            crossing=surface.crossing.astype(x.dtype),
        )
        return several, total
