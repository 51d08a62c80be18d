"""Decay of waves: known laws with noise, correlated in time, are found again within honest errors."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import store, transport
from jaxmd_iz.checks import InputError
from jaxmd_iz.fields import Fields
from jaxmd_iz.moments import Moments
from jaxmd_iz.statistics import GROUPS, FieldSeries, fields_with_errors
from jaxmd_iz.transport.waves import Profiles, profiles

LENGTH, POINTS, PHASE = 6.0, 12, 0.4
TIME = np.linspace(0.0, 2.0, 21)
S = np.arange(POINTS) * LENGTH / POINTS
K = 2 * np.pi / LENGTH


def noise(rng, size):
    """(G, T, Y) numbers of each group that are correlated over 0.3 of time."""
    keep = np.exp(-(TIME[1] - TIME[0]) / 0.3)
    steps = rng.standard_normal((GROUPS, len(TIME), POINTS))
    for t in range(1, len(TIME)):
        steps[:, t] = keep * steps[:, t - 1] + np.sqrt(1 - keep**2) * steps[:, t]
    return size * steps


def known(seed=0, size=0.1, u=lambda t: 0 * t, temperature=lambda t: 0 * t, rho=lambda t: 0 * t, samples=2):
    """Groups of profiles: ρ = 1 + …, u_x, T = 1 + …, each a wave and noise; sums over two samples in each group."""
    rng = np.random.default_rng(seed)
    wave = np.cos(K * S - PHASE)

    def field(mean, amplitude):
        return mean + amplitude(TIME)[None, :, None] * wave + noise(rng, size)

    mass, speed, thermal = field(1.0, rho), field(0.0, u), field(1.0, temperature)
    momentum = np.zeros((*mass.shape, 3))
    momentum[..., 0] = mass * speed
    stress = mass[..., None, None] * thermal[..., None, None] * np.eye(3)
    stress[..., 0, 0] += mass * speed**2
    energy = mass * (1.5 * thermal + speed**2 / 2)
    parts = (samples * a for a in (mass, momentum, energy, stress, mass))
    return Profiles(jnp.asarray(TIME), jnp.asarray(S), *map(jnp.asarray, parts), jnp.full(GROUPS, float(samples)))


def shear(nu, amplitude=0.5):
    return lambda t: amplitude * np.exp(-nu * K**2 * t)


def test_viscosity_of_a_known_wave_and_its_error_are_honest():
    """Over 60 repetitions the mean of pull² of ν is 1: the noise is correlated in time, and errors know it."""

    def see(of):
        found = transport.shear_decay(transport.wave(of, "u", component=0))
        return found.parameters["viscosity"], found.errors["viscosity"]

    several = [see(known(seed, u=shear(0.8))) for seed in range(60)]
    pulls = np.array([float((value - 0.8) / err) for value, err in several])
    print(f"pull² {np.mean(pulls**2):.2f}, mean {np.mean(pulls):.2f}, error {np.mean([e for _, e in several]):.4f}")
    assert 0.6 < np.mean(pulls**2) < 1.7
    assert abs(np.mean(pulls)) < 0.5
    assert np.mean([e for _, e in several]) < 0.06


def test_memory_of_the_stress_is_found():
    """a″ + a′/τ + νk²a/τ = 0, a′(0) = 0, overdamped and underdamped: against its numerical solution."""
    for nu, tau in ((0.8, 0.15), (2.0, 0.6)):
        fine = np.linspace(0, TIME[-1], 20001)
        a, slope, course = 0.5, 0.0, []
        step = fine[1]
        for _ in fine:  # midpoint rule
            course.append(a)
            middle, rate = a + step / 2 * slope, slope + step / 2 * (-slope / tau - nu * K**2 * a / tau)
            a, slope = a + step * rate, slope + step * (-rate / tau - nu * K**2 * middle / tau)
        exact = np.array(course)[::1000]
        found = transport.shear_decay(transport.wave(known(size=1e-6, u=lambda t, e=exact: e), "u"), memory=True)
        assert float(found.parameters["viscosity"]) == pytest.approx(nu, rel=1e-4)
        assert float(found.parameters["memory"]) == pytest.approx(tau, rel=1e-3)
        np.testing.assert_allclose(found.curve, exact, atol=1e-5)


def test_heat_and_sound_are_found():
    """D_T from T; c, Γ and D_T from ρ; noise of 3 %."""
    heat = known(1, 0.03, temperature=lambda t: 0.3 * np.exp(-1.2 * K**2 * t))
    found = transport.heat_decay(transport.wave(heat, "T"))
    assert abs(found.parameters["diffusivity"] - 1.2) < 3.5 * found.errors["diffusivity"] < 0.3

    def both(t):
        return 0.1 * np.exp(-0.5 * K**2 * t) + 0.2 * np.exp(-0.4 * K**2 * t) * np.cos(5.0 * K * t)

    sound = transport.sound_decay(transport.wave(known(2, 0.01, rho=both), "rho"), 4.5, 0.3, 0.7)
    for name, exact in (("speed", 5.0), ("attenuation", 0.4), ("diffusivity", 0.5), ("heat", 0.1)):
        assert abs(sound.parameters[name] - exact) < 3.5 * sound.errors[name], name
    assert sound.errors["speed"] < 0.05
    assert sound.freedom == len(TIME) - 6 and sound.chi2 < 3 * sound.freedom


def test_amplitude_and_phase_of_a_wave():
    """Exact without noise, by the phase of the first time or a given one; other modes are not there."""
    of = known(size=0.0, u=shear(0.8))
    found = transport.wave(of, "u")
    np.testing.assert_allclose(found.amplitude, shear(0.8)(TIME), rtol=1e-12)
    assert float(found.wave_number) == pytest.approx(K)
    turned = transport.wave(of, "u", phase=PHASE + np.pi / 3)
    np.testing.assert_allclose(turned.amplitude, 0.5 * found.amplitude, rtol=1e-12)
    np.testing.assert_allclose(transport.wave(of, "u", mode=2, phase=0.0).amplitude, 0, atol=1e-12)
    np.testing.assert_allclose(transport.wave(of, "T", phase=PHASE).amplitude, 0, atol=1e-12)


def test_viscosity_is_differentiable_in_the_fields():
    """∂ν/∂(momentum) along a change of the profiles against central differences."""
    of = known(3, u=shear(0.8))

    @jax.jit
    @jax.value_and_grad
    def nu(a):
        moved = eqx.tree_at(lambda p: p.momentum, of, of.momentum * (1 + a * jnp.asarray(TIME))[None, :, None, None])
        return transport.shear_decay(transport.wave(moved, "u")).parameters["viscosity"]

    h = 1e-4
    slope = float(nu(0.05)[1])
    assert slope == pytest.approx(float(nu(0.05 + h)[0] - nu(0.05 - h)[0]) / (2 * h), rel=1e-3)
    assert slope < 0  # a wave that is made to last longer


def test_series_and_files_give_the_same_wave(tmp_path):
    """FieldSeries, its dataset and the file of it; points in space are refused."""
    of = known(4, u=shear(0.8))
    shape = (len(TIME), GROUPS, POINTS)
    zero = jnp.zeros(shape)
    zeros = {name: jnp.zeros((*shape, 3)) for name in ("j_kinetic", "j_potential", "force")}
    turned = [jnp.swapaxes(a, 0, 1) for a in (of.rho, of.momentum, of.energy, of.k, of.number)]
    moments = Moments(
        rho=turned[0],
        number=turned[4][..., None],
        momentum=turned[1],
        energy_kinetic=turned[2],
        energy_potential=zero,
        k=turned[3],
        s=jnp.zeros((*shape, 3, 3)),
        r=jnp.zeros((*shape, 3, 3)),
        power=zero,
        **zeros,
    )
    weight = jnp.broadcast_to(of.weight, shape[:2])
    of_time = [
        fields_with_errors(jax.tree.map(lambda a, t=t: a[t], moments), jnp.zeros((GROUPS, 3)), weight[t], jnp.ones(()))
        for t in range(len(TIME))
    ]
    value, error, w = (jax.tree.map(lambda *a: jnp.stack(a), *[one[i] for one in of_time]) for i in range(3))
    assert isinstance(value, Fields)
    y = jnp.zeros((POINTS, 3)).at[:, 2].set(jnp.asarray(S))
    series = FieldSeries(jnp.asarray(TIME), y, value, error, moments, weight, w, axis=2)
    expected = transport.wave(of, "u")
    store.write_netcdf(store.to_dataset(series, "lj"), tmp_path / "fields.nc")
    for source in (series, store.read_fields(tmp_path / "fields.nc")):
        found = transport.wave(source, "u")
        np.testing.assert_allclose(found.amplitude, expected.amplitude, rtol=1e-12)
        np.testing.assert_allclose(found.err, expected.err, rtol=1e-9)
    scattered = FieldSeries(jnp.asarray(TIME), y, value, error, moments, weight, w)
    with pytest.raises(InputError, match="along an axis"):
        profiles(scattered)


def test_bad_waves_are_refused():
    of = known(size=0.0, u=shear(0.8))
    for options, says in (
        ({"field": "p"}, "be one of"),
        ({"mode": 6}, "between 1 and 5"),
        ({"component": 3}, "below 3"),
    ):
        with pytest.raises(InputError, match=says):
            transport.wave(of, **options)
    found = transport.wave(of, "u")
    with pytest.raises(InputError, match="`speed` must be positive"):
        transport.sound_decay(found, -1.0, 0.1)
    short = eqx.tree_at(lambda w: (w.time, w.amplitude), found, (found.time[:1], found.amplitude[:1]))
    with pytest.raises(InputError, match="2 times or more"):
        transport.shear_decay(short)
