"""Fluxes of the whole cell against the fields and LAMMPS, their series, and Green–Kubo from end to end."""

import dataclasses
import itertools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmd_iz as iz
from jaxmd_iz import ensemble, transport
from jaxmd_iz.checks import InputError
from jaxmd_iz.fields import fields
from jaxmd_iz.neighbours import neighbour_list
from jaxmd_iz.transport.fluxes import deviatoric, deviatoric_basis, pressure

VIRIAL = dict(np.load(Path(__file__).parent / "data" / "lj500_cut_shift.npz"))
LJ = iz.LennardJones(1.0, 1.0, cutoff=1.6, truncation="force_shift")


def start(n, dim, length, seed=0):
    """n particles near the sites of a lattice, with momenta that do not add up to zero."""
    rng = np.random.default_rng(seed)
    per = int(np.ceil(n ** (1 / dim)))
    sites = np.array(list(itertools.product(range(per), repeat=dim)))[:n] * length / per
    x = jnp.asarray(sites + 0.08 * length / per * rng.standard_normal((n, dim)))
    return x, jnp.asarray(rng.standard_normal((n, dim)) + 0.3)


def two_state(split, correction="paper"):
    base = iz.LennardJones(1.0, 1.0, cutoff=1.6, truncation="force_shift")
    fluid = iz.TwoStateFluid(base, iz.Gaussian(0.3, 0.25, 1.2), iz.Gaussian(0.2, 0.25, 1.1), gap=0.5, particles=8)
    return iz.System(fluid, iz.Periodic([3.4, 3.3, 3.6]), jnp.linspace(1.0, 2.0, 8), split=split, correction=correction)


def scalar(potential=LJ, **options):
    return iz.System(potential, iz.Periodic([3.4, 3.3, 3.6]), jnp.linspace(1.0, 2.0, 8), **options)


def silicon():
    return iz.System(iz.StillingerWeber.silicon(), iz.Periodic([8.0, 7.8, 7.9]), jnp.full(8, 28.0))


CASES = {
    "pairs": (scalar, False),
    "pairs on a list": (scalar, True),
    "three-body": (silicon, False),
    "three-body on a list": (silicon, True),
    "two states": (lambda: two_state("energy"), False),
}


@pytest.mark.parametrize("case", CASES)
def test_fluxes_are_the_integrals_of_the_fields(case):
    """Slabs of η that are a partition of unity on the grid: sums over y are the integrals of K, S, R and J, exactly."""
    make, listed = CASES[case]
    system = make()
    x, p = start(8, 3, float(system.space.heights[2]))
    near = neighbour_list(system.space, x, system.potential.cutoff, skin=0.05) if listed else None
    k = system.states - 1
    points, height = 4, float(system.space.heights[2])
    y = jnp.zeros((points, 3)).at[:, 2].set(jnp.linspace(0, height, points, endpoint=False))
    window = iz.slab(iz.Cubic(height / points, 1), system.space, axis=2)

    @eqx.filter_jit
    def both(system, x, p, near):
        moments = system.moments(y, x, p, k, window, near)
        return moments, transport.fluxes(system, x, p, k, near)

    moments, found = both(system, x, p, near)
    cell = jax.tree.map(lambda a: jnp.mean(a, axis=0, keepdims=True), moments)
    w = jnp.sum(p, axis=0) / jnp.sum(system.masses)
    mean = fields(cell, w)  # one cell whose velocity u is w
    volume = system.space.volume
    np.testing.assert_allclose(found.stress / volume, mean.sigma[0], atol=1e-13 * np.max(np.abs(cell.s)) + 1e-15)
    np.testing.assert_allclose(found.heat / volume, mean.q[0], atol=1e-12 * np.max(np.abs(mean.q)))
    np.testing.assert_allclose(found.potential / volume, cell.energy_potential[0], rtol=1e-13)


def test_fluxes_meet_lammps():
    """Pressure tensor and J of a liquid of 500; LAMMPS prints momenta of the lab, whose total is rounding here."""
    x, p = jnp.asarray(VIRIAL["x"]), jnp.asarray(VIRIAL["v"])
    lj = iz.LennardJones(1.0, 1.0, 2.5, "shift")
    system = iz.System(lj, iz.Periodic(VIRIAL["box"]), np.ones(500))
    assert np.max(np.abs(np.sum(p, axis=0))) < 1e-10
    near = neighbour_list(system.space, x, 2.5, skin=0.3)
    for lists in (None, near):
        found = eqx.filter_jit(transport.fluxes)(system, x, p, 0, lists)
        tensor = -found.stress / system.space.volume
        np.testing.assert_allclose(tensor[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]], VIRIAL["p_tensor"], atol=2e-8)
        assert float(pressure(found) / system.space.volume) == pytest.approx(float(VIRIAL["press"]), abs=1e-9)
        np.testing.assert_allclose(found.heat, VIRIAL["J_stressatom"], rtol=1e-8)


