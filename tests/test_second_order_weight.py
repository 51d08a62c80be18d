"""The `second_order` weight itself: its derivatives, limits, estimates of it, its use with samples, bad input."""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import second_order
from jaxmd_iz.checks import InputError
from jaxmd_iz.ensemble import advance_chains, start_chains
from jaxmd_iz.gibbs import Canonical, reweight, second_order_factors
from jaxmd_iz.mollifiers import Polynomial
from jaxmd_iz.nonlinear import Iterated
from jaxmd_iz.potentials.adiabatic import Lowest
from jaxmd_iz.potentials.avoided import QuarticCrossing
from jaxmd_iz.potentials.base import AbstractPairPotential, AbstractPotential, FromFunction
from jaxmd_iz.potentials.diabatic import Gaussian, TwoStateFluid
from jaxmd_iz.potentials.external import HarmonicTrap, QuarticTrap
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.sampling import Sampling
from jaxmd_iz.space import Free
from jaxmd_iz.surfaces import levels
from jaxmd_iz.system import System

SPECIES = jnp.zeros(1, int)
_rng = np.random.default_rng(5)
_h = _rng.normal(size=(2, 3, 3)) + 1j * _rng.normal(size=(2, 3, 3))
H = (_h + _h.conj().swapaxes(1, 2)) / 5
START = np.diag([0.0, 0.5, 1.2]).astype(complex)


def edges(x):
    """One particle on a line."""
    return Free(1).edges(x.reshape(1, 1), SPECIES)


def meeting(x):
    """Complex V of three states that all meet at x = 0, and no two of which commute there."""
    v = jnp.einsum("c,cij->ij", jnp.stack([x[0, 0], x[0, 1]]).astype(complex), jnp.asarray(H))
    v = v + jnp.sum(x**2).astype(complex) * jnp.asarray(H[0] @ H[0] + START) + jnp.sin(x[0, 0]).astype(complex) * H[1]
    return v[None]


def test_gradient_at_near_and_away_from_a_crossing():
    """Of log w in x, T and M against differences with h = 1e-3: h⁴ and ε/h are 1e-12, times derivatives up to 10²."""
    potential = FromFunction(meeting, 3, complex=True)
    along = jnp.array([[0.6, -0.8]])

    @jax.jit
    @jax.vmap
    @jax.value_and_grad
    def value(s):  # (position along, distance from the crossing, T, M)
        e = Free(2).edges(s[1] * jnp.array([[1.0, 0.4]]) + s[0] * along, SPECIES)
        return second_order.log_weight(potential, e, s[3:], s[2], QuarticTrap(0.3))

    start = np.array([[0.0, near, 0.7, 3.0] for near in (0.0, 1e-12, 1e-9, 1e-5, 1e-2, 0.7)])
    shift = np.eye(4)[[0, 2, 3], None] * np.array([0.0, 1.0, -1.0, 2.0, -2.0])[None, :, None] * 1e-3
    at = start[:, None, None] + shift[None]
    values, slopes = map(np.asarray, value(jnp.asarray(at.reshape(-1, 4))))
    _, up, down, up2, down2 = np.moveaxis(values.reshape(at.shape[:3]), -1, 0)
    known = (8 * (up - down) - (up2 - down2)) / 12e-3
    found = slopes.reshape(at.shape)[:, 0, 0][:, [0, 2, 3]]
    np.testing.assert_allclose(found, known, atol=1e-9)


def test_one_state_is_the_correction_of_wigner_and_kirkwood():
    """⟨x|e^{−βĤ}|x⟩ of a harmonic oscillator over its classical limit is c + O(M⁻²), with u = βω = β√(k/M)."""
    k, beta, x = 1.7, 0.8, np.array([0.0, 0.5, 2.0])
    flat = FromFunction(lambda at: jnp.zeros(at.shape[0], at.dtype))

    @jax.jit
    @jax.vmap
    def factor(at, mass):
        return second_order.correction_factor(flat, edges(at), mass[None], 1 / beta, HarmonicTrap(k))

    def rest(mass):
        u = beta * math.sqrt(k / mass)
        known = math.sqrt(u / math.sinh(u)) * np.exp(-(x**2) * math.sqrt(k * mass) * (math.tanh(u / 2) - u / 2))
        found = np.asarray(factor(jnp.asarray(x), jnp.full(3, mass)))
        wigner = 1 + (-(beta**2) * k / 12 + beta**3 * (k * x) ** 2 / 24) / mass
        np.testing.assert_allclose(found, wigner, rtol=1e-14)
        return known - found

    # what is left has terms 1/M² and 1/M³ of similar size
    np.testing.assert_allclose(rest(1e2) / rest(1e3), 100.0, rtol=0.02)


