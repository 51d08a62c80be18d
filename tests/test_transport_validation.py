"""Long statistics, run by hand with `-m physical_validation`: Green–Kubo of the Lennard-Jones fluid, waves against it.

256 particles, r_c = 2.5, 64 trajectories at constant energy from canonical samples, in single precision; results and
settings are in the README. A Lennard-Jones case takes a quarter of an hour on one core, the others a few minutes.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmd_iz as iz
from jaxmd_iz import commands, config, ensemble, store, transport
from jaxmd_iz.build.lattice import lattice, scatter

SINGLE = jnp.float32
STEP = jnp.asarray(0.004, SINGLE)


def said(name: str, found: transport.Coefficient) -> None:
    print(
        f"  {name} = {found.value:.4f} ± {found.err:.4f} (groups of trajectories: {found.err_replicas:.4f}), "
        f"cut {int(found.cut)} = {found.cut_time:.2f} of time, running integral at 3: "
        f"{np.interp(3.0, found.time, found.running):.3f} ± {np.interp(3.0, found.time, found.running_err):.3f}"
    )


def melted(system: iz.System, temperature: float, copies: int) -> ensemble.Walkers:
    """A lattice melted at T = 3 and cooled, by Langevin dynamics, with fresh momenta."""
    n = system.masses.shape[0]
    x = jnp.asarray(lattice(system.space.matrix, n), SINGLE)
    canonical = iz.Canonical(jnp.asarray(temperature, SINGLE))
    x = jnp.broadcast_to(x, (copies, *x.shape))
    walkers = ensemble.walkers_from_samples(system, canonical, x, None, jax.random.key(0), None)
    for bath, steps in ((3.0, 3000), (temperature, 4000)):
        scheme = iz.Baoab(STEP, jnp.asarray(1.0, SINGLE), jnp.asarray(bath, SINGLE))
        for k in range(0, steps, 100):
            walkers, _ = ensemble.advance(system, scheme, walkers, jnp.asarray(k + int(1e6 * bath)), 100, None)
    return ensemble.walkers_from_samples(system, canonical, walkers.phase.x, None, jax.random.key(1), None)


CASES = [  # ρ*, T*, η, κ: the triple point, and that of the KAPPA examples of LAMMPS
    (0.8442, 0.722, (3.24 * 0.9, 3.24 * 1.1), (6.9 * 0.9, 6.9 * 1.1)),
    (0.6, 1.35, None, (3.4, 3.8)),
]


@pytest.mark.physical_validation
@pytest.mark.parametrize(("density", "temperature", "shear", "heat"), CASES)
def test_lennard_jones_meets_the_literature(density, temperature, shear, heat):
    """η and κ within 10 % of the literature, with a standard error of 5 % at most; two kinds of error agree."""
    n = 256
    space = iz.Periodic([(n / density) ** (1 / 3)] * 3)
    lj = iz.LennardJones(1.0, 1.0, cutoff=2.5, truncation="shift")
    system = iz.System(lj, space, jnp.ones(n, SINGLE))
    walkers = melted(system, temperature, 64)
    scheme = iz.VelocityVerlet(STEP)
    series = transport.flux_series(system, walkers, scheme, steps=40000, every=8, neighbours="dense")
    found = transport.coefficients(series)
    print(f"\nρ* = {density}, T* = {series.temperature:.4f}, drift {series.drift:.1e} per particle")
    for name in ("viscosity", "bulk_viscosity", "conductivity"):
        one = getattr(found, name)
        said(name, one)
        assert one.err < 0.05 * one.value
        assert 0.5 < one.err_replicas / one.err < 2
        wider = getattr(transport, name)(series, highest=1.5 * float(one.frequency[-1]))
        assert abs(wider.value - one.value) < 2 * one.err
    assert series.drift < 1e-3
    assert shear is None or shear[0] < found.viscosity.value < shear[1]
    low, high = heat
    assert low - 2 * found.conductivity.err < found.conductivity.value < high + 2 * found.conductivity.err


def at_rest(system: iz.System, temperature: float, copies: int, steps: int) -> transport.GreenKubo:
    """Green–Kubo from points at random and hybrid Monte Carlo."""
    rng, n = np.random.default_rng(0), system.masses.shape[0]
    x = jnp.asarray(np.stack([scatter(system.space.matrix, n, rng) for _ in range(copies)]), SINGLE)
    return transport.green_kubo(
        system,
        iz.Canonical(jnp.asarray(temperature, SINGLE)),
        x,
        key=jax.random.key(0),
        sampling=iz.Sampling(samples=copies, burn_in=60, leapfrog=16, step=0.012),
        integrator=iz.VelocityVerlet(STEP),
        steps=steps,
        every=8,
        neighbours="dense",
    )


@pytest.mark.physical_validation
def test_decay_of_a_wave_meets_green_kubo(tmp_path):
    """ν from u of the example `shear_wave` with the memory of the stress, and η/ρ of the same cell at rest."""
    longer = ("dynamics.steps=600", "dynamics.every=60")
    commands.run(config.load("shear_wave", longer), tmp_path, progress=False)
    wave = transport.wave(store.read_fields(tmp_path / "fields.nc"), "u", component=0)
    plain, decay = transport.shear_decay(wave), transport.shear_decay(wave, memory=True)
    space = iz.Periodic([5.2, 5.2, 10.4])
    lj = iz.LennardJones(1.0, 1.0, cutoff=2.5, truncation="force_shift")
    still = at_rest(iz.System(lj, space, jnp.ones(168, SINGLE)), 1.2, 64, 6000).viscosity
    nu, err = still.value * space.volume / 168, still.err * space.volume / 168
    print("")
    for name, one in (("exponential", plain), ("with memory", decay)):
        values = ", ".join(f"{k} {v:.4f} ± {one.errors[k]:.4f}" for k, v in one.parameters.items())
        print(f"  {name}: {values}, χ² {one.chi2:.1f} of {one.freedom}")
    print(f"  Green–Kubo: ν = {nu:.4f} ± {err:.4f}")
    both = np.hypot(err, decay.errors["viscosity"])
    assert decay.errors["viscosity"] < 0.1 * decay.parameters["viscosity"]
    assert abs(decay.parameters["viscosity"] - nu) < 3 * both


@pytest.mark.physical_validation
def test_two_states():
    """The fluid of the example `two_state_fluid`: both surfaces count, by their weights; errors of 10 % at most."""
    space = iz.Periodic([(64 / 0.65) ** (1 / 3)] * 3)
    base = iz.LennardJones(1.0, 1.0, cutoff=2.2, truncation="force_shift")
    fluid = iz.TwoStateFluid(base, iz.Gaussian(0.1, 0.25, 1.2), iz.Gaussian(0.05, 0.25, 1.1), gap=1.0, particles=64)
    found = at_rest(iz.System(fluid, space, jnp.ones(64, SINGLE)), 1.1, 32, 6000)
    weights = np.asarray(found.series.weight).reshape(-1, 2)
    print(f"\nT* = {found.series.temperature:.4f}, q* = {weights.mean(axis=0)}, drift {found.series.drift:.1e}")
    for name in ("viscosity", "bulk_viscosity", "conductivity"):
        said(name, getattr(found, name))
        assert getattr(found, name).err < 0.1 * getattr(found, name).value
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
