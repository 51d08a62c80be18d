"""Inverse design: parameters from profiles, against quadrature and known truths; their errors; gradients of χ²."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmd_iz as iz
from jaxmd_iz.build.lattice import scatter
from jaxmd_iz.checks import InputError
from jaxmd_iz.chunks import ListKeeper, progress_bar
from jaxmd_iz.fit import Target, gauss_newton, measured, profiles, recover
from jaxmd_iz.reweighting import actions, average
from jaxmd_iz.sampled import run_chains
from jaxmd_iz.windows import slab


def sigmas(found, truth) -> np.ndarray:
    """How many standard errors each parameter is off."""
    off = jnp.stack(jax.tree.leaves(found.parameters)) - jnp.stack(jax.tree.leaves(truth))
    return np.asarray(off / jnp.sqrt(jnp.diag(found.covariance)))


def drawn(system, density, sampling, x, key, draws):
    """(chains · draws, n, D) samples, those of a chain next to each other; the first four draws are left out."""
    kept, lists = [], ListKeeper(system, False, 0.0)
    for k in range(draws + 4):
        mine = jax.random.fold_in(key, k)
        x = run_chains(system, density, sampling, x, mine, lists, progress_bar(False, 0))[0].x
        kept.append(x)
    return jnp.stack(kept[4:], axis=1).reshape(-1, *x.shape[1:])


def test_steps_have_the_covariance_that_they_claim():
    """Weighted least squares with correlated noise; an entry without an error tells nothing and is left out."""
    rng = np.random.default_rng(0)
    slope, root = rng.normal(size=(2, 6)), rng.normal(size=(6, 6)) * np.array([1, 1, 0.1, 1, 5, 0.3])[:, None]
    slope, c = np.pad(slope, ((0, 0), (0, 1))), np.pad(root @ root.T, (0, 1))
    truth = np.array([0.3, -1.2])
    noise = np.pad(rng.normal(size=(40000, 6)) @ root.T, ((0, 0), (0, 1))) + truth @ slope
    noise[:, 6] = 7.0
    steps, spread = jax.vmap(lambda miss: gauss_newton(miss, jnp.asarray(slope), jnp.asarray(c)))(jnp.asarray(noise))
    spread = np.asarray(spread[0])
    error = np.sqrt(np.diag(spread))
    assert np.all(np.abs(np.mean(steps, axis=0) - truth) < 4 * error / 200)
    np.testing.assert_allclose(np.cov(np.asarray(steps).T) / np.outer(error, error), spread / np.outer(error, error),
                               atol=0.04)  # fmt: skip


def line(a):
    """One particle on a line in a trap: V = [[0.9x, c], [c, Δ − 0.9x]]; V_b = x²."""

    def matrix(x):
        slope, off = 0.9 * x[:, 0], jnp.broadcast_to(a["coupling"], x.shape[:1])
        return jnp.stack([jnp.stack([slope, off], -1), jnp.stack([off, a["gap"] - slope], -1)], -2)

    trap = iz.HarmonicTrap(2.0)
    system = iz.System(iz.FromFunction(matrix, 2), iz.Free(1), np.array([0.25]), external=trap, correction="none")
    return system, iz.Canonical(jnp.asarray(0.5))


def look(system, x, p, k, neighbours):
    """λ̄_k, x² and q_1."""
    return {"level": system.levels(x)[k], "x2": jnp.sum(x**2), "upper": k.astype(x.dtype)}


def exact(coupling, gap, temperature=0.5):
    """Their averages by the trapezoidal rule."""
    x = np.linspace(-6, 6, 4001)
    r = np.sqrt((0.9 * x - gap / 2) ** 2 + coupling**2)
    level = gap / 2 + np.array([-r, r])
    f = np.exp(-(level + x**2) / temperature)
    f = f / f.sum()
    return {"level": np.sum(f * level), "x2": np.sum(f @ x**2), "upper": f[1].sum()}


def test_coupling_and_gap_are_found_behind_exact_averages():
    """From half the coupling and twice the gap; errors of the target and of sampling are both in the covariance."""
    truth = {"coupling": jnp.asarray(0.5), "gap": jnp.asarray(0.4)}
    rng = np.random.default_rng(3)
    values = exact(0.5, 0.4)
    noise = dict(zip(values, 0.004 * rng.normal(size=3), strict=True))
    target = Target.independent({k: jnp.asarray(v + noise[k]) for k, v in values.items()},
                                dict.fromkeys(values, jnp.asarray(0.004)))  # fmt: skip
    found = recover(
        line, {"coupling": 0.25, "gap": 0.8}, target, jnp.zeros((1, 1)), observe=look, key=jax.random.key(0),
        sampling=iz.Sampling(128, 8, leapfrog=8, step=0.2),
    )  # fmt: skip
    assert found.converged and found.r_hat < 1.3
    assert np.all(np.abs(sigmas(found, truth)) < 4)
    error = np.sqrt(np.diag(found.covariance))
    assert np.all(error < 0.08) and np.all(error > 0.004)
    assert found.history.chi2[0] > 10 * found.history.chi2[-1]
    assert np.all(found.history.effective > 0.3)


N, TEMPERATURE = 4, jnp.asarray(1.2)
Y, ETA = jnp.linspace(-1.8, 1.8, 5)[:, None], iz.Polynomial(1.1, 1)
START = jnp.asarray([[-1.7], [-0.55], [0.55], [1.7]])


def row(a):
    """Lennard-Jones particles on a line in a trap, by the logarithms of ε and σ."""
    lj = iz.LennardJones(jnp.exp(a["epsilon"]), jnp.exp(a["sigma"]), 2.5, "force_shift")
    return iz.System(lj, iz.Free(1), np.ones(N), external=iz.HarmonicTrap(1.0)), iz.Canonical(TEMPERATURE)


TRUTH = {"epsilon": jnp.log(jnp.asarray(1.3)), "sigma": jnp.log(jnp.asarray(0.95))}
SAMPLING = iz.Sampling(256, 48, leapfrog=20, step=0.05)


@functools.cache
def samples():
    system, density = row(TRUTH)
    start = jnp.broadcast_to(START, (256, N, 1))
    return drawn(system, density, SAMPLING, start, jax.random.key(50), 16)


def test_epsilon_and_sigma_are_found_behind_profiles_of_stress_and_energy():
    """Within 3 errors, which may be 1.5 times those given (see `recover`); the guess is as good as excluded.

    σ of four particles on a line is known to 1.5 %, so that one of the two alone does not exclude its guess.
    """
    observe, estimate = profiles(Y, ETA, TEMPERATURE)
    target = measured(observe, *row(TRUTH), samples(), key=jax.random.key(5), estimate=estimate)
    guess = {"epsilon": np.log(0.8), "sigma": np.log(1.05)}
    found = recover(
        row, guess, target, START, observe=observe, estimate=estimate, key=jax.random.key(1), sampling=SAMPLING,
        draws=8, batch=128,
    )  # fmt: skip
    assert found.converged
    assert np.all(np.abs(sigmas(found, TRUTH)) < 3 * 1.5)
    assert np.all(np.diag(found.covariance) < np.array([0.03, 0.03]) ** 2)
    off = np.stack(jax.tree.leaves(found.parameters)) - np.stack(jax.tree.leaves(guess))
    assert off @ np.linalg.solve(np.asarray(found.covariance), off) > 8.0**2


def test_exact_momenta_give_the_profiles_of_drawn_ones_with_less_noise():
    """Of the energy a tenth and more. Of the stress a few per cent of the variance are those of momenta, as much as
    the product of both kinds of noise scatters in 16 groups (2 √(share/15) at five points): no more than a twentieth.
    """
    seen = []
    for temperature in (None, TEMPERATURE):
        observe, estimate = profiles(Y, ETA, temperature)
        seen.append(measured(observe, *row(TRUTH), samples(), key=jax.random.key(5), estimate=estimate))
    for kind in ("stress", "energy"):
        error = jax.tree.map(jnp.zeros_like, seen[0].value) | {kind: jnp.ones_like(seen[0].value[kind])}
        which = np.concatenate([np.ravel(v) for v in jax.tree.leaves(error)]) > 0
        own, without = (np.sqrt(np.diag(s.covariance))[which] for s in seen)
        off = np.ravel(seen[0].value[kind] - seen[1].value[kind])
        assert np.all(np.abs(off) < 4.5 * own)
        less = {"stress": 1.05, "energy": 0.9}[kind]
        assert np.mean(without) < less * np.mean(own)


def test_covariance_of_a_target_is_that_of_its_samples():
    """⟨x_n⟩ of independent positions: Cov/S, to the scatter of 60 degrees of freedom."""
    rng = np.random.default_rng(1)
    root = np.array([[1.0, 0.0], [0.8, 0.6]])
    x = jnp.asarray((rng.normal(size=(640, 2)) @ root.T)[..., None])
    system = iz.System(iz.LennardJones(1e-9, 1e-3, 2.5), iz.Free(1), np.ones(2))
    target = measured(lambda s, x, p, k, nl: x[:, 0], system, iz.Canonical(1.0), x, key=jax.random.key(0))
    np.testing.assert_allclose(target.value, np.mean(x[..., 0], axis=0), rtol=1e-9)
    np.testing.assert_allclose(target.covariance * 640, root @ root.T, atol=0.6)


def test_gradient_of_chi2_is_that_of_finite_differences():
    """In ln ε and ln σ, by the weights of fixed samples, in reverse mode."""
    observe, estimate = profiles(Y, ETA, TEMPERATURE)
    x = samples()[::160]
    reference = -jax.nn.logsumexp(-actions(*row(TRUTH), x), axis=1)

    def chi2(a):
        a = {"epsilon": a[0], "sigma": a[1]}
        found = average(observe, *row(a), x, key=jax.random.key(2), reference=reference, estimate=estimate).mean
        return jnp.sum((found["stress"] + 0.3) ** 2) + jnp.sum((found["energy"] - 0.2) ** 2)

    loss = jax.jit(jax.value_and_grad(chi2))
    a, h = jnp.asarray([0.2, -0.04]), 1e-4
    for number, way in enumerate(jnp.eye(2)):
        f = [float(loss(a + s * h * way)[0]) for s in (-2, -1, 1, 2)]
        np.testing.assert_allclose(loss(a)[1][number], (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h), rtol=1e-8)


def test_bad_input_is_refused():
    target = Target.independent(jnp.zeros(3), jnp.ones(3))
    refuse = functools.partial(recover, line, {"coupling": 0.5, "gap": 0.4}, key=jax.random.key(0), observe=look)
    with pytest.raises(InputError, match=r"`covariance` must have shape \(3, 3\)"):
        Target(jnp.zeros(3), jnp.ones((2, 2)))
    with pytest.raises(InputError, match="`target` must hold 2 numbers or more"):
        refuse(target=Target.independent(jnp.zeros(1), jnp.ones(1)), x=jnp.zeros((1, 1)))
    with pytest.raises(InputError, match="`share` must lie between"):
        refuse(target=target, x=jnp.zeros((1, 1)), share=1.0)
    with pytest.raises(InputError, match="`burn_in` of 2"):
        refuse(target=target, x=jnp.zeros((1, 1)), sampling=iz.Sampling(16, 1))
    with pytest.raises(InputError, match="`parts` must divide the samples"):
        measured(look, *line({"coupling": 0.5, "gap": 0.4}), jnp.zeros((40, 1, 1)), key=jax.random.key(0))


def told(found, truth):
    error = jnp.sqrt(jnp.diag(found.covariance))
    mean, spread = found.expected
    print(f"\nχ² = {found.chi2:.1f}, expected {mean:.1f} ± {spread:.1f}, R̂ = {found.r_hat:.3f}")
    print(f"{len(found.history.chi2)} rounds, converged: {found.converged}")
    for (name, value), e in zip(sorted(found.parameters.items()), error, strict=True):
        print(f"  {name} = {float(jnp.exp(value)):.5f} ± {float(jnp.exp(value) * e):.5f}, true {truth[name]}")


@pytest.mark.physical_validation
def test_lennard_jones_is_recovered_from_profiles_to_one_per_cent():
    """36 particles in two dimensions in a trap along x, T = 1.5: from ε = 0.7, σ = 0.9."""
    n, length, width = 36, 16.0, 6.0
    box, temperature = iz.Periodic([length, width]), jnp.asarray(1.5)
    trap = iz.HarmonicTrap(jnp.asarray([0.3, 0.0]), jnp.asarray([length / 2, width / 2]))

    def fluid(a):
        lj = iz.LennardJones(jnp.exp(a["epsilon"]), jnp.exp(a["sigma"]), 2.5, "force_shift")
        return iz.System(lj, box, np.ones(n), external=trap), iz.Canonical(temperature)

    y = jnp.stack([length / 2 + jnp.linspace(-4, 4, 9), jnp.full(9, width / 2)], axis=1)
    observe, estimate = profiles(y, slab(iz.Polynomial(1.2, 1), box, 0), temperature)
    rng, narrow = np.random.default_rng(0), np.diag([8.0, width])
    x = np.stack([scatter(narrow, n, rng) for _ in range(64)]) + np.array([length / 2 - 4.0, 0.0])
    truth, sampling = {"epsilon": 1.0, "sigma": 1.0}, iz.Sampling(64, 40, leapfrog=30, step=0.02)
    exact = jax.tree.map(lambda v: jnp.log(jnp.asarray(v)), truth)
    seen = drawn(*fluid(exact), sampling, jnp.asarray(x), jax.random.key(9), 64)
    target = measured(observe, *fluid(exact), seen, key=jax.random.key(5), estimate=estimate)
    guess = {"epsilon": np.log(0.7), "sigma": np.log(0.9)}
    found = recover(
        fluid, guess, target, jnp.asarray(x), observe=observe, estimate=estimate, key=jax.random.key(1),
        sampling=sampling, draws=8, final=8,
    )  # fmt: skip
    told(found, truth)
    assert found.converged
    for name, value in found.parameters.items():
        assert abs(jnp.exp(value) / truth[name] - 1) < 0.01, name


@pytest.mark.physical_validation
def test_coupling_of_the_two_state_fluid_is_recovered_to_one_per_cent():
    """A cluster of 6 particles in a trap in two dimensions, gap 1, T = 0.8: from a coupling c(r) of half the height."""
    n, temperature, height = 6, jnp.asarray(0.8), 2.0
    space, trap = iz.Free(2), iz.HarmonicTrap(0.5)
    lj, shift = iz.LennardJones(1.0, 1.0, 2.5, "force_shift"), iz.Gaussian(0.05, 0.25, 1.1)

    def fluid(a):
        coupling = iz.Gaussian(jnp.exp(a["height"]), 0.25, 1.2)
        system = iz.System(iz.TwoStateFluid(lj, coupling, shift, 1.0, n), space, np.ones(n), external=trap)
        return system, iz.Canonical(temperature)

    y = jnp.stack([jnp.linspace(-2, 2, 5), jnp.zeros(5)], axis=1)
    observe, estimate = profiles(y, slab(iz.Polynomial(1.2, 1), space, 0, 1.0), temperature)
    rng = np.random.default_rng(0)
    x = np.stack([scatter(np.diag([3.5, 3.5]), n, rng) for _ in range(256)]) - 1.75
    sampling = iz.Sampling(256, 30, leapfrog=20, step=0.04)
    exact = {"height": jnp.log(jnp.asarray(height))}
    seen = drawn(*fluid(exact), sampling, jnp.asarray(x), jax.random.key(9), 64)
    target = measured(observe, *fluid(exact), seen, key=jax.random.key(5), estimate=estimate)
    found = recover(
        fluid, {"height": np.log(height / 2)}, target, jnp.asarray(x), observe=observe, estimate=estimate,
        key=jax.random.key(1), sampling=sampling, draws=4, final=16, batch=64,
    )  # fmt: skip
    told(found, {"height": height})
    assert found.converged
    assert abs(jnp.exp(found.parameters["height"]) / height - 1) < 0.01
