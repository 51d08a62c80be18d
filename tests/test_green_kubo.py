"""Coefficients from series whose spectrum is known: values, honest errors, gradients, pictures; and against stacie."""

import base64

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import lfilter

from jaxmd_iz import transport
from jaxmd_iz.checks import InputError
from jaxmd_iz.report.transport import transport_images
from jaxmd_iz.transport.spectra import coefficient
from jaxmd_iz.units import units


def relaxing(rng, shape, step, parts):
    """Sums of Ornstein–Uhlenbeck processes of variance a and time τ, and the exact ∫⟨J(0)J(t)⟩ of their samples."""
    total, exact = np.zeros(shape), 0.0
    for a, tau in parts:
        keep = np.exp(-step / tau)
        begin = rng.standard_normal((shape[0], 1, shape[2]))
        noise = np.sqrt(1 - keep**2) * rng.standard_normal(shape)
        total += np.sqrt(a) * lfilter([1], [1, -keep], noise, axis=1, zi=keep * begin)[0]
        exact += a * step * (1 + keep) / (1 - keep) / 2
    return total, exact


SPECTRA = {"one time": [(1.0, 1.0)], "two times": [(1.0, 0.2), (0.3, 2.0)]}


@pytest.mark.parametrize("parts", SPECTRA.values(), ids=list(SPECTRA))
@pytest.mark.parametrize("replicas", [1, 32])
def test_errors_of_known_spectra_are_honest(parts, replicas):
    """Over 100 repetitions the squared errors are variances: χ² per repetition 1 within its own noise, no large bias.

    100 values of χ²₁ have a mean of 1 ± 0.14. What the cut leaves out adds to it, more for the second spectrum.
    """
    rng = np.random.default_rng(5)
    highest = 1.0 if len(parts) == 1 else 2.0
    see = jax.jit(lambda j: coefficient(j, 0.1, highest=highest, lags=8))
    pulls, errors = [], []
    for _ in range(100):
        series, exact = relaxing(rng, (replicas, 3000, 3), 0.1, parts)
        found = see(series)
        pulls.append(float(jnp.log(found.value / exact) / (found.err / found.value)))
        errors.append(float(found.err / found.value))
    print(f"χ² {np.mean(np.square(pulls)):.2f}, mean pull {np.mean(pulls):.2f}, error {np.mean(errors):.4f}")
    assert 0.6 < np.mean(np.square(pulls)) < 1.7
    assert abs(np.mean(pulls)) < 0.6
    assert np.mean(errors) < 0.25 / np.sqrt(replicas)


@pytest.fixture(scope="module")
def known():
    return relaxing(np.random.default_rng(1), (64, 4000, 5), 0.1, SPECTRA["two times"])


def test_value_running_integral_and_both_errors_agree(known):
    series, exact = known
    found = coefficient(series, 0.1, 2.0)
    assert abs(found.value - 2 * exact) < 3 * found.err
    assert found.err < 0.03 * found.value
    assert 0.4 < found.err_replicas / found.err < 2  # of 16 groups: itself known to a quarter
    late = int(8.0 / 0.1)  # four times the longer time
    assert abs(found.running[late] - 2 * exact * 0.99) < 4 * found.running_err[late] + 0.01 * exact
    assert found.running_err[late] > 0
    # the smooth spectrum goes through the noise: what is left has variance 1/ℓ, less P of K terms
    misfit, terms = np.var(np.log(found.spectrum / found.smooth)[1:]), len(found.frequency) - 1
    assert misfit == pytest.approx(2 / float(found.freedom) * (1 - int(found.cut) / terms), rel=0.12)
    wider = coefficient(series, 0.1, 2.0, highest=4.0)
    assert abs(wider.value - found.value) < 2 * found.err


def test_running_integral_knows_what_the_mean_takes():
    """a mean takes S(0)/length from every correlation, in sum a quarter here."""
    series, exact = relaxing(np.random.default_rng(2), (128, 400, 4), 0.1, SPECTRA["one time"])
    found = coefficient(series + 3.0, 0.1, centre=True, highest=2.0, lags=60)
    allowed = 3 * found.running_err[50] + 0.01
    assert abs(found.running[50] - exact * (1 - np.exp(-5))) < allowed < 0.1


