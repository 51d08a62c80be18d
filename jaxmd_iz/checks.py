"""Every error helper: what is wrong, with which argument, and what to do about it.

Static facts raise `InputError` at construction; traced ones go through `must_traced`.
"""

import difflib
import math
import re
from collections.abc import Iterable
from typing import NoReturn, TypeVar

import equinox as eqx
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool

T = TypeVar("T")


class InputError(ValueError):
    """An argument, file or configuration that cannot be used, said in one clear sentence."""


def must(condition: bool | np.bool_, argument: str, requirement: str, but: str, remedy: str = "") -> None:
    """Raises unless `condition` holds: "Argument `x` must …, but …." and then the remedy.

    Args:
        condition: the static fact that has to hold.
        argument: name of the argument, or of the key as `table.key`.
        requirement: what follows "must", e.g. "be positive".
        but: what follows "but", e.g. "it is -1.0".
        remedy: a whole sentence on what to do; may be empty.

    Raises:
        InputError: if the condition is false.
    """
    if not condition:
        fail(argument, requirement, but, remedy)


def fail(argument: str, requirement: str, but: str, remedy: str = "") -> NoReturn:
    """Raises what `must` raises, without a condition.

    Args:
        argument: name of the argument, or of the key as `table.key`.
        requirement: what follows "must".
        but: what follows "but".
        remedy: a whole sentence on what to do; may be empty.

    Raises:
        InputError: always.
    """
    argument, requirement, but = _plain(argument, 80), _plain(requirement, 1000), _plain(but, 300)
    message = f"Argument `{argument}` must {requirement}, but {but.rstrip('.')}."
    raise InputError(f"{message} {_plain(remedy, 500)}".rstrip())


def _plain(text: str, most: int) -> str:
    """On one line, without characters that steer a terminal, and shortened: files and users may say anything."""
    text = "".join(c if c.isprintable() else " " if c.isspace() else "�" for c in text[: 4 * most])
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def must_be_number(argument: str, value: Array, positive: bool = False) -> None:
    """Raises unless an array is a finite number, and a positive one if asked; traced values pass.

    Args:
        argument: name of the argument.
        value: the array.
        positive: whether it must be above 0.

    Raises:
        InputError: if it is not.
    """
    must(value.ndim == 0, argument, "be a number", f"its shape is {value.shape}")
    if not isinstance(value, Tracer):
        number = float(value)
        must(math.isfinite(number), argument, "be finite", f"it is {number}")
        must(number > 0 or not positive, argument, "be positive", f"it is {number:g}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name closest to `name`, as a question to put after an error.

    Args:
        name: what was given.
        known: the names there are.

    Returns:
        For example " Did you mean `epsilon`?", or "" when nothing is close.
    """
    folded = {k.lower(): k for k in known}
    name = name[:80]
    found = difflib.get_close_matches(name.lower(), folded, n=1)
    return f" Did you mean `{folded[found[0]]}`?" if found else ""


def one_of(value: str, argument: str, known: Iterable[str]) -> str:
    """The value itself if it is a known name.

    Args:
        value: the name given.
        argument: name of the argument or key that holds it.
        known: the names there are, in the order to list them.

    Returns:
        `value`.

    Raises:
        InputError: if it is unknown: with its reason for an `UNSUPPORTED` feature, otherwise with
            the known names and the nearest of them.
    """
    known = list(known)
    if value not in known:
        refuse_unsupported(value, argument)
        names = ", ".join(f"`{k}`" for k in known)
        requirement = f"be one of {names}" if len(known) > 1 else f"be {names}"
        fail(argument, requirement, f"it is `{value}`", nearest(value, known))
    return value


def must_traced(value: T, bad: Bool[Array, "..."] | bool | np.bool_, message: str) -> T:
    """Raises at run time if any of `bad` is true; only using the returned value arms the check.

    Args:
        value: pytree to hand on.
        bad: traced condition, of any shape.
        message: the error's sentence.

    Returns:
        `value`, tied to the check.

    Raises:
        equinox.EquinoxRuntimeError: when the result is computed and any of `bad` is true.
    """
    return eqx.error_if(value, bad, message)


_CHARGES = "Charges and long-range Coulomb forces (Ewald, PPPM) are not supported."
_ANGLES = "Angle, dihedral and improper terms are not supported."
_CONSTRAINTS = "Constraints (SHAKE, RATTLE, SETTLE) are not supported."
_RIGID = "Rigid bodies are not supported."
_BAROSTAT = "Barostats (NPT, NPH) are not supported: the cell is constant."

#: What is not supported: a word, in the singular, that asks for it, and the sentence that says so.
UNSUPPORTED: dict[str, str] = {
    **dict.fromkeys(("charge", "coul", "coulomb", "ewald", "pppm", "pme"), _CHARGES),
    **dict.fromkeys(("angle", "dihedral", "improper", "torsion"), _ANGLES),
    **dict.fromkeys(("constraint", "shake", "rattle", "settle", "lincs"), _CONSTRAINTS),
    "rigid": _RIGID,
    **dict.fromkeys(("barostat", "npt", "nph"), _BAROSTAT),
}


def refuse_unsupported(name: str, argument: str) -> None:
    """Says by name when `name` asks for a feature that is not supported.

    Args:
        name: a potential, integrator, table or key; any word of it may be an `UNSUPPORTED` one, in
            the singular or plural: `lj/cut/coul/long`, `harmonic_angles`.
        argument: name of the argument or key that holds it.

    Raises:
        InputError: if the feature is known and not supported.
    """
    for word in re.findall(r"[a-z0-9]+", name.lower()):
        sentence = UNSUPPORTED.get(word) or UNSUPPORTED.get(word.removesuffix("s"))
        if sentence:
            fail(argument, "name a supported feature", f"it is `{name}`", sentence)
