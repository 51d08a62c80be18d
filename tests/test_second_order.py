"""Averages with the `second_order` weight against exact quantum mechanics on a grid: their order in 1/M."""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import second_order, surfaces
from jaxmd_iz.potentials.base import AbstractPotential, FromFunction, matrix_total
from jaxmd_iz.potentials.external import AbstractExternal
from jaxmd_iz.quantum.grid import Grid, around
from jaxmd_iz.quantum.spectrum import gibbs, mean, spectrum
from jaxmd_iz.space import Free

SPECIES = jnp.zeros(1, int)


def edges(x):
    """One particle on a line."""
    return Free(1).edges(x.reshape(1, 1), SPECIES)


# --- one particle on a line, two states -----------------------------------------------------------------------------


class Crossing(AbstractPotential):
    """V = ¼(x − ½)⁴ I + [[x, v], [v, −x]], v = a + b x sin x; with a = 0 levels meet at x = 0 in states that turn."""

    a: jax.Array
    b: jax.Array
    states: ClassVar[int] = 2
    complex: ClassVar[bool] = False
    own_bonds: ClassVar[bool] = True
    invariant: ClassVar[bool] = False
    cutoff: ClassVar[float] = math.inf

    def partition(self, e):
        x = e.x[:, 0]
        well, off = (x - 0.5) ** 4 / 4, self.a + self.b * x * jnp.sin(x)
        return jnp.stack([jnp.stack([well + x, off], -1), jnp.stack([off, well - x], -1)], -2)


def crossing(a, b):
    return Crossing(jnp.asarray(a), jnp.asarray(b))


MODELS = {"gap 1": crossing(0.5, 0.0), "gap 0.04": crossing(0.02, 0.0), "gap 0": crossing(0.0, 0.6)}
UP = jnp.diag(jnp.array([1.0, 0.0]))
LINE = np.linspace(-4.5, 5.5, 1001)  # the trapezoidal rule is exact to rounding: e^{−V} < 1e-30 at both ends
KINDS = ("none", "paper", "dboc", "second_order")


@eqx.filter_jit
def on_the_line(potential, x, mass):
    """λ̄ of every correction, c, the factors of the population of χ_1 and of V, and ∂c/∂M."""
    masses = jnp.reshape(mass, (1,))

    def at(one):
        e = edges(one)
        levels = [surfaces.levels(potential, e, masses, k) for k in KINDS[:3]]
        c, slope = jax.value_and_grad(lambda m: second_order.correction_factor(potential, e, m, 1.0))(masses)
        up = second_order.operator_factor(potential, e, masses, 1.0, UP)
        inside = second_order.operator_factor(potential, e, masses, 1.0, potential)
        return *levels, c, up, inside, slope[0]

    return jax.vmap(at)(x)


def classical(potential, mass, x=LINE):
    """⟨x⟩ and ⟨x²⟩ of every kind at T = 1, and the population, ⟨V⟩ and kinetic energy to second order."""
    *levels, c, up, inside, slope = map(np.asarray, on_the_line(potential, jnp.asarray(x), jnp.asarray(float(mass))))
    g = [np.exp(-lv).sum(axis=1) for lv in levels]
    weights = dict(zip(KINDS, [*g, g[0] * c], strict=True))
    found = {kind: np.array([(w * x).sum(), (w * x**2).sum()]) / w.sum() for kind, w in weights.items()}
    total = (g[0] * c).sum()
    others = [(g[0] * up).sum() / total, (g[0] * inside).sum() / total, 0.5 + mass * (g[0] * slope).sum() / total]
    return found, np.array(others)


def exact(mass, models):
    """The same averages of several models on one grid that holds them all, with momenta and levels up to 27 T.

    e^{−27} = 2e-12 is neglected, 0.3 % of the least error looked at.
    """

    def v(potential, x):
        return matrix_total(potential, edges(x))

    grid = around(lambda x: jnp.linalg.eigvalsh(v(MODELS["gap 0"], x))[0], [0.0], 1.0, mass**-0.5, tolerance=2e-12)
    for name in models:
        yield name, _averages(grid, MODELS[name])


@eqx.filter_jit
def _averages(grid, potential):
    at = jax.vmap(lambda one: matrix_total(potential, edges(one)))(grid.x)
    levels = spectrum(grid, at)
    f = gibbs(levels, 1.0, None)
    x, one = grid.x[:, 0][:, None, None], jnp.eye(2)[None]
    inside = mean(f, at)
    kinetic = jnp.sum(jax.nn.softmax(-levels.energies) * levels.energies) - inside
    up = mean(f, jnp.broadcast_to(UP[None], at.shape))
    return jnp.stack([mean(f, x * one), mean(f, x**2 * one)]), jnp.stack([up, inside, kinetic])