def test_nothing_overflows_far_below_the_gap_or_far_from_zero():
    """T = gap/2000, levels near 10⁵ T: the printed kernel with its exponentials combined, e^{−2000} left out."""

    def far(x):
        levels = jnp.array([[50.0, 0.0], [0.0, 51.0]])
        return (levels + x[0, 0] * jnp.array([[0.3, 0.8], [0.8, -0.2]]))[None]

    t, mass = 5e-4, 1e9
    c, slope = jax.jit(
        jax.value_and_grad(
            lambda x: second_order.correction_factor(FromFunction(far, 2), edges(x), jnp.array([mass]), t)
        )
    )(jnp.zeros(()))
    y = 1 / t
    mixed = 0.8**2 * (1 / (6 * y) - 1 / (2 * y**2) + 1 / y**3)  # e^{−y/2}[(sinh y/2 …)/… + …] for e^{−y} → 0
    np.testing.assert_allclose(float(c) - 1, (0.3**2 / 24 + mixed) / (t**3 * mass), rtol=1e-9)
    assert np.isfinite(slope)


N = 4
FLUID = TwoStateFluid(
    LennardJones(1.0, 0.9, cutoff=2.0, truncation="force_shift"),
    Gaussian(2.0, 0.6, 1.0),
    Gaussian(1.5, 0.8, 0.9),
    0.9,
    N,
)
MASSES = jnp.array([1.0, 2.5, 4.0, 6.0]) * 10
X = jnp.array([[0.1, 0.0], [1.15, 0.2], [0.3, 1.1], [1.4, 1.3]])


class Whole(AbstractPotential):
    """A pair potential as any other, without its closed Laplacian."""

    pairs: AbstractPairPotential
    cutoff: ClassVar[float] = 2.0
    own_bonds: ClassVar[bool] = True
    invariant: ClassVar[bool] = True
    complex: ClassVar[bool] = False

    @property
    def states(self):
        return self.pairs.states

    def partition(self, e):
        return self.pairs.partition(e)


def test_laplacian_of_pairs_in_closed_form_and_by_probes():
    """Closed and general form agree to rounding; the mean of 4000 estimates is within 4 standard errors of them."""
    e = Free(2).edges(X, jnp.zeros(N, int))
    factor = eqx.filter_jit(second_order.correction_factor)
    for pairs in (FLUID.base, FLUID):
        exact = factor(pairs, e, MASSES, 1.3)
        assert abs(exact - 1) > 0.01
        np.testing.assert_allclose(factor(Whole(pairs), e, MASSES, 1.3), exact, rtol=1e-13)
    exact = factor(FLUID.base, e, MASSES, 1.3)

    @jax.jit
    @jax.vmap
    def estimate(key):
        return second_order.correction_factor(Whole(FLUID.base), e, MASSES, 1.3, key=key, probes=2)

    found = np.asarray(estimate(jax.random.split(jax.random.key(3), 4000)))
    assert found.std() > 1e-3 * abs(exact - 1)  # it is an estimate
    assert abs(found.mean() - exact) < 4 * found.std() / math.sqrt(4000)


# --- with samples -----------------------------------------------------------------------------------------------


