"""Mollifiers and bond functions against their formulas, quadrature, and the law d·∇B = η(y − xᵐ) − η(y − xⁿ).

Errors are relative to the peak of η. Formulas and quadratures here are numpy's; none is taken from the package.
"""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial.legendre import leggauss

from jaxmd_iz import moments as mo
from jaxmd_iz.checks import InputError
from jaxmd_iz.mollifiers import Bump, Cubic, Polynomial, Trapezoid
from jaxmd_iz.pair_split import Bonds
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.windows import Fourier, Separable, slab

EPSILON = 1.3
CELLS = {1: [[3.1]], 2: [[3.1, 0.0], [0.7, 2.9]], 3: [[3.1, 0.0, 0.0], [0.7, 2.9, 0.0], [-0.4, 0.5, 2.7]]}


def kind(name, dim):
    if name == "fourier":
        return Fourier(CELLS[dim], 0.4, 2)
    if name == "bump":
        return Bump(EPSILON, dim, nodes=12)
    classes = {"trapezoid": Trapezoid, "cubic": Cubic}
    if name in classes:
        return classes[name](EPSILON, dim)
    family, exponent = name.split()
    return {"polynomial": Polynomial, "separable": Separable}[family](EPSILON, dim, int(exponent))


def shape(name, y):
    """η of (..., D) up to a factor."""
    if name == "fourier":
        reciprocal = 2 * np.pi * np.linalg.inv(CELLS[y.shape[-1]]).T
        waves = np.array(list(itertools.product(range(-2, 3), repeat=y.shape[-1]))) @ reciprocal
        return np.cos(y @ waves.T) @ np.exp(-np.sum(waves**2, axis=1) * 0.4**2 / 2)
    if name.startswith("separable"):
        return np.prod(np.maximum(1 - (y / EPSILON) ** 2, 0.0), axis=-1) ** int(name[-1])
    r = np.minimum(np.linalg.norm(y, axis=-1) / EPSILON, 1.0)
    if name == "bump":
        return np.where(r < 1, np.exp(-1 / np.maximum(1 - r**2, 1e-3)), 0.0)
    if name == "trapezoid":
        return np.minimum(1.0, 2 - 2 * r)
    return 1 - 3 * r**2 + 2 * r**3 if name == "cubic" else (1 - r**2) ** int(name[-1])


def panels(edges, nodes):
    """Gauss–Legendre nodes and weights on consecutive intervals; edges (..., E) → (..., (E − 1) nodes)."""
    x, w = leggauss(nodes)
    low, high = edges[..., :-1, None], edges[..., 1:, None]
    points, weights = low + (high - low) * (x + 1) / 2, (high - low) * w / 2
    return points.reshape(*edges.shape[:-1], -1), weights.reshape(*edges.shape[:-1], -1)


@functools.cache
def quadrature(name, dim):
    """Points (Q, D) and weights that integrate η; radii get random directions, so that an η that is not round shows."""
    if name == "fourier":  # 5 points a side: all modes up to 2 cancel but k = 0
        grid = np.array(list(itertools.product(np.arange(5) / 5, repeat=dim))) @ np.array(CELLS[dim])
        return grid, np.full(len(grid), abs(np.linalg.det(CELLS[dim])) / len(grid))
    if name.startswith("separable"):
        one, w = panels(EPSILON * np.array([-1.0, 1.0]), 8)
        grid, weights = (np.array(list(itertools.product(a, repeat=dim))) for a in (one, w))
        return grid, weights.prod(axis=1)
    r, w = panels(EPSILON * np.linspace(0.0, 1.0, 5), 40)  # the trapezoid has its edge at ε/2
    directions = np.random.default_rng(0).normal(size=(len(r), dim))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return r[:, None] * directions, w * r ** (dim - 1) * {1: 2, 2: 2 * np.pi, 3: 4 * np.pi}[dim]