RANGE = (10, 100)


@pytest.fixture(scope="module")
def errors():
    """Errors of ⟨x⟩, ⟨x²⟩ by kind, and of the operators, at both ends of a decade of M and where section 2 has them."""
    found = {}
    for mass in (*RANGE, 3000):
        for name, (positions, operators) in exact(mass, MODELS if mass in RANGE else ["gap 1"]):
            by_kind, others = classical(MODELS[name], mass)
            found[name, mass] = {k: np.abs(a - positions) for k, a in by_kind.items()}
            found[name, mass]["operators"] = np.abs(others - operators)
    return found


def orders(errors, name, kind):
    """Orders in 1/M over the decade, one for each observable."""
    first, last = errors[name, RANGE[0]][kind], errors[name, RANGE[-1]][kind]
    return np.log(first / last) / math.log(RANGE[-1] / RANGE[0])


@pytest.mark.parametrize("name", MODELS)
def test_functions_of_x_and_electron_operators_are_second_order(errors, name):
    """⟨x⟩, ⟨x²⟩; the population of χ_1, ⟨V⟩ and ⟨p²/2M⟩: order 2 over a decade of M, at gaps 1, 0.04 and 0."""
    for kind in ("second_order", "operators"):
        assert np.all(np.abs(orders(errors, name, kind) - 2) < 0.1), (kind, orders(errors, name, kind))


def test_surfaces_are_first_order_at_gap_one_and_slower_at_a_narrow_one(errors):
    """At gap 0.04 the repulsion κ|∇α|²/4M of `paper` and `dboc` spreads as far as the gap is narrow: order about ½."""
    for kind in ("none", "paper", "dboc"):
        assert np.all(np.abs(orders(errors, "gap 1", kind) - 1) < 0.15), kind
    assert np.all(np.abs(orders(errors, "gap 0.04", "none") - 1) < 0.15)
    for kind in ("paper", "dboc"):
        assert np.all(np.abs(orders(errors, "gap 0.04", kind) - 0.5) < 0.15), kind
    assert np.all(errors["gap 0.04", 100]["paper"] > 20 * errors["gap 0.04", 100]["none"])


@pytest.mark.parametrize(
    ("mass", "expected"), [(100, (2.4e-4, 5.9e-4, 9.4e-4, 5.6e-7)), (3000, (8.0e-6, 2.0e-5, 3.1e-5, 6e-10))]
)
def test_errors_of_x_are_the_known_ones(errors, mass, expected):
    """5 % is the rounding of the digits that section 2 prints."""
    found = [errors["gap 1", mass][kind][0] for kind in KINDS]
    np.testing.assert_allclose(found, expected, rtol=0.05)


# --- two particles on a circle, three states, complex V, masses 1 : 2.7, V_b -----------------------------------------

_rng = np.random.default_rng(5)
_h = _rng.normal(size=(2, 3, 3)) + 1j * _rng.normal(size=(2, 3, 3))
H = (_h + _h.conj().swapaxes(1, 2)) / 5
PAIR = np.array([1.0, 2.7])
START = np.diag([0.0, 0.5, 1.2]).astype(complex)


class Ripple(AbstractExternal):
    """v(x) = −cos(x − 0.3)."""

    def energy(self, x, species):
        return -jnp.cos(x[:, 0] - 0.3)


def three(x):
    """V = diag(0, ½, 1.2) + sin(x¹ − x²) H_1 + cos(x¹ + x²) H_2, half to each particle."""
    f = jnp.stack([jnp.sin(x[0, 0] - x[1, 0]), jnp.cos(x[0, 0] + x[1, 0])])
    v = jnp.asarray(START) + jnp.einsum("c,cij->ij", f.astype(complex), jnp.asarray(H))
    return jnp.stack([v / 2, v / 2])


THREE = FromFunction(three, 3, complex=True)


def two_on_a_line(x):
    return Free(1).edges(x, jnp.zeros(2, int))


def whole_of_three(x):
    """V + V_b I, (3, 3)."""
    outside = jnp.sum(Ripple().energy(x, jnp.zeros(2, int))).astype(complex)
    return jnp.sum(three(x), axis=0) + outside * jnp.eye(3, dtype=complex)


SIDE = np.arange(32) * (math.pi / 16)  # the trapezoidal rule is exact to rounding for periodic functions
POINTS = np.stack(np.meshgrid(SIDE, SIDE, indexing="ij"), axis=-1).reshape(-1, 2, 1)


