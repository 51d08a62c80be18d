"""Published model systems by name: what `potential.kind = "model"` builds and `jaxmd-iz models` lists. Atomic units."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import NamedTuple

import numpy as np

from jaxmd_iz.checks import must, one_of
from jaxmd_iz.potentials.adiabatic import Lowest
from jaxmd_iz.potentials.avoided import QuarticCrossing, SodiumIodide, SuperExchange, Tully1, Tully2, Tully3
from jaxmd_iz.potentials.base import AbstractPotential
from jaxmd_iz.potentials.conical import LepsH3
from jaxmd_iz.potentials.diabatic import Gaussian, TwoStateFluid
from jaxmd_iz.potentials.electrons import Electrons
from jaxmd_iz.potentials.exciton import Dipolar, ExcitonFluid
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.potentials.shin_metiu import ShinMetiu
from jaxmd_iz.potentials.vibronic import JahnTeller, LinearVibronicCoupling, SpinBoson, read_lvc

HYDROGEN = 1837.1526  # mass of ¹H in electron masses: proton and electron


class Cut(NamedTuple):
    """A line through configuration space, for pictures: s from `low` to `high` ↦ x (n, D)."""

    label: str
    low: float
    high: float
    place: Callable[[float], np.ndarray]
    most: int = 4  # states drawn


class Model(NamedTuple):
    """A model system: how to make it, where it may start, and a cut that shows its surfaces."""

    title: str
    source: str
    make: Callable[..., AbstractPotential]
    x: np.ndarray | None  # (n, D) start; None where it depends on a file
    cut: Cut | None
    confined: bool  # whether V itself confines the nuclei, so that canonical averages exist without V_b
    masses: tuple[float, ...] | None = None  # (n,), or None for those of the potential
    names: tuple[str, ...] = ()  # species of the particles; of one kind if empty
    unit: str = "hartree"  # of energies
    keep: int | None = None  # lowest states kept unless another number is asked for


def _line(s) -> np.ndarray:
    return np.array([[s]])


def _triangle(side: float) -> np.ndarray:
    """An equilateral triangle in space, centred."""
    angle = np.pi / 2 + 2 * np.pi * np.arange(3) / 3
    return side / np.sqrt(3) * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)


def _isosceles(s) -> np.ndarray:
    return _triangle(1.9) + np.array([[0.0, s, 0.0], [0.0] * 3, [0.0] * 3])


def _scalene(s) -> np.ndarray:
    """Past the intersection, not through it: 0.2 bohr aside."""
    return _isosceles(s) + np.array([[0.2, 0.0, 0.0], [0.0] * 3, [0.0] * 3])


def _molecules(gap: float, bond: float = 1.4) -> np.ndarray:
    """Two H₂ molecules at a distance, the second one turned by 40° and 20°, so that no symmetry holds, in bohr."""
    tilt, turn = np.radians([40.0, 20.0])
    way = np.array([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)])
    ends = bond / 2 * np.stack([-way, way])
    return np.concatenate([bond / 2 * np.array([[0.0, 0, -1], [0, 0, 1]]), ends + np.array([[gap, 0.0, 0.0]] * 2)])


#: Models that `potential.model` names.
MODELS: dict[str, Model] = {
    "tully_1": Model(
        "Tully 1: simple avoided crossing", "J. C. Tully, J. Chem. Phys. 93, 1061 (1990)", Tully1,
        _line(-2.0), Cut("x [bohr]", -6, 6, _line), False,
    ),
    "tully_2": Model(
        "Tully 2: dual avoided crossing", "J. C. Tully, J. Chem. Phys. 93, 1061 (1990)", Tully2,
        _line(-2.0), Cut("x [bohr]", -8, 8, _line), False,
    ),
    "tully_3": Model(
        "Tully 3: extended coupling with reflection", "J. C. Tully, J. Chem. Phys. 93, 1061 (1990)", Tully3,
        _line(-2.0), Cut("x [bohr]", -12, 6, _line), False,
    ),
    "super_exchange": Model(
        "Super-exchange: three states in a row",
        "L. Wang, D. Trivedi, O. V. Prezhdo, J. Chem. Theory Comput. 10, 3598 (2014)", SuperExchange,
        _line(-2.0), Cut("x [bohr]", -6, 6, _line), False,
    ),
    "sodium_iodide": Model(
        "NaI: ionic and covalent state", "V. Engel, H. Metiu, J. Chem. Phys. 90, 6116 (1989)", SodiumIodide,
        _line(5.05), Cut("R [bohr]", 4, 20, _line), False,
    ),
    "shin_metiu": Model(
        "Shin–Metiu: an ion and an electron between two ions", "S. Shin, H. Metiu, J. Chem. Phys. 102, 9285 (1995)",
        ShinMetiu, _line(-2.0), Cut("R [bohr]", -7, 7, _line), True, keep=3,
    ),
    "quartic_crossing": Model(
        "Quartic well with an avoided crossing of gap 1", "section 2 of the theory; `jaxmd-iz limit limit_1d`",
        QuarticCrossing, _line(0.5), Cut("x", -2, 3, _line), True, unit="1",
    ),
    "jahn_teller": Model(
        "E×e Jahn–Teller: conical intersection at the origin",
        "H. C. Longuet-Higgins et al., Proc. R. Soc. A 244, 1 (1958)", JahnTeller,
        np.array([[1.0, 0.2]]), Cut("x at y = 0.2", -2.5, 2.5, lambda s: np.array([[s, 0.2]])), True,
        masses=(100.0,), unit="1",
    ),
    "leps_h3": Model(
        "LEPS H₃: conical intersection at equilateral triangles", "S. Sato, J. Chem. Phys. 23, 592 (1955)", LepsH3,
        _isosceles(0.6), Cut("height of one atom [bohr]", -1.2, 3, _scalene), False,
        masses=(HYDROGEN,) * 3, names=("H",) * 3,
    ),
    "spin_boson": Model(
        "Spin–boson: two states in a bath of modes", "A. J. Leggett et al., Rev. Mod. Phys. 59, 1 (1987)", SpinBoson,
        np.zeros((100, 1)), Cut("common displacement of the modes", -2, 2, lambda s: np.full((100, 1), s / 10)), True,
    ),
    "linear_vibronic": Model(
        "Linear vibronic coupling, from a SHARC LVC.template",
        "H. Köppel, W. Domcke, L. S. Cederbaum, Adv. Chem. Phys. 57, 59 (1984)", LinearVibronicCoupling, None, None,
        True,
    ),
}  # fmt: skip


def _exciton_ring(count: int = 4) -> ExcitonFluid:
    base = LennardJones(1.0, 1.0, cutoff=2.5, truncation="shift")
    return ExcitonFluid(base, Dipolar(-1.5, 1.0), 5.0, count, Gaussian(-0.3, 0.3, 1.1), 2.5)


def _square(s) -> np.ndarray:
    return s * np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])


def _quadrilateral(s) -> np.ndarray:
    """Four different edges, so that no two levels coincide by symmetry."""
    return s * np.array([[0.0, 0, 0], [1, 0, 0], [1.1, 1.15, 0], [0, 1.05, 0.2]])


#: Families with kinds of their own in `potential.kind`, each shown by one member.
FAMILIES: dict[str, Model] = {
    "two_state_fluid": Model(
        "Two-state pair fluid (here four particles; lj units)", "section 11 of the theory; `jaxmd-iz demo`",
        lambda: TwoStateFluid(
            LennardJones(1.0, 1.0, cutoff=2.5, truncation="shift"), Gaussian(2.0, 0.25, 1.2), Gaussian(1.0, 0.25, 1.1),
            1.0, 4,
        ),
        _square(1.1), Cut("edge of a square [σ]", 0.95, 2.2, _square), False, masses=(1.0,) * 4, unit="ε",
    ),
    "exciton_fluid": Model(
        "Frenkel exciton fluid (here four particles; lj units)", "J. Frenkel, Phys. Rev. 37, 17 (1931)", _exciton_ring,
        _quadrilateral(1.1), Cut("shortest edge of a quadrilateral [σ]", 1.0, 1.8, _quadrilateral), False,
        masses=(1.0,) * 4, unit="ε",
    ),
    "electrons": Model(
        "Ab initio electrons by full CI (here H₂ + H₂, STO-3G singlets)",
        "equations (2.1)–(2.10); W. J. Hehre, R. F. Stewart, J. A. Pople, J. Chem. Phys. 51, 2657 (1969)",
        lambda: Electrons((1, 1, 1, 1)), _molecules(3.0), Cut("distance of two H₂ [bohr]", 1.6, 6, _molecules), False,
        masses=(HYDROGEN,) * 4, names=("H",) * 4, keep=3,
    ),
}  # fmt: skip


def potential_of(
    name: str,
    parameters: Mapping[str, float | int] | None = None,
    template: str | None = None,
    states: int | None = None,
) -> AbstractPotential:
    """A model by name.

    Args:
        name: one of `MODELS`.
        parameters: values by name, in the units of the model's class; the published ones by default.
        template: file of `linear_vibronic`.
        states: keep this many of the lowest states; the model's own choice by default.

    Returns:
        The potential in atomic units.

    Raises:
        InputError: a name or parameter that is not known, values that the model refuses, a file that cannot be read.
    """
    model = MODELS[one_of(name, "model", MODELS)]
    parameters, of_file = parameters or {}, model.x is None
    must(of_file or template is None, "template", f"be left out for the model `{name}`", f"it is `{template}`")
    if of_file:
        must(template is not None, "template", f"be given for the model `{name}`", "it is missing")
        assert template is not None
        must(not parameters, "parameters", "be left out with a `template`", f"they name {sorted(parameters)}")
        return _lowest(read_lvc(template), states)
    known = {f.name: f for f in fields(model.make)} if isinstance(model.make, type) else {}
    for key in parameters:
        one_of(key, "parameters", known)
    whole = {k for k in parameters if isinstance(known[k].default, int) and not isinstance(known[k].default, bool)}
    for key in sorted(whole):
        fits = float(parameters[key]).is_integer()
        must(fits, "parameters", f"hold a whole number `{key}`", f"it is {parameters[key]}")
    values = {k: int(v) if k in whole else v for k, v in parameters.items()}
    made = model.make(**values)
    own = None if model.keep is None else min(model.keep, made.states)
    return _lowest(made, own if states is None else states)


def _lowest(potential: AbstractPotential, states: int | None) -> AbstractPotential:
    return potential if states is None else Lowest(potential, states)


def family_member(name: str) -> AbstractPotential:
    """The member of a family that is drawn, or the model with its published parameters.

    Args:
        name: one of `MODELS` or `FAMILIES`.
    """
    if name in FAMILIES:
        return _lowest(FAMILIES[name].make(), FAMILIES[name].keep)
    return potential_of(name)


def masses_of(name: str, potential: AbstractPotential) -> np.ndarray:
    """(n,) masses of a model, in electron masses.

    Args:
        name: one of `MODELS`.
        potential: the model, whose modes or reduced mass are its own.
    """
    given = MODELS[name].masses
    inner = potential.potential if isinstance(potential, Lowest) else potential
    if given is not None:
        return np.array(given)
    if hasattr(inner, "masses"):
        return np.asarray(inner.masses)  # pyright: ignore[reportAttributeAccessIssue]
    return np.array([float(inner.mass)])  # pyright: ignore[reportAttributeAccessIssue]
