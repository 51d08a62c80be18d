"""One particle on a line: published figures, gradients and refusals of the avoided crossings and of Shin–Metiu."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import surfaces
from jaxmd_iz.checks import InputError
from jaxmd_iz.potentials.avoided import (
    ANGSTROM,
    ELECTRON_VOLT,
    QuarticCrossing,
    SodiumIodide,
    SuperExchange,
    Tully1,
    Tully2,
    Tully3,
)
from jaxmd_iz.potentials.shin_metiu import ShinMetiu, screened
from jaxmd_iz.space import Free

SPECIES = jnp.zeros(1, int)
MODELS = {
    "Tully 1": (Tully1(), [-1.3, -0.2, 0.4]),
    "Tully 2": (Tully2(), [-1.3, 0.3, 2.1]),
    "Tully 3": (Tully3(), [-1.3, -0.2, 0.4]),
    "super-exchange": (SuperExchange(), [-1.3, 0.3, 2.1]),
    "quartic crossing": (QuarticCrossing(), [-0.8, 0.1, 1.4]),
    "NaI": (SodiumIodide(), [5.0, 12.9, 13.4]),
    "Shin–Metiu": (ShinMetiu(points=7, extent=14.0), [-2.1, 1.9]),
}
CASES = [("Tully 1", "none"), ("Tully 1", "paper"), ("super-exchange", "none"), ("super-exchange", "paper")]
CASES += [("NaI", "none"), ("Shin–Metiu", "none")]
every = pytest.mark.parametrize("name", MODELS)


@eqx.filter_jit
def everything(potential, x, correction):
    """At every x: λ̄, the surfaces of all states and their gradients."""
    masses = jnp.array([potential.mass])

    def at(x):
        e = Free(1).edges(x.reshape(1, 1), SPECIES)
        states = jnp.arange(potential.states)
        s = jax.vmap(lambda k: surfaces.surface(potential, e, masses, k, correction))(states)
        fast = jax.vmap(lambda k: surfaces.gradient(potential, e, masses, k, correction))(states)
        of_states = [a.reshape(-1) for a in (s.energy, s.gradient, s.external, fast)]
        return surfaces.levels(potential, e, masses, correction), *of_states

    return jax.vmap(at)(x)


def matrix(potential, x):
    return potential.partition(Free(1).edges(x.reshape(1, 1), SPECIES))[0]


@eqx.filter_jit
def matrices(potential, x):
    """V(x) and ∂V/∂x at every x."""
    return jax.vmap(lambda x: (matrix(potential, x), jax.jacrev(lambda x: matrix(potential, x))(x)))(x)


def slope(f, x, h=1e-3):
    """Central difference of fourth order."""
    ahead, behind, further, back = (f(x + s * h) for s in (1, -1, 2, -2))
    return (8 * (ahead - behind) - (further - back)) / (12 * h)


def at(potential, x):
    return np.asarray(_at(potential, jnp.asarray(x, float)))


@eqx.filter_jit
def _at(potential, x):
    return jax.vmap(lambda x: matrix(potential, x))(x)


@pytest.mark.parametrize(("name", "correction"), CASES)
def test_gradient_of_a_surface_is_the_slope_of_its_level(name, correction):
    potential, x = MODELS[name]
    x = jnp.asarray(x)
    levels, energy, gradient, external, fast = everything(potential, x, correction)
    expected = slope(lambda x: everything(potential, x, correction)[0], x)
    # h⁴ f⁗′/30 with lengths near 1; close crossings have lengths near 0.1
    scale = np.abs(expected).max()
    np.testing.assert_allclose(gradient, expected, atol=1e-7 * scale)
    np.testing.assert_allclose(fast, expected, atol=1e-7 * scale)
    np.testing.assert_allclose(energy, levels, atol=1e-13)  # energies are at most 1
    # one particle: gⁿ is the whole gradient, whichever way it is computed
    np.testing.assert_allclose(external, gradient, atol=1e-12 * max(1.0, scale))


@every
def test_matrix_is_symmetric_with_the_slope_of_finite_differences(name):
    potential, x = MODELS[name]
    v, dv = matrices(potential, jnp.asarray(x))
    assert v.shape == (len(x), potential.states, potential.states)
    np.testing.assert_array_equal(v, jnp.swapaxes(v, 1, 2))
    expected = slope(lambda x: matrices(potential, x)[0], jnp.asarray(x))
    np.testing.assert_allclose(dv, expected, atol=1e-9 * max(1.0, float(np.abs(expected).max())))  # h⁴ and rounding/h


@pytest.mark.parametrize(("potential", "entry", "expected"), [(Tully1(), (0, 0), 0.016), (Tully3(), (0, 1), 0.09)])
def test_slope_is_continuous_at_the_origin(potential, entry, expected):
    """A B of the first model and B C of the third, from both sides and at 0 itself."""
    _, dv = matrices(potential, jnp.array([-1e-12, 0.0, 1e-12]))
    np.testing.assert_allclose(dv[:, *entry], expected, rtol=1e-11)  # second derivatives times 1e-12
    assert np.isfinite(dv).all()


def test_models_of_tully_have_their_published_gaps_and_asymptotes():
    def gap(v):
        return np.diff(np.linalg.eigvalsh(v))[:, 0]

    far = 40.0  # e^{−1.6·40}, e^{−0.06·1600} and e^{−0.9·40} = 2e-16 are rounding
    first, second, third = (at(v, [-far, 0.0, far]) for v in (Tully1(), Tully2(), Tully3()))
    np.testing.assert_allclose(gap(first), [0.02, 2 * 0.005, 0.02], rtol=1e-14)
    np.testing.assert_allclose(first[:, 0, 0], [-0.01, 0.0, 0.01], atol=1e-17)
    np.testing.assert_allclose(gap(second), [0.05, math.hypot(0.05, 0.03), 0.05], rtol=1e-14)
    np.testing.assert_allclose(second[:, 1, 1], [0.05, -0.05, 0.05], rtol=1e-14)
    crossing = math.sqrt(math.log(2.0) / 0.28)  # where A e^{−Bx²} = E₀
    np.testing.assert_allclose(at(Tully2(), [-crossing, crossing])[:, 1, 1], 0.0, atol=1e-16)
    np.testing.assert_allclose(third[:, 0, 1], [0.0, 0.1, 0.2], atol=1e-15)
    np.testing.assert_allclose(gap(third), 2 * np.hypot(6e-4, [0.0, 0.1, 0.2]), rtol=1e-12)
    # flat at infinity: no canonical average without V_b
    assert not any(v.confined for v, _ in (MODELS[f"Tully {i}"] for i in (1, 2, 3)))
    assert Tully1.mass == Tully2.mass == Tully3.mass == 2000.0


def test_super_exchange_has_its_levels_and_no_direct_coupling():
    v = at(SuperExchange(), [0.0, 20.0])
    np.testing.assert_allclose(np.linalg.eigvalsh(v[1]), [0.0, 0.005, 0.01], atol=1e-17)
    np.testing.assert_allclose(v[0], [[0.0, 0.001, 0.0], [0.001, 0.01, 0.01], [0.0, 0.01, 0.005]], atol=1e-18)


def test_sodium_iodide_has_the_minimum_and_the_crossing_of_its_source():
    r = np.linspace(2.0, 8.0, 60001)
    v = at(SodiumIodide(), r * ANGSTROM) / ELECTRON_VOLT
    lowest = v[:, 0, 0].argmin()
    assert abs(v[lowest, 0, 0] + 3.086) < 5e-4  # figures to three decimals, grid of 1e-4
    assert abs(r[lowest] - 2.672) < 6e-4
    difference = v[:, 0, 0] - v[:, 1, 1]
    crossings = r[1:][np.diff(np.sign(difference)) != 0]
    assert abs(crossings[-1] - 7.009) < 6e-4
    # the adiabatic gap there is twice the coupling of the source, 0.055 e^{−0.6931·0.079²} eV
    at_crossing = at(SodiumIodide(), crossings[-1:] * ANGSTROM) / ELECTRON_VOLT
    gap = np.diff(np.linalg.eigvalsh(at_crossing[0]))[0]
    assert abs(gap - 2 * 0.055 * math.exp(-0.6931 * (crossings[-1] - 6.93) ** 2)) < 1e-5  # grid of 1e-4 on the slope
    far = at(SodiumIodide(), np.array([1e4]) * ANGSTROM)[0] / ELECTRON_VOLT
    np.testing.assert_allclose(far, [[2.075 - 14.3996 / 1e4, 0.0], [0.0, 0.0]], atol=1e-7)
    assert abs(SodiumIodide.mass - 35480.0) < 1.0  # 19.4639 amu


@every
def test_derivatives_with_respect_to_parameters_are_finite_differences(name):
    potential, x = MODELS[name]
    weight = jnp.asarray(np.random.default_rng(0).normal(size=(potential.states,) * 2))
    along = jax.tree.map(lambda leaf: 1e-3 * leaf, potential)  # all parameters at once

    @jax.jit
    def total(t):
        moved = jax.tree.map(lambda leaf, step: leaf + t * step, potential, along)
        return jnp.sum(weight * matrix(moved, jnp.asarray(x[0])))

    got = jax.grad(total)(0.0)
    assert got != 0
    # relative steps of 1e-3 leave 1e-12 times the fifth derivatives, up to 8⁵ for powers of 8
    np.testing.assert_allclose(got, slope(total, 0.0, h=1.0), rtol=1e-6)


@every
def test_other_shapes_are_refused_and_the_dtype_is_kept(name):
    potential, x = MODELS[name]
    for shape in ((2, 1), (1, 2)):
        e = Free(shape[1]).edges(jnp.ones(shape), jnp.zeros(shape[0], int))
        with pytest.raises(InputError, match="be one particle on a line"):
            potential.partition(e)
    single = potential.partition(Free(1).edges(jnp.full((1, 1), x[0], jnp.float32), SPECIES))
    assert single.dtype == jnp.float32
    exact = at(potential, x[:1])
    np.testing.assert_allclose(single, exact, atol=2e-5 * np.abs(exact).max())  # float32, powers up to 8


def test_parameters_that_are_no_numbers_are_refused():
    with pytest.raises(InputError, match="`B` must be finite"):
        Tully1(B=math.nan)
    with pytest.raises(InputError, match="`left` must be positive"):
        ShinMetiu(left=0.0)
    with pytest.raises(InputError, match="`points` must be at least 2"):
        ShinMetiu(points=1)
    with pytest.raises(InputError, match="Did you mean `one_crossing`"):
        ShinMetiu.named("one_crosing")


def test_screened_coulomb_is_smooth_through_zero():
    length = jnp.asarray(2.0)
    value = jax.jit(lambda r: screened(r, length))
    first = jax.jit(jax.vmap(jax.grad(value)))
    second = jax.jit(jax.vmap(jax.grad(jax.grad(value))))
    r = np.array([-3.0, -1.0001, -0.9999, -1e-9, 0.0, 1e-3, 0.5, 0.9999, 1.0001, 9.0])
    safe = np.where(r == 0, 1.0, r)
    exact = np.where(r == 0, 1 / math.sqrt(math.pi), [math.erf(abs(s) / 2) / abs(s) for s in safe])
    r = jnp.asarray(r)
    np.testing.assert_allclose(value(r), exact, rtol=4e-16)
    np.testing.assert_allclose(first(r), slope(value, r), atol=1e-12)  # rounding/h
    np.testing.assert_allclose(second(r), slope(first, r), atol=1e-12)
    np.testing.assert_allclose(second(r)[4], -1 / (6 * math.sqrt(math.pi)), rtol=1e-14)  # −4/(3√π R³)
    assert float(jax.grad(lambda a: screened(jnp.zeros(()), a))(length)) < 0


@pytest.mark.parametrize("choice", ["one_crossing", "two_crossings"])
def test_shin_metiu_is_converged_with_the_default_grid(choice):
    r = [-8.0, -5.7, 0.0, 1.9, 7.5]

    def lowest(**grid):
        return np.linalg.eigvalsh(at(ShinMetiu.named(choice, **grid), r))[:, :3]

    exact = lowest(points=120, extent=42.0)
    assert np.abs(lowest() - exact).max() < 1e-10
    assert np.abs(lowest(points=48, extent=24.0) - exact).max() > 1e-8  # a smaller box is too small


def test_shin_metiu_has_the_avoided_crossings_of_its_name():
    r = np.linspace(-8.0, 8.0, 161)
    one, two = (np.linalg.eigvalsh(at(ShinMetiu.named(c), r)) for c in ("one_crossing", "two_crossings"))
    assert abs(r[np.diff(one[:, :2]).argmin()] - 1.9) < 0.11  # the grid
    assert abs(np.diff(one[:, :2]).min() - 4.717e-3) < 1e-5
    assert abs(r[np.diff(two[:, :2]).argmin()] + 5.7) < 0.11
    assert abs(np.diff(two[:, :2]).min() - 1.021e-3) < 1e-5
    assert abs(np.diff(two[:, 1:3]).min() - 1.26e-2) < 1e-4


def test_symmetric_shin_metiu_is_a_symmetric_double_well():
    model = ShinMetiu(left=3.1, right=3.1)
    levels = np.linalg.eigvalsh(at(model, [-6.0, -2.6, -1.0, 0.0, 1.0, 2.6, 6.0]))[:, :3]
    np.testing.assert_allclose(levels, levels[::-1], atol=1e-13)  # energies below 1
    assert levels[5, 0] < min(levels[3, 0] - 0.015, levels[6, 0])  # a barrier of 17 mhartree between the wells
    assert levels[3, 1] < levels[5, 1]  # the first excited level has a single well