def test_weights_count_as_replicas(known):
    """A trajectory of weight 0 does not count; two copies with half the weight count as one."""
    series, _ = known
    some = coefficient(series[:8], 0.1, highest=2.0)
    padded = coefficient(series[:16], 0.1, 1.0, jnp.repeat(jnp.array([1.0, 0.0]), 8), highest=2.0)
    assert float(padded.value) == pytest.approx(float(some.value), rel=1e-12)
    assert float(padded.err) == pytest.approx(float(some.err), rel=1e-12)
    centred = coefficient(series[:8] + 7.0, 0.1, highest=2.0, centre=True)
    assert float(centred.value) == pytest.approx(float(some.value), rel=1e-3)


def test_coefficient_is_differentiable_in_the_flux(known):
    """∂L/∂J along a smooth change of the flux against central differences, at a fixed cut; L scales as J²."""
    series = jnp.asarray(known[0][:4, :400])
    change = jnp.cos(jnp.linspace(0, 4, 400))[None, :, None] * jnp.ones_like(series)

    @jax.jit
    @jax.value_and_grad
    def value(a):
        return coefficient(series + a * change, 0.1, highest=2.0, lags=8).value

    h = 1e-5
    slope = float(value(0.1)[1])
    assert slope == pytest.approx(float(value(0.1 + h)[0] - value(0.1 - h)[0]) / (2 * h), rel=1e-5)
    twice = coefficient(2 * series, 0.1, highest=2.0, lags=8).value
    assert float(twice) == pytest.approx(4 * float(coefficient(series, 0.1, highest=2.0, lags=8).value), rel=1e-12)


def test_bad_series_are_refused(known):
    series = known[0][:2, :100]
    for bad, options, says in (
        (series[:, :8], {}, "16 times"),
        (0 * series, {}, "change in time"),
        (series * np.nan, {}, "finite"),
        (series, {"highest": 9.0}, "at most 1/\\(2 spacing\\)"),
        (series, {"highest": 0.01}, "or more here"),
        (series, {"widen": 0.5}, "be 1 or more"),
        (series, {"samples": 3}, "divide the 2 trajectories"),
    ):
        with pytest.raises(InputError, match=says):
            coefficient(bad, 0.1, **options)


def test_coefficients_have_units():
    """Viscosity and conductivity of 1 in internal units of `metal`: eV·ps/Å³ and eV/(Å ps K)."""
    metal = units("metal")
    value, label = transport.in_units(1.0, "viscosity", metal)
    assert value == pytest.approx(metal.from_internal(1.0, "stress") * metal.from_internal(1.0, "time"))
    assert label == "(eV/Å³)·ps"


def test_pictures_say_what_they_show(known):
    """A spectrum and a running integral as PNG, the value and the cut in their captions."""
    found = coefficient(known[0][:8], 0.1, highest=2.0)
    spectrum, running = transport_images(found, "viscosity", "ε·τ/σ³", "τ")
    assert f"{found.value:.4g} ± {found.err:.2g}" in spectrum.caption
    assert f"beyond {found.cut_time:.3g} " in running.caption
    for image in (spectrum, running):
        assert base64.b64decode(image.base64)[:8] == b"\x89PNG\r\n\x1a\n" and len(image.base64) > 10_000


def test_stacie_agrees(known):
    """The same integral by a fit of the low frequencies of the spectrum."""
    stacie = pytest.importorskip("stacie", reason="needs the package stacie: pip install 'jaxmd-iz[ref]'")
    from stacie.model import LorentzModel

    series, exact = known
    found = coefficient(series, 0.1)
    flat = np.moveaxis(series, 2, 1).reshape(-1, series.shape[1])
    spectrum = stacie.compute_spectrum(flat, prefactors=1.0, timestep=0.1)
    result = stacie.estimate_acint(spectrum, LorentzModel())
    print(
        f"exact {exact:.4f}, here {found.value:.4f} ± {found.err:.4f}, "
        f"stacie {result.acint:.4f} ± {result.acint_std:.4f}"
    )
    assert abs(result.acint - exact) < 4 * result.acint_std
    assert abs(result.acint - found.value) < 3 * np.hypot(result.acint_std, found.err)
