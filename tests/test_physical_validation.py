"""Long statistics, run by hand with `-m physical_validation`: the Lennard-Jones fluid against the NIST state points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmd_iz as iz
from jaxmd_iz.build.lattice import scatter
from jaxmd_iz.surfaces import virial as virial_of

# ρ*, T*, U/N and P of NIST Standard Reference Simulation, r_c = 3 with long-range corrections
POINTS = [(0.776, 0.90, -5.4689, 0.24056), (0.009, 0.90, -0.089936, 7.6363e-3)]
PARTICLES, CHAINS = 216, 16


@pytest.mark.physical_validation
@pytest.mark.parametrize(("density", "temperature", "energy", "pressure"), POINTS)
def test_canonical_lennard_jones_meets_nist(density, temperature, energy, pressure):
    """U/N and P within 3 of their own standard errors; the chains are independent, so their spread is the error."""
    edge = (PARTICLES / density) ** (1 / 3)
    space = iz.Periodic([edge] * 3)
    potential = iz.LennardJones(1.0, 1.0, cutoff=3.0, truncation="cut", tail=True)
    system = iz.System(potential, space, jnp.ones(PARTICLES))
    rng = np.random.default_rng(1)
    starts = jnp.asarray(np.stack([scatter(space.matrix, PARTICLES, rng) for _ in range(CHAINS)]))
    grid = iz.Grid(jnp.zeros((1, 3)), iz.Polynomial(1.0))
    run = iz.simulate(
        system,
        iz.Canonical(temperature),
        grid,
        starts,
        key=jax.random.key(0),
        sampling=iz.Sampling(CHAINS, burn_in=500, leapfrog=12, step=0.02),
        neighbours="dense",
        keep=("positions",),
    )
    counts = jnp.array([PARTICLES])
    tail_energy, tail_pressure = (
        float(f(counts, space.volume)) for f in (potential.tail_energy, potential.tail_pressure)
    )
    assert run.positions is not None
    potentials = np.array([float(system.levels(x)[0]) for x in run.positions[0]])

    def virial(x):
        return jnp.trace(virial_of(potential, system.edges(x), system.masses, 0))

    virials = np.array([float(v) for v in jax.lax.map(jax.jit(virial), run.positions[0])])
    energies = (potentials + tail_energy) / PARTICLES
    pressures = density * temperature - virials / (3 * space.volume) + tail_pressure
    for name, sample, reference in (("U/N", energies, energy), ("P", pressures, pressure)):
        mean, error = sample.mean(), sample.std(ddof=1) / np.sqrt(CHAINS)
        print(f"ρ* = {density}, T* = {temperature}: {name} = {mean:.5f} ± {error:.5f}, NIST {reference}")
        assert abs(mean - reference) < 3 * error