def test_components_of_the_stress_are_independent():
    """E : E′ = δ/2 and tr E = 0: then all have the variance of σ_xy."""
    for dim, count in ((2, 2), (3, 5)):
        basis = deviatoric_basis(dim)
        np.testing.assert_allclose(np.einsum("aij,bij->ab", basis, basis), np.eye(count) / 2, atol=1e-15)
        np.testing.assert_allclose(np.trace(basis, axis1=1, axis2=2), 0, atol=1e-15)
        np.testing.assert_allclose(basis, np.swapaxes(basis, 1, 2))


def test_gradient_of_the_heat_flux():
    """∂q/∂ε of the loop over pairs against central differences."""
    x, p = start(8, 3, 3.4)

    @jax.jit
    @jax.value_and_grad
    def heat(epsilon):
        system = scalar(iz.LennardJones(epsilon, 1.0, cutoff=1.6, truncation="force_shift"))
        found = transport.fluxes(system, x, p, 0)
        return found.heat[0] + found.stress[0, 1]

    h = 1e-5
    slope = float(heat(1.1)[1])
    assert slope == pytest.approx(float(heat(1.1 + h)[0] - heat(1.1 - h)[0]) / (2 * h), rel=1e-8)


@pytest.fixture(scope="module")
def liquid():
    """Twelve particles in a plane, dense and on lists, that must be rebuilt on the way."""
    space = iz.Periodic([4.2, 4.4])
    system = iz.System(LJ, space, jnp.ones(12))
    x, p = start(12, 2, 4.2)
    walkers = ensemble.walkers_from_samples(
        system, iz.Canonical(1.0), jnp.stack([x, x]), jnp.stack([p, -p]), jax.random.key(0), None
    )
    return system, walkers


def run(system, walkers, neighbours="dense", steps=120):
    scheme = iz.VelocityVerlet(0.004)
    return transport.flux_series(system, walkers, scheme, steps=steps, every=4, neighbours=neighbours, skin=0.2)


@pytest.fixture(scope="module")
def dense(liquid):
    return run(*liquid)


def test_series_are_the_fluxes_along_the_trajectory(liquid, dense):
    """Reversed momenta, dense pairs and lists, and the trajectory itself."""
    system, walkers = liquid
    listed = run(system, walkers, "list")
    assert dense.heat.shape == (2, 30, 2) and dense.deviatoric.shape == (2, 30, 2)
    for name in ("deviatoric", "pressure", "heat", "kinetic", "potential"):
        np.testing.assert_allclose(getattr(dense, name), getattr(listed, name), rtol=1e-7, atol=1e-8, err_msg=name)
    x, p = iz.trajectory(
        iz.VelocityVerlet(0.004), lambda x: system.force(x, 0), system.masses, *(a[0] for a in walkers.phase[:2]), 120
    )
    last = transport.fluxes(system, x, p, 0)
    np.testing.assert_allclose(dense.heat[0, -1], last.heat, rtol=1e-9)
    np.testing.assert_allclose(dense.deviatoric[0, -1], deviatoric(last), rtol=1e-9)
    assert 0 < float(dense.drift) < 0.02
    assert float(dense.spacing) == pytest.approx(0.016)


def test_cells_without_transport_coefficients_are_refused(liquid, dense):
    system, walkers = liquid
    free = iz.System(LJ, iz.Free(2), jnp.ones(12))
    with pytest.raises(InputError, match="periodic space"):
        transport.fluxes(free, walkers.phase.x[0], walkers.phase.p[0], 0)
    with pytest.raises(InputError, match="positive multiple of 4"):
        run(system, walkers, steps=5)
    trapped = iz.System(LJ, system.space, jnp.ones(12), external=iz.HarmonicTrap(1.0))
    with pytest.raises(InputError, match="no external potential"):
        run(trapped, walkers)
    series = dataclasses.replace(dense, kinds=2)
    with pytest.raises(InputError, match="one species"):
        transport.conductivity(series)
    assert transport.coefficients(series, highest=30.0).conductivity is None


def test_green_kubo_of_two_states():
    """From sampling to coefficients: finite, weights of a sample sum to one, both surfaces in the series."""
    system = two_state("energy", "none")
    sampling = iz.Sampling(samples=2, burn_in=6, leapfrog=4, step=0.01)
    x, _ = start(8, 3, 3.3)
    found = iz.green_kubo(
        system,
        iz.Canonical(1.0),
        x,
        key=jax.random.key(1),
        sampling=sampling,
        integrator=iz.VelocityVerlet(0.004),
        steps=160,
        every=4,
    )
    series = found.series
    assert series.samples == 2 and series.weight.shape == (4,)
    np.testing.assert_allclose(jnp.sum(series.weight.reshape(2, 2), axis=1), 1.0)
    for one in (found.viscosity, found.bulk_viscosity, found.conductivity):
        assert one.value > 0 and one.err > 0 and np.isfinite(one.err_replicas)
    weights = series.weight
    size = float(jnp.sum(weights) ** 2 / jnp.sum(weights**2))
    assert float(found.viscosity.freedom) == pytest.approx(2 * 5 * size)