@jax.jit
def on_the_circle(masses, temperature):
    """log w at every point."""

    def at(x):
        return second_order.log_weight(THREE, two_on_a_line(x), masses, temperature, Ripple())

    return jax.vmap(at)(jnp.asarray(POINTS))


def printed_kernel(y):
    """(sinh y/y − cosh y)/(4y²) + sinh y/(6y) of section 2."""
    return (np.sinh(y) / y - np.cosh(y)) / (4 * y**2) + np.sinh(y) / (6 * y)


def printed(x, masses, beta):
    """w/Σe_j as section 2 has it, with derivatives of V by hand."""
    one, two, shifted = x[0, 0] - x[1, 0], x[0, 0] + x[1, 0], x[:, 0] - 0.3
    slope = np.array([[np.cos(one), -np.sin(two)], [-np.cos(one), -np.sin(two)]])
    second = np.array([[-np.sin(one), -np.cos(two)], [-np.sin(one), -np.cos(two)]])
    levels, psi = np.linalg.eigh(np.asarray(whole_of_three(jnp.asarray(x))))
    e, total = np.exp(-beta * levels), 0.0
    for n in range(2):
        a = psi.conj().T @ (np.einsum("c,cij->ij", slope[n], H) + np.sin(shifted[n]) * np.eye(3)) @ psi
        bend = psi.conj().T @ (np.einsum("c,cij->ij", second[n], H) + np.cos(shifted[n]) * np.eye(3)) @ psi
        for j in range(3):
            each = -(beta**2) * bend[j, j].real / 12 + beta**3 * abs(a[j, j]) ** 2 / 24
            total += e[j] * each / masses[n]
            for k in range(j + 1, 3):
                common = abs(a[j, k]) ** 2 * beta**3 * np.exp(-beta * (levels[j] + levels[k]) / 2)
                total += common * printed_kernel(beta * (levels[k] - levels[j]) / 2) / masses[n]
    return 1 + total / e.sum()


@pytest.mark.parametrize("t", [0.4, 1.0, 7.0])
def test_weight_is_the_printed_one(t):
    """The same formula otherwise written, so up to rounding; gaps are above 0.1 at these points."""
    found = on_the_circle(jnp.asarray(10 * PAIR), jnp.asarray(t))
    for i in (101, 500, 777):
        levels = np.linalg.eigvalsh(whole_of_three(jnp.asarray(POINTS[i])))
        assert np.diff(levels).min() > 0.1
        known = np.log(printed(POINTS[i], 10 * PAIR, 1 / t)) + np.log(np.sum(np.exp(-levels / t)))
        np.testing.assert_allclose(found[i], known, atol=1e-12)


def several(x):
    """Three functions of x, (3, …)."""
    return jnp.stack([jnp.cos(x[..., 0]), jnp.sin(x[..., 1]), jnp.sin(x[..., 0] - x[..., 1])])


@eqx.filter_jit
def exact_on_the_circle(grid):
    v = jax.vmap(lambda x: whole_of_three(x[:, None]))(grid.x)
    f = gibbs(spectrum(grid, v), 1.0, None)
    return jnp.stack([mean(f, a[:, None, None] * jnp.eye(3)[None]) for a in several(grid.x)])


def errors_on_the_circle(mass, points):
    """Errors of three functions of x, of `none` and of `second_order`, against all levels of a grid."""
    grid = Grid((0.0, 0.0), (2 * math.pi, 2 * math.pi), points, mass**-0.5, jnp.asarray(PAIR))
    known = exact_on_the_circle(grid)
    g = jnp.sum(jnp.exp(-jnp.linalg.eigvalsh(jax.vmap(whole_of_three)(jnp.asarray(POINTS)))), axis=1)
    second = jnp.exp(on_the_circle(jnp.asarray(mass * PAIR), jnp.asarray(1.0)))
    return np.array([jnp.abs(several(POINTS[:, :, 0]) @ w / jnp.sum(w) - known) for w in (g, second)])


def test_complex_states_and_unequal_masses_are_second_order():
    """Kinetic energies up to 10 T or more: 13 × 21 and 17 × 27 points change no error by more than 0.3 %."""
    first, last = errors_on_the_circle(0.6, (9, 13)), errors_on_the_circle(1.2, (11, 19))
    found = np.log2(first / last)
    assert np.all(np.abs(found[1] - 2) < 0.1), found
    assert np.all(np.abs(found[0] - 1) < 0.15), found