@functools.cache
def bonds(dim):
    """u from the midpoint and d of bonds, (Q, D): anywhere, long, short, none, through the centre, touching."""
    rng = np.random.default_rng(dim)

    def unit(count):
        v = rng.normal(size=(count, dim))
        return v / np.linalg.norm(v, axis=1, keepdims=True)

    def across(e):  # a direction normal to e, or 0 on the line
        v = rng.normal(size=e.shape)
        v -= np.sum(v * e, axis=1, keepdims=True) * e
        return v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-9) if dim > 1 else 0 * e

    def length(count, low, high):
        return EPSILON * rng.uniform(low, high, (count, 1))

    e, f = unit(12), unit(12)
    near = unit(12) * length(12, 0.0, 1.1)
    parts = [(unit(24) * length(24, 0.0, 1.4), unit(24) * length(24, 0.3, 3.0))]
    parts.append((across(e) * length(12, 0.0, 1.2) + e * length(12, -12, 12), 30 * EPSILON * e))
    parts += [(near, size * EPSILON * f) for size in (1e-3, 1e-6, 1e-12, 0.0)]
    through = EPSILON * np.array([-0.9, -0.5, 0.0, 0.3, 0.5, 1.0] * 2)[:, None]
    parts += [(through * e, EPSILON * e), (0.5 * e, e), (EPSILON * e / 2, 3 * EPSILON * e)]
    grazing = EPSILON * np.array([1.0, 0.5, 1.0 - 1e-9, 0.5 + 1e-9] * 3)[:, None]
    parts += [(grazing * across(e), 2.5 * EPSILON * e), (grazing * e, 1e-3 * across(e)), (np.zeros((12, dim)), 0 * e)]
    axis = np.eye(dim)[rng.integers(0, dim, 12)]
    parts += [(EPSILON * np.roll(axis, 1, axis=1), axis), (near, 2 * EPSILON * axis)]
    return tuple(np.concatenate(p) for p in zip(*parts, strict=True))


@eqx.filter_jit
def _bond(mollifier, u, d):
    def total(u, d):
        value = mollifier.bond(u, d)
        return jnp.sum(value), value

    (_, value), slopes = jax.value_and_grad(total, (0, 1), has_aux=True)(u, d)
    return value, *slopes, mollifier.density(u + d / 2) - mollifier.density(u - d / 2)


@functools.cache
def bond(name, dim, sign=1.0):
    """B, ∂B/∂u and ∂B/∂d as (Q, D), and the difference of η at the ends, for bonds d or −d."""
    u, d = bonds(dim)
    result = _bond(kind(name, dim), jnp.asarray(u.T), jnp.asarray(sign * d.T))
    return [np.asarray(r).T for r in result]


@functools.cache
def density(name, dim):
    """η and ∂η at the points of the quadrature, at their mirror images, and at the midpoints of the bonds."""
    points = np.concatenate([quadrature(name, dim)[0], -quadrature(name, dim)[0], bonds(dim)[0]])
    mollifier = kind(name, dim)

    @jax.jit
    def f(y):
        value, push = jax.vjp(mollifier.density, y)
        return value, push(jnp.ones_like(value))[0]

    return points, *map(np.asarray, f(jnp.asarray(points.T)))


@functools.cache
def scale(name, dim):
    """The factor that makes `shape` an η, and η(0)."""
    points, weights = quadrature(name, dim)
    factor = 1 / (shape(name, points) @ weights)
    return factor, factor * shape(name, np.zeros((1, dim)))[0]


KINDS = ("polynomial 2", "trapezoid", "cubic", "bump", "separable 2", "fourier")
DENSITIES = [*itertools.product(KINDS, (1, 2, 3)), ("polynomial 1", 2), ("polynomial 4", 3), ("separable 1", 3)]
BONDS = [("polynomial 1", 1), ("polynomial 2", 2), ("polynomial 4", 3), ("trapezoid", 1), ("trapezoid", 3)]
BONDS += [("cubic", 1), ("cubic", 2), ("bump", 2), ("separable 2", 2), ("separable 1", 3), ("fourier", 2)]
EXACT = [case for case in BONDS if case[0] != "bump"]


@pytest.mark.parametrize(("name", "dim"), DENSITIES)
def test_density_is_its_formula_even_with_integral_one_and_support_within_the_radius(name, dim):
    weights, (factor, peak) = quadrature(name, dim)[1], scale(name, dim)
    points, value, slope = density(name, dim)
    plus, minus, _ = np.split(value, [len(weights), 2 * len(weights)])
    # 40 nodes on quarters of ε are exact for polynomials and good to rounding for the bump
    assert abs(plus @ weights - 1.0) <= 1e-13
    assert np.max(np.abs(value - factor * shape(name, points))) <= 1e-13 * peak
    np.testing.assert_array_equal(minus, plus)
    assert np.all(np.isfinite(slope))
    outside = np.linalg.norm(points, axis=1) > kind(name, dim).radius * (1 + 1e-12)
    assert not value[outside].any()
    assert outside.any() != (name == "fourier")


