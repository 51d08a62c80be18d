"""A calculator for ASE: energy, forces and stress of surface λ̄_k of any potential. ASE is imported with this file."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from jaxmd_iz import surfaces
from jaxmd_iz.checks import must
from jaxmd_iz.interop.atoms import geometry, outward
from jaxmd_iz.neighbours import Neighbours, neighbour_list
from jaxmd_iz.nonlinear import kappa, moved
from jaxmd_iz.potentials.base import AbstractPotential, AbstractWrapper, FromFunction
from jaxmd_iz.space import AbstractSpace, Periodic
from jaxmd_iz.units import Units
from jaxmd_iz.units import units as system

FEW = 256  # atoms for which all pairs are as fast as a list
STEP = 1.1  # ranges of lists in a stretched cell are in this proportion


@eqx.filter_jit
def _evaluate(potential, space, x, species, masses, k, correction, stretch, near, wants):
    e = space.edges(x, species) if near is None else near.edges(space, x, species)
    if stretch is not None:
        e = moved(e, e.d @ stretch, e.x @ stretch)
    energy, slope = surfaces.value_and_gradient(potential, e, masses, correction, lambda v: v[k])
    found = {"energy": energy, "forces": -slope}
    if "energies" in wants:
        found["energies"] = surfaces.partition(potential, e, masses, correction)[k]
    if "stress" in wants:
        found["stress"] = surfaces.virial(potential, e, masses, k, correction)
    return found


@eqx.filter_jit
def _left(near: Neighbours, space: AbstractSpace, x):
    return near.moved(space, x)


class SurfaceCalculator(Calculator):
    """ASE calculator of surface λ̄_k: `energy`, `energies` λ̄_kⁿ, `forces` and, in a periodic cell, `stress`.

    Stress is ∂λ̄_k/∂(strain) over the volume, tension positive, without the kinetic part, as ASE has it. Enable
    `jax_enable_x64` for relaxations and long runs. A cell that changes by less than a quarter compiles nothing anew.

    Args:
        potential: λⁿ(x) or Vⁿ(x), with parameters in internal units of `units`.
        k: state, 0 the lowest.
        units: unit system of the potential: `ase`, `metal`, `atomic`, or `lj`, for which the numbers of the atoms are
            taken as they are.
        species: chemical symbols in the order of their numbers; needed for atoms of several elements.
        correction: `paper` (default), `none` or `dboc`; matters for several states.
        dimensions: D; coordinates after the first D are left alone.

    Raises:
        InputError: a state or correction that does not exist; when it is used, atoms that `from_ase` refuses, a cell
            too small for the cutoff, or an energy that is not finite.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012

    def __init__(
        self,
        potential: Any,
        k: int = 0,
        units: Units | str = "ase",
        species: Sequence[str] | None = None,
        correction: str = "paper",
        dimensions: int = 3,
    ):
        super().__init__()
        is_potential = isinstance(potential, AbstractPotential)
        must(is_potential, "potential", "be a potential", f"it is a {type(potential).__name__}")
        must(0 <= k < potential.states, "k", f"be a state from 0 to {potential.states - 1}", f"it is {k}")
        kappa(correction)
        self.potential, self.k, self.correction = potential, k, correction
        self.units = system(units) if isinstance(units, str) else units
        self.species, self.dimensions = species, dimensions
        self._reference: AbstractSpace | None = None
        self._near: Neighbours | None = None

    def check_state(self, atoms: Any, tol: float = 1e-15) -> list[str]:
        """What changed since the last call: as in ASE, and the masses, on which the correction depends."""
        changes = super().check_state(atoms, tol=tol)
        if self.atoms is not None and not changes and not np.array_equal(atoms.get_masses(), self.atoms.get_masses()):
            changes = ["numbers"]
        return changes

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        """Energy, free energy and forces into `results`; `energies` and `stress` where asked for.

        Raises:
            InputError: as the class.
            ase.calculators.calculator.PropertyNotImplementedError: stress in free space, for D < 3, or of a potential
                that is a function of absolute positions, whose strain derivative is not known.
        """
        super().calculate(atoms, list(properties), system_changes)
        atoms = self.atoms
        x, masses, numbers, space, names = geometry(atoms, self.units, self.species, self.dimensions)
        if self.species is None:
            remedy = 'For example species=("O", "H"): the potential knows them as 0, 1.'
            must(len(names) == 1, "species", "say which element is which number", f"the atoms are {names}", remedy)
        cutoff, largest = self.potential.cutoff, space.largest_cutoff()
        must(
            not math.isfinite(cutoff) or cutoff <= largest,
            "atoms",
            f"have a cell with room for the cutoff {cutoff:g} within half its smallest height",
            f"half that height is {largest:g} (units of the potential)",
            "Replicate the cell: `atoms.repeat`.",
        )
        if "stress" in properties:
            self._check_stress(space)
        base, stretch = self._stretched(space)
        x = x if stretch is None else x @ np.linalg.inv(stretch)
        x = jnp.asarray(x, float)
        near = self._list(base, x, stretch)
        found = _evaluate(
            self.potential,
            base,
            x,
            jnp.asarray(numbers),
            jnp.asarray(masses, float),
            jnp.asarray(self.k),
            self.correction,
            None if stretch is None else jnp.asarray(stretch, float),
            near,
            tuple(sorted({"energies", "stress"} & set(properties))),
        )
        self._store({key: np.asarray(value, float) for key, value in found.items()}, space)

    def _store(self, found: dict[str, np.ndarray], space: AbstractSpace) -> None:
        """Results in ASE's units and shapes."""
        energy = float(outward(found["energy"], "energy", self.units))
        finite = math.isfinite(energy) and bool(np.isfinite(found["forces"]).all())
        must(finite, "atoms", "have a finite energy and forces", f"the energy is {energy}", "Two atoms may coincide.")
        self.results |= {"energy": energy, "free_energy": energy}
        pad = ((0, 0), (0, 3 - self.dimensions))
        self.results["forces"] = np.pad(outward(found["forces"], "force", self.units), pad)
        if "energies" in found:
            self.results["energies"] = outward(found["energies"], "energy", self.units)
        if "stress" in found and isinstance(space, Periodic):
            stress = outward(found["stress"] / space.volume, "stress", self.units)
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)

    def _check_stress(self, space: AbstractSpace) -> None:
        inner = self.potential
        while isinstance(inner, AbstractWrapper):
            inner = inner.potential
        if not isinstance(space, Periodic) or self.dimensions != 3:
            raise PropertyNotImplementedError("Stress needs a cell that is periodic in three dimensions.")
        if isinstance(inner, FromFunction) or not inner.invariant:
            raise PropertyNotImplementedError(
                f"Stress needs a potential of displacements, but {type(inner).__name__} is one of absolute positions."
            )

    def _stretched(self, space: AbstractSpace) -> tuple[AbstractSpace, np.ndarray | None]:
        """A cell that stays, for which programs are compiled, and the matrix that makes the present one of it."""
        base = self._reference
        if base is not None and type(base) is type(space) and base.dimensions == space.dimensions:
            if not isinstance(space, Periodic) or not isinstance(base, Periodic) or base.cell == space.cell:
                return base, None
            stretch = np.linalg.inv(base.matrix) @ space.matrix
            if np.all(np.abs(np.linalg.svd(stretch, compute_uv=False) - 1) < 0.25):
                return base, stretch
        self._reference, self._near = space, None
        return space, None

    def _list(self, base: AbstractSpace, x, stretch: np.ndarray | None) -> Neighbours | None:
        """A list that covers the cutoff in the present cell; None where all pairs are taken."""
        reach = self.potential.cutoff
        if not math.isfinite(reach) or len(x) <= FEW:
            return None
        if stretch is not None:  # |d| in the cell that stays is at most |d| here times the norm of the way back
            longer = np.linalg.norm(np.linalg.inv(stretch), 2)
            reach *= STEP ** max(0, math.ceil(math.log(longer) / math.log(STEP)))
        if reach > base.largest_cutoff():
            return None
        near = self._near
        if near is None or near.cutoff != reach or near.x.shape != x.shape:
            near, capacity = None, None
        else:
            capacity = near.slots.shape[0]
        if near is None or bool(_left(near, base, x)):
            skin = self.potential.cutoff / 10
            found = None if capacity is None else neighbour_list(base, x, reach, skin, capacity)
            if found is None or bool(found.overflow):
                most = int(neighbour_list(base, x, reach, skin, whole=False).most)
                found = neighbour_list(base, x, reach, skin, max(1, most + most // 5 + 2))
            near = found
        self._near = near
        return near