def test_reweighted_samples_give_second_order_averages_of_functions_of_x():
    """⟨x⟩ and ρ(y) from samples of `none`, at M = 10, against the trapezoidal rule: 4 standard errors.

    So is the shift of ⟨x⟩ by the weight, better known than ⟨x⟩ itself: more than 4 of its standard errors from 0.
    """
    potential, mass, one = QuarticCrossing(), jnp.asarray(10.0), jnp.asarray(1.0)
    system = System(potential, Free(1), mass[None], correction="none")
    density, sampling = Canonical(1.0), Sampling(samples=8000, burn_in=40, step=0.5, leapfrog=6)
    begin, keys = start_chains(system, density, sampling, jnp.full((8000, 1, 1), 0.5), jax.random.key(2), None)
    x = advance_chains(system, density, sampling, begin, keys, jnp.asarray(0), sampling.burn_in, None)[0].x
    y, mollifier = np.array([-0.5, 0.2, 1.0]), Polynomial(0.8, 1)

    def functions(x):  # x and ρ at three places
        rho = mass * mollifier.density((y[None, :] - x[:, None])[None])
        return jnp.concatenate([x[:, None], rho], axis=1)

    found = reweight(system, x, one, functions(x[:, 0, 0]))
    line = jnp.linspace(-4.5, 5.5, 1001)  # exact to rounding: e^{−V} < 1e-30 at both ends
    g = jax.jit(jax.vmap(lambda a: jnp.sum(jnp.exp(-levels(potential, edges(a), mass[None], "none")))))(line)
    c = second_order_factors(system, line[:, None, None], one)
    plain = (g @ functions(line)) / jnp.sum(g)
    known = ((g * (1 + c - (g @ c) / jnp.sum(g))) @ functions(line)) / jnp.sum(g)
    ratio = ((g * c) @ functions(line)) / jnp.sum(g * c)
    np.testing.assert_allclose(known - plain, ratio - plain, rtol=0.05)  # the same but for O(M⁻²)
    assert np.all(np.abs(found.mean - known) < 4 * found.error), (found, known)

    at, c = np.asarray(x[:, 0, 0]), np.asarray(second_order_factors(system, x, one))
    np.testing.assert_allclose(found.effective, c.size / (1 + c.var()), rtol=1e-12)
    shift, error = found.mean[0] - at.mean(), ((c - c.mean()) * (at - at.mean())).std() / math.sqrt(c.size)
    assert abs(shift - (known[0] - plain[0])) < 4 * error < abs(known[0] - plain[0]), (shift, error)
    # the reported error is that of the mean: 40 batches scatter by it, which tells their standard deviation to 11 %
    batches = [np.mean((1 + c - c.mean()) * a) for c, a in zip(c.reshape(40, -1), at.reshape(40, -1), strict=True)]
    assert abs(np.std(batches) / math.sqrt(40) / found.error[0] - 1) < 0.35


def refused(says, call, *args, **kwargs):
    with pytest.raises(InputError, match=says):
        call(*args, **kwargs)


def test_refuses_in_one_sentence():
    e, masses = Free(2).edges(X, jnp.zeros(N, int)), MASSES
    factor, operator = second_order.correction_factor, second_order.operator_factor
    refused("`potential` must have an electron basis that does not move", factor, Lowest(FLUID, 1), e, masses, 1.0)
    refused("`potential` must be V itself", factor, Iterated(FLUID, masses, "paper", 1), e, masses, 1.0)
    refused("`masses` must be positive", second_order.log_weight, FLUID, e, -masses, 1.0)
    refused("`masses` must have shape \\(4,\\)", factor, FLUID, e, masses[:1], 1.0)
    refused("`temperature` must be positive", factor, FLUID, e, masses, 0.0)
    refused("`key` must be given", factor, FLUID, e, masses, 1.0, probes=2)
    refused("`probes` must be 1 or more", factor, FLUID, e, masses, 1.0, key=jax.random.key(0), probes=0)
    refused("`operator` must be \\(2, 2\\)", operator, FLUID, e, masses, 1.0, jnp.eye(3))
    refused("`operator` must be Hermitian", operator, FLUID, e, masses, 1.0, jnp.triu(jnp.ones((2, 2))))
    refused("`operator` must have 2 states", operator, FLUID, e, masses, 1.0, FLUID.base)
    refused("`operator` must have an electron basis", operator, FLUID, e, masses, 1.0, Lowest(FLUID, 2))
    system, x = System(FLUID, Free(2), masses), jnp.stack([X] * 5)
    refused("`system` must have the surfaces `none`", reweight, system, x, 1.0, jnp.zeros(5))
    refused("`values` must hold 5 samples", reweight, system, x, 1.0, jnp.zeros(4))


def test_program_holds_one_batched_eigenproblem():
    """Five states go to LAPACK, and two independent batches of it can wait for each other for ever on two cores."""
    matrices = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 5)))
    slope = (matrices[0] + matrices[0].T)[None]

    def bent(x):
        return slope * jnp.tanh(x)[:, :, None] + jnp.diag(jnp.arange(5.0))[None]

    ladder = FromFunction(bent, states=5)

    def many(x):
        mass, one = jnp.asarray([10.0]), jnp.asarray(1.0)
        return jax.vmap(lambda a: second_order.correction_factor(ladder, edges(a), mass, one))(x)

    for function in (many, jax.grad(lambda x: jnp.sum(many(x)))):
        assert jax.jit(function).lower(jnp.linspace(-1.0, 1.0, 3)).compile().as_text().count("lapack_dsyevd") == 1
