"""Closures and equations of state as JSON text and back: numbers and names alone, nothing that can run."""

import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxmd_iz.checks import fail, must, one_of
from jaxmd_iz.closures import AbstractClosure, LearnedClosure, NewtonFourier
from jaxmd_iz.equation_of_state import FreeEnergySeries, IdealGas, NeuralFreeEnergy
from jaxmd_iz.equation_of_state.base import AbstractEquationOfState

VERSION = 1


def as_json(model: AbstractClosure | AbstractEquationOfState) -> dict[str, Any]:
    """The model as a dictionary for JSON: its kind, what its shape follows from, and its numbers in order.

    Args:
        model: NewtonFourier with numbers, LearnedClosure, FreeEnergySeries, IdealGas or NeuralFreeEnergy, without
            electronic levels.

    Raises:
        InputError: a model of another kind, with electronic levels, or with functions for coefficients.
    """
    kind = one_of(type(model).__name__, "model", tuple(_SKELETONS))
    shape: dict[str, Any] = {}
    if isinstance(model, NewtonFourier):
        coefficients = (model.viscosity, model.bulk_viscosity, model.conductivity)
        must(not any(map(callable, coefficients)), "model", "have numbers for coefficients", "some are functions")
        model = NewtonFourier(*map(jnp.asarray, coefficients))
    if isinstance(model, LearnedClosure | NeuralFreeEnergy):
        shape = {"width": model.network.width_size, "depth": model.network.depth}
    if isinstance(model, LearnedClosure):
        shape["scales"] = list(model.scales)
    ideal = getattr(model, "ideal", model)
    if isinstance(ideal, IdealGas):
        must(ideal.electronic is None, "model", "have no electronic levels to be written", "it has some")
        shape |= {"mass": float(ideal.mass), "dim": float(ideal.dim)}
    if isinstance(model, FreeEnergySeries):
        shape |= {"terms": [list(map(float, t)) for t in model.terms], "damping": float(model.damping)}
    if isinstance(model, NeuralFreeEnergy):
        shape |= {"density": model.density, "temperature": model.scale}
    numbers = [np.asarray(a).tolist() for a in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))]
    return {"version": VERSION, "kind": kind, "shape": shape, "numbers": numbers}


def from_json(data: Any) -> AbstractClosure | AbstractEquationOfState:
    """The model that `as_json` described.

    Args:
        data: what JSON gave.

    Raises:
        InputError: anything else.
    """
    known = isinstance(data, dict) and {"version", "kind", "shape", "numbers"} <= set(data)
    must(known, "data", "describe a model by `version`, `kind`, `shape` and `numbers`", "it does not")
    must(data["version"] == VERSION, "data", f"be of version {VERSION}", f"it is of {data['version']!r}")
    kind = one_of(str(data["kind"]), "kind", tuple(_SKELETONS))
    try:
        model = _SKELETONS[kind](data["shape"])
        given = [jnp.asarray(np.asarray(a, float)) for a in data["numbers"]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        fail("data", f"describe a `{kind}`", f"it does not: {error}")
    free, fixed = eqx.partition(model, eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(free)
    fits = len(given) == len(leaves) and all(a.shape == b.shape for a, b in zip(given, leaves, strict=True))
    must(fits, "numbers", f"have shapes {[a.shape for a in leaves]}", f"they are {[a.shape for a in given]}")
    must(all(bool(jnp.all(jnp.isfinite(a))) for a in given), "numbers", "be finite", "some are not")
    return eqx.combine(jax.tree.unflatten(tree, given), fixed)


def read_model(path: str | Path) -> AbstractClosure | AbstractEquationOfState:
    """The model in a file that `store.write_json` wrote from `as_json`.

    Raises:
        InputError: a file that is missing, is no JSON, or describes no model.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        fail("path", "name a JSON file of a model", f"`{path}` cannot be read: {error}")
    return from_json(data)


def _ideal(shape):
    return IdealGas(float(shape["mass"]), float(shape["dim"]))


def _sized(shape):
    width, depth = int(shape["width"]), int(shape["depth"])
    must(1 <= width <= 4096 and 0 <= depth <= 64, "shape", "have a width to 4096 and a depth to 64", "it has others")
    return {"width": width, "depth": depth, "key": jax.random.key(0)}


def _learned(shape):
    names = ("density", "temperature", "rate", "gradient", "viscosity", "conductivity")
    return LearnedClosure(**dict(zip(names, map(float, shape["scales"]), strict=True)), **_sized(shape))


def _series(shape):
    terms = tuple((float(d), float(t), float(l)) for d, t, l in shape["terms"])
    return FreeEnergySeries(_ideal(shape), jnp.zeros(len(terms)), terms, float(shape["damping"]))


_SKELETONS = {
    "NewtonFourier": lambda shape: NewtonFourier(*(jnp.zeros(()) for _ in range(3))),
    "LearnedClosure": _learned,
    "IdealGas": _ideal,
    "FreeEnergySeries": _series,
    "NeuralFreeEnergy": lambda shape: NeuralFreeEnergy(
        _ideal(shape), float(shape["density"]), float(shape["temperature"]), **_sized(shape)
    ),
}
