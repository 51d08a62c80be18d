"""The Lennard-Jones fluid with N drawn too: virial series, an equation of state, bookkeeping of the moves; silicon."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import cumulative_trapezoid

from jaxmd_iz import grand
from jaxmd_iz import grand_chain as gc
from jaxmd_iz.potentials.many_body import StillingerWeber
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.space import Periodic
from jaxmd_iz.system import System
from jaxmd_iz.units import units


@eqx.filter_jit
def start(system, density, exchange, x, chains):
    """Chains that start from one configuration, or from none."""
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (chains, *a.shape)), gc.start_grand(system, density, exchange, x))


@eqx.filter_jit
def advance(system, density, exchange, states, first, steps):
    """Every chain `steps` further, with its own key."""
    keys = jax.random.split(jax.random.key(2), states.alive.shape[0])
    return jax.vmap(lambda s, k: gc.advance_grand(system, density, exchange, s, k, first, steps))(states, keys)


def run(system, density, exchange, steps, chains, parts=1):
    """Chains that start empty, run in so many chunks of `steps`, and the traces of the chunks."""
    states, traces = start(system, density, exchange, jnp.zeros((0, system.space.dimensions)), chains), []
    for part in range(parts):
        states, trace = advance(system, density, exchange, states, jnp.asarray(part * steps), steps)
        traces.append(trace)
    return states, traces


TEMPERATURE, DENSITY = 2.0, 0.05


def lennard_jones(slots, edge, temperature, activity, moves, burn_in):
    """The fluid cut and shifted at 2.5σ, with z = e^{βMμ}/Λ³ = activity: h is chosen so that Λ = σ."""
    system = System(LennardJones(1.0, 1.0, 2.5, "shift"), Periodic([edge] * 3), np.ones(slots))
    local = grand.uniform(temperature, temperature * np.log(activity), 3)
    return system, grand.GrandGibbs(local, np.sqrt(2 * np.pi * temperature)), gc.Exchange(moves, burn_in=burn_in)


def virials(temperature):
    """B₂ and B₃ of that potential from f = e^{−φ/T} − 1 on a fine grid; B₃ over triangles, with F′ = s f.

    B₂ = −2π ∫ r²f dr,  B₃ = −(8π²/3) ∫∫ rf(r) sf(s) [F(r + s) − F(|r − s|)] dr ds.
    """
    r = np.linspace(0.0, 5.0, 4001)
    inside = (r > 0) & (r <= 2.5)
    safe = np.where(inside, np.maximum(r, 0.3), 1.0)
    phi = np.where(inside, 4 * (safe**-12 - safe**-6) - 4 * (2.5**-12 - 2.5**-6), 0.0)
    f = np.where(r == 0, -1.0, np.exp(-phi / temperature) - 1)
    big_f = cumulative_trapezoid(r * f, r, initial=0.0)
    half = 2001
    total, away = (np.arange(half)[:, None] + s * np.arange(half)[None, :] for s in (1, -1))
    rf = (r * f)[:half] * r[1]
    third = rf @ (big_f[total] - big_f[np.abs(away)]) @ rf
    return -2 * np.pi * np.sum(r**2 * f) * r[1], -8 * np.pi**2 / 3 * third


@pytest.fixture(scope="module")
def gas():
    """μ from the virial series at ρσ³ = 0.05, T = 2ε, chains there and the trace after the burn-in."""
    b2, b3 = virials(TEMPERATURE)
    activity = DENSITY * np.exp(2 * b2 * DENSITY + 1.5 * b3 * DENSITY**2)
    system, density, exchange = lennard_jones(64, 8.0, TEMPERATURE, activity, 1, 400)
    states, traces = run(system, density, exchange, 800, chains=128, parts=3)
    both = jax.tree.map(lambda *a: jnp.concatenate(a, axis=1), *traces)
    return system, density, states, both, (b2, b3)


def test_dilute_lennard_jones_has_the_density_of_the_virial_series(gas):
    """⟨N⟩ and Var N at the μ of z = ρ exp(2B₂ρ + 3B₃ρ²/2), Var N/⟨N⟩ = 1/(1 + 2B₂ρ + 3B₃ρ²), B₂ and B₃ by quadrature.

    The next term, 4B₄ρ³/3 in log z, is below 5e-4 (B₄ < 3σ⁹ at T = 2ε), a tenth of the standard error; the cell is
    longer than three cutoffs, so no triangle closes around it. Without B₂ the mean would be off by 10 errors.
    """
    _, density, states, trace, (b2, b3) = gas
    assert int(jnp.sum(states.overflow)) == 0
    mean, error = eqx.filter_jit(gc.averages)(jax.tree.map(lambda a: a[:, 800:], trace))
    expected = DENSITY * 512
    assert abs(float(mean.number) - expected) < 4 * float(error.number)
    assert float(error.number) < 0.01 * expected
    spread = 1 / (1 + 2 * b2 * DENSITY + 3 * b3 * DENSITY**2)
    assert abs(float(mean.variance) / expected - spread) < 4 * float(error.variance) / expected
    got = float(density.excess(1.0, jnp.asarray([DENSITY]))[0]) / TEMPERATURE
    np.testing.assert_allclose(got, 2 * b2 * DENSITY + 1.5 * b3 * DENSITY**2, rtol=1e-12)
    # an equation of state made from other people's simulations: M. Thol et al., Int. J. Thermophys. 36, 25 (2015)
    assert abs(got + 0.069879) < 1e-3


def test_energies_are_those_of_all_bonds_after_many_moves(gas):
    """λ summed up from 4800 moves is that of the last configuration, to the rounding of so many sums."""
    system, density, states, trace, _ = gas
    full = jax.jit(jax.vmap(lambda s: density.product(system, s.x, s.alive)[1]))(states)
    np.testing.assert_allclose(states.potential, full, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(trace.number[:, -1], jnp.sum(states.alive, axis=1))
    np.testing.assert_array_equal(trace.potential[:, -1], states.potential)
    tried, accepted = np.sum(np.asarray(states.tried), axis=0), np.sum(np.asarray(states.accepted), axis=0)
    assert tried[0] + tried[1] == 128 * 2400 and np.all((0.5 < accepted / tried) & (accepted < tried))


def test_neither_chunks_nor_further_slots_change_the_chain(gas):
    """Random numbers belong to steps, and ghosts to nobody: the same N at every step, λ but for the order of sums."""
    system, density, _, trace, _ = gas
    _, _, exchange = lennard_jones(64, 8.0, TEMPERATURE, 1.0, 1, 400)
    larger = System(system.potential, system.space, np.ones(80))
    _, traces = run(larger, density, exchange, 250, chains=128, parts=2)
    both = jax.tree.map(lambda *a: jnp.concatenate(a, axis=1), *traces)
    np.testing.assert_array_equal(both.number, trace.number[:, :500])
    np.testing.assert_allclose(both.potential, trace.potential[:, :500], rtol=0, atol=1e-10)


@pytest.mark.physical_validation
def test_dense_lennard_jones_meets_the_equation_of_state():
    """ρσ³ = 0.5, T = 1.5ε, cut and shifted at 2.5σ: ρ, U/N and Var N/⟨N⟩ at βμ_ex = −0.63375 within 3 standard errors.

    Values of M. Thol et al., Int. J. Thermophys. 36, 25 (2015), fitted to simulations of this very potential. Their own
    uncertainty, a few 1e-3 of the pressure, and what a cell of 108 particles misses are below the errors here.
    """
    system, density, exchange = lennard_jones(160, 6.0, 1.5, 0.5 * np.exp(-0.633752), 2, 4000)
    states, traces = run(system, density, exchange, 4000, chains=32, parts=10)
    assert int(jnp.sum(states.overflow)) == 0
    mean, error = gc.averages(jax.tree.map(lambda *a: jnp.concatenate(a, axis=1), *traces[1:]))
    print(mean, error)
    assert abs(float(mean.number) - 108) < 3 * float(error.number) < 3
    assert abs(float(mean.potential) / 108 + 2.78778) < 3 * float(error.potential) / 108
    assert abs(float(mean.variance) / 108 - 0.46862) < 3 * float(error.variance) / 108


def test_a_potential_of_triplets_is_sampled_by_all_bonds():
    """Stillinger–Weber: λ of the moves is that of the last configuration."""
    system = System(StillingerWeber.silicon(), Periodic([8.0] * 3), np.full(6, 28.0855))
    density = grand.GrandGibbs(grand.uniform(1.0, -0.1, 3), grand.planck_of(units("metal")))
    states, _ = run(system, density, gc.Exchange(moves=0), 40, chains=4)
    full = jax.jit(jax.vmap(lambda s: density.product(system, s.x, s.alive)[1]))(states)
    np.testing.assert_allclose(states.potential, full, rtol=0, atol=1e-11)
    assert int(jnp.min(jnp.sum(states.accepted[:, :2]))) > 4 and np.ptp(np.asarray(full)) > 0.1