def test_constants_are_those_of_hardy_and_of_the_cubic():
    np.testing.assert_allclose(Trapezoid(EPSILON, 3).constant, 8 / (5 * np.pi * EPSILON**3), rtol=1e-14)
    np.testing.assert_allclose(Cubic(EPSILON, 3).constant, 5 / (4 * np.pi * EPSILON**3 / 3), rtol=1e-14)


@pytest.mark.parametrize(("name", "dim"), EXACT)
def test_derivative_along_a_bond_is_the_difference_of_its_ends(name, dim):
    _, slope, _, ends = bond(name, dim)
    along = np.sum(slope * bonds(dim)[1], axis=1)
    # rounding of |u − t d|², which grows with the bond: 5e-13 at 30 ε
    bound = 1e-13 * np.maximum(1.0, np.linalg.norm(bonds(dim)[1], axis=1) / (6 * EPSILON))
    assert np.all(np.abs(along - ends) <= bound * scale(name, dim)[1])
    assert np.max(np.abs(ends)) > 0.1 * scale(name, dim)[1]


def brute_force(name, dim, nodes=150):
    """B by quadrature on pieces of the bond."""
    u, d = bonds(dim)
    # pieces between the nearest point to the centre, crossings of |y| = ε and ε/2, and of the faces of the cube
    a, b, c = np.sum(d * d, 1), np.sum(u * d, 1), np.sum(u * u, 1)
    with np.errstate(all="ignore"):
        cuts = [np.full(len(a), -0.5), b / a, np.full(len(a), 0.5)]
        for radius in (EPSILON, EPSILON / 2):
            root = np.sqrt(b * b - a * (c - radius**2))
            cuts += [(b - root) / a, (b + root) / a]
        cuts += [(u[:, i] + sign * EPSILON) / d[:, i] for i in range(dim) for sign in (-1, 1)]
    cuts = np.nan_to_num(np.stack(cuts, axis=1), nan=0.5)
    t, w = panels(np.sort(np.clip(cuts, -0.5, 0.5), axis=1), nodes)
    return scale(name, dim)[0] * np.sum(w * shape(name, u[:, None] - t[:, :, None] * d[:, None]), axis=1)


@pytest.mark.parametrize(("name", "dim"), BONDS)
def test_bond_is_the_mean_of_the_density_along_it_in_either_direction(name, dim):
    value, flipped, peak = bond(name, dim)[0], bond(name, dim, -1.0)[0], scale(name, dim)[1]
    length = np.linalg.norm(bonds(dim)[1], axis=1) / EPSILON
    bound = np.full(len(length), 1e-12)  # the brute force has a root near 0 in bonds that graze the centre
    if name in ("trapezoid", "cubic"):  # closed forms cancel as 1e-16 ε/ℓ; stress takes B d, so it never sees that
        bound += np.where(length > 0, 1e-15 / np.maximum(length, 1e-15), 0.0)
    if name == "bump":  # 12 nodes
        bound += 1e-4
    assert np.all(np.abs(value - brute_force(name, dim)) <= bound * peak)
    assert np.all(np.abs(value - flipped) <= np.where(length > 0.1, 1e-13, 2 * bound) * peak)


@pytest.mark.parametrize(("name", "dim"), BONDS)
def test_gradients_of_bonds_are_finite_and_those_of_differences(name, dim):
    _, by_u, by_d, _ = bond(name, dim)
    assert np.all(np.isfinite(by_u))
    assert np.all(np.isfinite(by_d))
    (u, d), rng, h = bonds(dim), np.random.default_rng(9), 1e-5
    du, dd = rng.normal(size=(2, *u.shape))
    step = [_bond(kind(name, dim), *(jnp.asarray(a.T) for a in (u + s * du, d + s * dd)))[0] for s in (h, -h)]
    expected = np.asarray(step[0] - step[1]) / (2 * h)
    regular = slice(0, 24)  # bonds anywhere: second derivatives of order 1 there, so h² and 1e-16/h are below 1e-8
    error = np.abs(np.sum(by_u * du + by_d * dd, axis=1) - expected)[regular]
    assert np.max(error) <= 1e-7 * scale(name, dim)[1] or name == "bump"


def test_quadrature_of_the_bump_converges_with_its_nodes():
    u, d = (jnp.asarray(a.T) for a in bonds(2))
    exact, peak = brute_force("bump", 2), scale("bump", 2)[1]
    errors = [np.max(np.abs(jax.jit(Bump(EPSILON, 2, nodes).bond)(u, d) - exact)) / peak for nodes in (3, 6, 12, 24)]
    # an essential singularity at the edge, so faster than any power in the end; third order is the slowest seen
    assert all(fine < coarse / 8 for coarse, fine in itertools.pairwise(errors)), errors
    assert errors[-1] < 1e-6


