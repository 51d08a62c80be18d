"""The local Gibbs density: closed forms, its gradient, and the global canonical density as one cell."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz.checks import InputError
from jaxmd_iz.ensemble import advance_chains, start_chains
from jaxmd_iz.gibbs import Canonical
from jaxmd_iz.local_gibbs import Cells, LocalGibbs, Natural, natural, physical
from jaxmd_iz.mollifiers import Cubic
from jaxmd_iz.moments import spread
from jaxmd_iz.potentials.base import FromFunction
from jaxmd_iz.potentials.diabatic import Gaussian, TwoStateFluid
from jaxmd_iz.potentials.external import HarmonicTrap
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.sampling import Sampling
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.system import System
from jaxmd_iz.windows import Fourier, slab

EDGE, K = 4.0, 5
RNG = np.random.default_rng(3)


def line(space, count=K, axis=0):
    """Equidistant points of a profile whose shares sum to 1."""
    spacing = EDGE / count
    y = jnp.zeros((count, space.dimensions)).at[:, axis].set(spacing * jnp.arange(float(count)))
    volume = jnp.full(count, space.volume / count)
    return Cells(y, volume, slab(Cubic(spacing, 1), space, axis))


def theta(count, dim, spread=0.3):
    """Some natural parameters with β around 1."""
    beta = 1 + spread * RNG.uniform(-1, 1, count)
    return Natural(
        jnp.asarray(beta), jnp.asarray(RNG.normal(size=(count, dim)) * spread), jnp.asarray(RNG.normal(size=count))
    )


def fluid(correction, states=2):
    """Five particles of two masses in a periodic square, on one or two surfaces."""
    base = LennardJones(1.0, 0.8, 1.9, "force_shift")
    two = TwoStateFluid(base, Gaussian(0.9, 0.5, 1.1), Gaussian(0.5, 0.6, 1.3), 0.6, 5)
    space = Periodic([EDGE, EDGE])
    x = jnp.asarray([[0.2, 0.3], [1.3, 0.4], [2.5, 1.8], [0.4, 1.5], [3.1, 3.2]])
    return System(two if states == 2 else base, space, np.array([1.0, 1.0, 4.0, 4.0, 2.0]), correction=correction), x


def test_shares_sum_to_one_and_are_conjugate_to_the_fields():
    """Σ_k a_k = 1 for `Cubic` with ε the spacing; Σ_n a_k(xⁿ) M_n = v_k ρ(y_k) of the moments, to rounding."""
    system, x = fluid("none")
    cells = line(system.space)
    shares = cells.shares(system.space, x)
    np.testing.assert_allclose(jnp.sum(shares, axis=1), 1.0, rtol=1e-14)
    rho = spread(cells.y, x, system.masses[:, None], cells.mollifier, system.space)[:, 0]
    np.testing.assert_allclose(shares.T @ system.masses, cells.volume * rho, rtol=1e-13)


@pytest.mark.parametrize(("correction", "states"), [("none", 1), ("none", 2), ("paper", 2)])
def test_gradient_of_the_action(correction, states):
    """∇Φ against fourth-order differences of Φ (1e-9 of its size), for the sum over states and for one of them."""
    system, x = fluid(correction, states)
    density = LocalGibbs(line(system.space), theta(K, 2), 1.1)
    way, h = np.random.default_rng(0).normal(size=x.shape), 2e-4
    look = eqx.filter_jit(lambda at, k: density.action(system, at, None, k))
    for state in (None, jnp.asarray(states - 1)):
        slope = np.sum(way * np.asarray(look(x, state)[1]))
        up, down, up2, down2 = (float(look(x + s * h * way, state)[0]) for s in (1, -1, 2, -2))
        difference = (8 * (up - down) - (up2 - down2)) / (12 * h)
        assert abs(difference - slope) < 1e-9 * np.linalg.norm(way) * np.linalg.norm(look(x, state)[1])
    actions = density.actions(system, x)
    np.testing.assert_allclose(-jax.nn.logsumexp(-actions), look(x, None)[0], rtol=1e-12)
    np.testing.assert_allclose(actions[states - 1], look(x, jnp.asarray(states - 1))[0], rtol=1e-12)
    np.testing.assert_allclose(density.weights(system, x), jax.nn.softmax(-actions), rtol=1e-12)


def test_one_cell_of_constant_mollifier_is_the_canonical_density():
    """Φ differs by a constant, ∇Φ, weights and momenta agree (with u = 0); (5.16) is one cell of section 8."""
    system, x = fluid("none")
    cell = Cells(jnp.zeros((1, 2)), jnp.asarray([system.space.volume]), Fourier(system.space.cell, 0.0, 0))
    local = LocalGibbs(cell, natural(jnp.asarray([0.7]), jnp.zeros((1, 2)), jnp.asarray([0.3])), 1 / 0.7)
    whole = Canonical(0.7)
    both = [jax.jit(lambda a, d=d: (d.action(system, a), d.weights(system, a)))(x) for d in (local, whole)]
    np.testing.assert_allclose(both[0][0][1], both[1][0][1], rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(both[0][1], both[1][1], rtol=1e-12)
    moved = [
        float(d.action(system, x + 0.1 * jnp.sin(7 * x))[0]) - float(b[0][0])
        for d, b in zip((local, whole), both, strict=True)
    ]
    assert abs(moved[0] - moved[1]) < 1e-11
    key = jax.random.key(4)
    np.testing.assert_allclose(local.momenta(key, system, x), whole.momenta(key, system, x), rtol=1e-13)


def test_momenta_have_the_local_mean_and_width():
    """pⁿ ~ N(M_n U/B, M_n/B): within 4 standard errors of 4000 draws."""
    system, x = fluid("none", 1)
    density, count = LocalGibbs(line(system.space), theta(K, 2), 1.1), 4000
    keys = jax.random.split(jax.random.key(1), count)
    p = np.asarray(jax.jit(jax.vmap(lambda k: density.momenta(k, system, x)))(keys))
    shares = np.asarray(density.cells.shares(system.space, x))
    big_b, big_u = shares @ np.asarray(density.theta.beta), shares @ np.asarray(density.theta.beta_u)
    masses = np.asarray(system.masses)
    mean, width = (masses / big_b)[:, None] * big_u, np.sqrt(masses / big_b)[:, None]
    z = (p - mean) / width
    assert np.max(np.abs(z.mean(axis=0))) < 4 / np.sqrt(count)
    assert np.max(np.abs((z**2).mean(axis=0) - 1)) < 4 * np.sqrt(2 / count)


def nothing(x):
    """No interaction."""
    return jnp.zeros(x.shape[0], x.dtype)


def sampled(system, density, start, chains, step, burn_in=60):
    """Positions of independent chains, (chains, n, D)."""
    sampling = Sampling(chains, burn_in, leapfrog=6, step=step)
    begin, keys = start_chains(
        system, density, sampling, jnp.broadcast_to(start, (chains, *start.shape)), jax.random.key(2), None
    )
    return np.asarray(advance_chains(system, density, sampling, begin, keys, jnp.asarray(0), burn_in, None)[0].x)


def test_ideal_gas_has_the_profile_of_its_fields():
    """One particle has the density ∝ (M/B)^{D/2} e^{M|U|²/2B + Mν}: means of a_k within 4 standard errors of 4000."""
    space, mass = Periodic([EDGE]), 1.5
    system = System(FromFunction(nothing), space, np.array([mass, mass]))
    density = LocalGibbs(line(space), theta(K, 1, 0.5), 1.0)
    x = sampled(system, density, jnp.asarray([[0.3], [2.2]]), 2000, 0.4)
    grid = jnp.linspace(0, EDGE, 4000, endpoint=False)[:, None]
    shares = np.asarray(density.cells.shares(space, grid))
    big_b, big_u, nu = (shares @ np.asarray(a) for a in (density.theta.beta, density.theta.beta_u, density.theta.nu))
    weight = np.sqrt(mass / big_b) * np.exp(mass * big_u[:, 0] ** 2 / (2 * big_b) + mass * nu)
    exact = weight @ shares / weight.sum()
    found = np.asarray(density.cells.shares(space, jnp.asarray(x.reshape(-1, 1))))
    error = found.std(axis=0) / np.sqrt(len(found))
    assert np.all(np.abs(found.mean(axis=0) - exact) < 4 * error)
    assert np.max(np.abs(exact - 1 / K) / error) > 20  # it is far from uniform


def test_harmonic_crystal_beyond_the_points_is_canonical():
    """Where no point reaches, B = β₀: a trapped chain in free space has the covariance T₀ 𝓗⁻¹ of its Hessian."""
    stiffness, t0 = 3.0, 0.8

    def springs(x):  # each bond shared half and half
        stretch = 0.5 * stiffness * jnp.sum((jnp.diff(x, axis=0)) ** 2, axis=1)
        return jnp.concatenate([stretch, jnp.zeros(1)]) / 2 + jnp.concatenate([jnp.zeros(1), stretch]) / 2

    space = Free(1)
    system = System(FromFunction(springs), space, np.ones(3), external=HarmonicTrap(1.0))
    cells = Cells(jnp.asarray([[30.0], [31.0]]), jnp.ones(2), Cubic(1.0, 1))
    density = LocalGibbs(cells, theta(2, 1), 1 / t0)
    x = sampled(system, density, jnp.zeros((3, 1)), 4000, 0.3)[:, :, 0]
    hessian = np.eye(3) + stiffness * np.array([[1, -1, 0], [-1, 2, -1], [0, -1, 1]])
    exact = t0 * np.linalg.inv(hessian)
    error = np.sqrt((exact**2 + np.outer(np.diag(exact), np.diag(exact))) / len(x))
    assert np.all(np.abs(x.T @ x / len(x) - exact) < 4 * error)


def test_natural_and_physical_are_inverse():
    """T, u, μ → θ → T, u, μ."""
    t, u, mu = jnp.asarray([0.5, 2.0]), jnp.asarray([[1.0, -2.0], [0.3, 0.0]]), jnp.asarray([0.1, -3.0])
    for a, b in zip(physical(natural(t, u, mu)), (t, u, mu), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"theta": Natural(jnp.ones(2), jnp.zeros((2, 2)), jnp.zeros(2))}, "`beta` must have 5 points"),
        ({"theta": Natural(-jnp.ones(K), jnp.zeros((K, 2)), jnp.zeros(K))}, "`beta` must be positive everywhere"),
        ({"beta_0": 0.0}, "`beta_0` must be positive everywhere"),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(change, sentence):
    with pytest.raises(InputError, match=sentence):
        LocalGibbs(**({"cells": line(Periodic([EDGE, EDGE])), "theta": theta(K, 2), "beta_0": 1.0} | change))
