"""Constitutive relations from flows: known ones come back within their errors, files hold numbers alone."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz.checks import InputError
from jaxmd_iz.closures import LearnedClosure, NewtonFourier
from jaxmd_iz.continuum import State1D, solve
from jaxmd_iz.equation_of_state import FreeEnergySeries, IdealGas, NeuralFreeEnergy
from jaxmd_iz.fit import constitutive
from jaxmd_iz.fit.constitutive import LOCAL_TERMS, compare, fit_constitutive, train
from jaxmd_iz.fit.flows import Flow, Seen
from jaxmd_iz.fit.models import as_json, from_json, read_model
from jaxmd_iz.store import write_json

#: A dense fluid: p = nT (1 + 2n + 9n³) − 4n².
EOS = FreeEnergySeries(IdealGas(1.0, 3), jnp.asarray([2.0, 0.0, -4.0, 3.0, 0.0, 0.0]), LOCAL_TERMS)
TRUE = NewtonFourier(2.0, 0.8, 5.0)
GROUPS, CELLS, LENGTH = 8, 16, 16.0
TIMES = np.linspace(0.0, 2.0, 9)
NOISE = 2e-3


@jax.jit
def exact(u, heat):
    """Waves of u_x, u_y and T of the known fluid, at all times."""
    x = 2 * np.pi * (np.arange(CELLS) + 0.5) / CELLS
    velocity = jnp.sin(x)[:, None] * jnp.concatenate([u, jnp.zeros(1)])[None, :]
    first = State1D.from_primitive(jnp.full(CELLS, 0.8), velocity, 1.0 + heat * jnp.sin(x), EOS)
    return solve(first, TIMES, EOS, TRUE, dx=LENGTH / CELLS, steps=16, limiter="none")


@jax.jit
def thermodynamics(state):
    """T, p and e."""
    e = (state.energy - 0.5 * jnp.sum(state.momentum**2, axis=-1) / state.rho) / state.rho
    t = EOS.temperature(state.rho, e)
    return t, EOS.pressure(state.rho, t), e


def synthetic(name, seed, u=(0.0, 0.0), heat=0.0, noise=NOISE):
    """A flow of the known fluid, with independent noise in every group, cell and frame after the first."""
    states = exact(jnp.asarray(u), jnp.asarray(heat))
    rng = np.random.default_rng(seed)

    def seen(state, eps):
        t, p, e = thermodynamics(state)
        return Seen(state, t, p + eps * rng.normal(size=p.shape), e + eps * rng.normal(size=e.shape))

    def noisy(a):
        eps = noise * np.sqrt(GROUPS) * rng.normal(size=(GROUPS, *a.shape))
        eps[:, 0] = 0.0
        return a[None] + eps

    groups = jax.tree.map(noisy, states)
    whole = jax.tree.map(lambda a: jnp.mean(a, axis=0), groups)
    rest = jax.tree.map(lambda a, m: (GROUPS * m[None] - a) / (GROUPS - 1), groups, whole)
    both = seen(whole, noise), seen(rest, noise / 3)
    return Flow(jnp.asarray(TIMES), jnp.asarray(LENGTH / CELLS), *both, whole.rho, name)


@pytest.fixture(scope="module")
def fitted():
    """Two flows, and what is fitted to them."""
    flows = [synthetic("shear", 1, u=(0.0, 0.5)), synthetic("sound and heat", 2, u=(0.3, 0.0), heat=0.2)]
    return flows, fit_constitutive(flows, NewtonFourier(1.0, 1.0, 1.0))


def test_known_coefficients_come_back_within_their_errors(fitted):
    """η, ζ, κ from twice to a fifth of them, to 4 standard errors, which are below 5, 30 and 5 %."""
    _, found = fitted
    value = np.array(
        [float(c) for c in (found.closure.viscosity, found.closure.bulk_viscosity, found.closure.conductivity)]
    )
    error = np.sqrt(np.diag(np.asarray(found.covariance)))
    assert np.all(np.abs(value - [2.0, 0.8, 5.0]) < 4 * error), (value, error)
    assert np.all(error / [2.0, 0.8, 5.0] < [0.05, 0.3, 0.05]), error
    assert 0.7 < found.chi2 / found.count < 1.6  # errors from 8 groups are rough, and the first frame has none


def test_the_equation_of_state_is_that_of_the_fluid_where_there_are_data(fitted):
    """p, e and the speed of sound at the mean state, to a few parts in a thousand."""
    _, found = fitted
    for of, tolerance in (("pressure", 3e-3), ("energy", 3e-3), ("sound_speed", 2e-2)):
        value, exact = (getattr(eos, of)(0.8, 1.0) for eos in (found.eos, EOS))
        np.testing.assert_allclose(value, exact, rtol=tolerance)


def test_a_flow_that_was_not_fitted_is_predicted_to_its_noise(fitted):
    """Held out: another mixture of waves; and a fluid without friction misses it by far."""
    _, found = fitted
    other = synthetic("held out", 3, u=(0.2, 0.4), heat=-0.15)
    good = compare(other, found.eos, found.closure)
    bad = compare(other, found.eos, NewtonFourier(0.5, 0.8, 5.0))
    assert good.error < 1.5 * good.noise and good.chi2 < 2
    assert bad.error > 5 * good.error


def test_misses_have_the_slopes_of_finite_differences(fitted):
    """Of the sum of squares in log η, log ζ, log κ, forward and reverse."""
    flows, found = fitted

    error = flows[1].error()

    def loss(log):
        closure = NewtonFourier(*jnp.exp(log))
        return jnp.sum(constitutive._miss(flows[1], flows[1].seen.state, found.eos, closure, 20, error) ** 2)

    at = jnp.log(jnp.asarray([1.5, 0.9, 4.0]))
    way = jnp.asarray([0.3, -0.5, 0.7])
    value = jax.jit(loss)
    ends = [float(value(at + s * 1e-4 * way)) for s in (-2, -1, 1, 2)]
    difference = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / 12e-4
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(at) @ way, difference, rtol=1e-8)


def test_training_lowers_the_loss_of_a_learned_closure(fitted):
    """From η and κ far too small; what comes back is the best that was seen."""
    flows, found = fitted
    start = LearnedClosure(key=jax.random.key(0), density=0.8, viscosity=1.2, conductivity=3.0, width=4, depth=1)
    closure, losses = train(flows[:1], found.eos, start, steps=12, rate=3e-2)
    assert min(losses) < 0.5 * losses[0]
    np.testing.assert_allclose(
        train(flows[:1], found.eos, closure, steps=1)[1][0], min(losses), rtol=1e-5
    )  # other time steps


MODELS = {
    "NewtonFourier": TRUE,
    "LearnedClosure": LearnedClosure(key=jax.random.key(3), width=5, depth=2, viscosity=2.0, rate=0.3),
    "FreeEnergySeries": EOS,
    "IdealGas": IdealGas(2.0, 5),
    "NeuralFreeEnergy": NeuralFreeEnergy(IdealGas(1.5, 3), 0.8, 1.2, key=jax.random.key(4), width=3, depth=1),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_come_back_from_json_bit_for_bit(name, tmp_path):
    """Through a file, and what they give is the same."""
    model = MODELS[name]
    write_json(as_json(model), tmp_path / "model.json")
    back = read_model(tmp_path / "model.json")
    assert type(back) is type(model)
    for a, b in zip(
        *(jax.tree.leaves(eqx.filter(m, eqx.is_inexact_array)) for m in (back, from_json(as_json(model)))), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    if hasattr(model, "pressure"):
        np.testing.assert_array_equal(back.pressure(0.7, 1.1), model.pressure(0.7, 1.1))
    else:
        at = jnp.asarray(0.7), jnp.asarray(1.1), jnp.arange(9.0).reshape(3, 3) / 5, jnp.arange(3.0)
        for a, b in zip(back.fluxes(*at), model.fluxes(*at), strict=True):
            np.testing.assert_array_equal(a, b)


HUGE = {"width": 10**9, "depth": 1, "scales": [1] * 6}


def changed(**changes):
    return as_json(TRUE) | changes


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("no json", "name a JSON file of a model"),
        ("[1, 2]", "describe a model by"),
        (json.dumps(changed(version=99)), "be of version 1"),
        (json.dumps(changed(kind="os.system")), "Argument `kind` must be one of"),
        (json.dumps(changed(numbers=[1.0])), "Argument `numbers` must have shapes"),
        (json.dumps(changed(numbers=["a", "b", "c"])), "describe a `NewtonFourier`"),
        (json.dumps(changed(numbers=[1.0, float("nan"), 2.0])), "Argument `numbers` must be finite"),
        (json.dumps(as_json(EOS) | {"shape": {}}), "describe a `FreeEnergySeries`"),
        (json.dumps(as_json(MODELS["LearnedClosure"]) | {"shape": HUGE}), "have a width to 4096"),
    ],
)  # fmt: skip
def test_files_that_hold_no_model_are_refused_in_a_sentence(text, sentence, tmp_path):
    """Also names of things that could run."""
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_model(tmp_path / "model.json")