# --- slabs, images, precision -------------------------------------------------------------------------------------

TRICLINIC = Periodic(CELLS[3])


@pytest.mark.parametrize("name", ["polynomial 2", "trapezoid", "cubic", "separable 2", "fourier"])
@pytest.mark.parametrize("axis", [0, 2])
def test_slab_is_the_one_dimensional_kernel_along_the_normal_over_the_area(name, axis):
    window = slab(kind(name, 1), TRICLINIC, axis)
    normal, others = np.array(window.direction), np.delete(TRICLINIC.matrix, axis, axis=0)
    np.testing.assert_allclose(others @ normal, 0.0, atol=1e-15)
    area = np.linalg.norm(np.cross(*others))
    np.testing.assert_allclose(normal @ TRICLINIC.matrix[axis] * area, TRICLINIC.volume, rtol=1e-14)
    line, steps = bonds(1)  # placed along the normal, with anything across it
    noise = np.random.default_rng(2).normal(size=(2, len(line), 3))
    noise -= (noise @ normal)[:, :, None] * normal
    u, d = (jnp.asarray((a * normal + b).T) for a, b in zip((line, steps), noise, strict=True))
    value, peak = jax.jit(window.bond)(u, d), scale(name, 1)[1]
    # projections are rounded: 1e-15 in u and d, against bonds down to 1e-12 ε and up to 30 ε
    long = np.linalg.norm(steps, axis=1) > 1e-2
    assert np.max(np.abs(value * area - bond(name, 1)[0])[long]) <= 1e-12 * peak
    eta = scale(name, 1)[0] * shape(name, line)
    assert np.max(np.abs(jax.jit(window.density)(u) * area - eta)) <= 1e-13 * peak


def test_slab_refuses_what_it_cannot_average():
    for act in (
        lambda: slab(Polynomial(1.0, 3), Free(3), 0, 1.0),
        lambda: slab(Polynomial(1.0, 1), Free(3), 3, 1.0),
        lambda: slab(Polynomial(1.0, 1), Free(3), 0),
    ):
        with pytest.raises(InputError, match=r"^Argument `\w+` must .*, but .*\.$"):
            act()


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("epsilon", [0.9, 6.1])
def test_every_image_within_reach_counts(flat, epsilon):
    cell = Periodic(CELLS[2])  # heights 3.0 and 2.9: from a third of them to twice
    window = slab(Cubic(epsilon, 1), cell, 1) if flat else Cubic(epsilon, 2)
    rng = np.random.default_rng(4)
    x, y, d = rng.uniform(-4, 4, (6, 2)), rng.uniform(-4, 4, (9, 2)), rng.uniform(-2.5, 2.5, (6, 2))
    none, lattice = jnp.zeros((6, 2)), itertools.product([0] if flat else range(-9, 10), range(-9, 10))
    shifts = np.array(list(lattice)) @ cell.matrix  # the slab's area holds every image along the first cell vector

    @jax.jit
    def f(y, x, d):
        links = Bonds(jnp.arange(6), jnp.arange(6), d, none + 1.0, none, none[:, 0], 3.6)
        seen = mo.spread(y, x, none[:, :1] + 1.0, window, cell)[:, 0], mo.spread_bonds(y, x, links, window, cell)[:, 0]
        u = jnp.moveaxis(y[:, None, None] - x[None, :, None] - jnp.asarray(shifts)[None, None], -1, 0)
        along = d.T[:, None, :, None]  # from the midpoint x − d/2
        bonded = jnp.sum(window.bond(u + along / 2, along) * along[0], axis=(1, 2))
        return *seen, jnp.sum(window.density(u), axis=(1, 2)), bonded

    atoms, pairs, every_atom, every_pair = map(np.asarray, f(*map(jnp.asarray, (y, x, d))))
    # terms of both signs in the sum over bonds
    np.testing.assert_allclose(atoms, every_atom, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(pairs, every_pair, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", KINDS)
def test_float32_stays_float32(name):
    u, d = jax.ShapeDtypeStruct((3, 4, 7), "float32"), jax.ShapeDtypeStruct((3, 1, 7), "float32")
    for window in (kind(name, 3), slab(kind(name, 1), TRICLINIC, 0)):
        for result in (jax.eval_shape(window.density, u), jax.eval_shape(window.bond, u, d)):
            assert (result.dtype, result.shape) == (jnp.float32, (4, 7))
