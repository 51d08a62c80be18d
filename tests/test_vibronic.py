"""Normal modes and Jahn–Teller: closed forms, sum rules, gradients, and the reader of SHARC's `LVC.template`."""

import math
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import eigen, surfaces
from jaxmd_iz.checks import InputError
from jaxmd_iz.potentials.base import matrix_gradient, matrix_partition
from jaxmd_iz.potentials.vibronic import JahnTeller, LinearVibronicCoupling, SpinBoson, read_lvc
from jaxmd_iz.space import Free

EXAMPLE = Path(__file__).parent / "data" / "LVC_example.template"
OMEGA = np.array([0.0] * 6 + [0.008, 0.01, 0.012])
LVC = read_lvc(EXAMPLE, frequencies=OMEGA, ignore_spin_orbit=True)
MODELS = {
    "spin–boson": (SpinBoson(modes=4), [[0.4], [-1.1], [0.7], [0.2]]),
    "vibronic": (LVC, [[1.4], [-0.8], [0.6]]),
    "Jahn–Teller": (JahnTeller(0.7), [[0.5, -0.8]]),
}
CASES = [(name, correction) for name in MODELS for correction in ("none", "paper")]
every = pytest.mark.parametrize("name", MODELS)


def edges(x):
    return Free(x.shape[1]).edges(x, jnp.zeros(x.shape[0], int))


def masses(potential, x):
    return getattr(potential, "masses", 20.0 * jnp.ones(x.shape[0]))


@eqx.filter_jit
def everything(potential, x, correction):
    """Levels and their partition with slopes by forward mode; surfaces and gradients of all states."""
    e, m = edges(x), masses(potential, x)

    def parts(x):
        return surfaces.partition(potential, edges(x), m, correction)

    s = jax.vmap(lambda k: surfaces.surface(potential, e, m, k, correction))(jnp.arange(potential.states))
    fast = jax.vmap(lambda k: surfaces.gradient(potential, e, m, k, correction))(jnp.arange(potential.states))
    return {
        "levels": surfaces.levels(potential, e, m, correction),
        "rows": jax.jacfwd(parts)(x),
        "energy": s.energy,
        "gradient": s.gradient,
        "external": s.external,
        "fast": fast,
        "matrices": matrix_partition(potential, e),
        "slopes": matrix_gradient(potential, e),
    }


def difference(quantity, potential, x, correction="none", h=1e-3):
    """Central differences of fourth order in every coordinate, along the last two axes."""
    steps = h * np.eye(x.size).reshape(x.size, *x.shape)

    def at(shift):
        return np.asarray(everything(potential, x + shift, correction)[quantity])

    slopes = [(8 * (at(s) - at(-s)) - at(2 * s) + at(-2 * s)) / (12 * h) for s in steps]
    return np.moveaxis(slopes, 0, -1).reshape(*slopes[0].shape, *x.shape)


@pytest.mark.parametrize(("name", "correction"), CASES)
def test_gradients_of_surfaces_are_finite_differences_of_levels(name, correction):
    potential, x = MODELS[name]
    x = jnp.asarray(x)
    got = everything(potential, x, correction)
    expected = difference("levels", potential, x, correction)
    # h⁴ times fifth derivatives, with lengths and energies near 1 (hartree of the vibronic model near 0.01)
    tight = 1e-9 * np.abs(expected).max()
    np.testing.assert_allclose(got["gradient"], expected, atol=tight)
    np.testing.assert_allclose(got["fast"], expected, atol=tight)
    np.testing.assert_allclose(got["energy"].sum(axis=1), got["levels"], atol=1e-14)  # the sum rule is rounding
    # gⁿ = Σ_m ∇_m λ̄ⁿ against the derivative of the whole partition
    np.testing.assert_allclose(got["external"], got["rows"].sum(axis=2), atol=1e-13)


@every
def test_matrices_are_symmetric_and_depend_on_their_own_mode(name):
    potential, x = MODELS[name]
    x = jnp.asarray(x)
    got = everything(potential, x, "none")
    np.testing.assert_array_equal(got["matrices"], np.swapaxes(got["matrices"], 1, 2))
    slopes = difference("matrices", potential, x)  # (n, d, d, m, D)
    same = np.moveaxis(np.einsum("nabnD->nabD", slopes), -1, 1)
    np.testing.assert_allclose(got["slopes"], same, atol=1e-11)  # V is quadratic: rounding/h alone
    others = slopes * (1 - np.eye(len(x)))[:, None, None, :, None]
    assert np.abs(others).max() == 0.0
    assert np.abs(same).max() > 1e-3


@every
def test_flags_say_which_models_have_fields(name):
    potential, _ = MODELS[name]
    assert potential.confined
    assert getattr(potential, "y_space", True) == (name == "Jahn–Teller")
    assert potential.own_bonds
    assert not potential.invariant


def test_jahn_teller_is_its_closed_form_and_has_a_conical_intersection():
    potential = MODELS["Jahn–Teller"][0]
    for x in (jnp.array([[0.5, -0.8]]), jnp.array([[-0.3, 0.02]])):
        rho = float(jnp.linalg.norm(x))
        got = everything(potential, x, "paper")
        plain = everything(potential, x, "none")["levels"]
        np.testing.assert_allclose(plain, [rho**2 / 2 - 0.7 * rho, rho**2 / 2 + 0.7 * rho], rtol=1e-14)
        # |∇α|² = 1/ρ², so λ̄ = λ + κ/(4Mρ²), and D₀₁ = ±½∇α
        np.testing.assert_allclose(got["levels"], plain + 0.25 / (4 * 20.0 * rho**2), rtol=1e-13)
        d = surfaces.couplings(potential, edges(x))[0, 1, 0]
        np.testing.assert_allclose(jnp.sum(d**2), 0.25 / rho**2, rtol=1e-13)
    at_zero = everything(potential, jnp.zeros((1, 2)), "none")
    np.testing.assert_array_equal(at_zero["levels"], 0.0)
    assert np.isfinite(at_zero["fast"]).all()


def test_spin_boson_has_the_debye_bath_of_its_source():
    potential = SpinBoson()
    omega, slopes, constant = np.asarray(potential.frequencies), *potential.terms()[1:]
    assert (potential.modes, float(potential.bias), float(potential.coupling)) == (100, 0.5, 0.5)
    np.testing.assert_allclose(omega[[0, -1]], 0.1 * np.tan([np.pi / 400, np.pi / 2 - np.pi / 400]), rtol=1e-12)
    np.testing.assert_array_equal(constant, [[0.5, 0.5], [0.5, -0.5]])
    # vertical energy between the minima of the two diabats: 4λ, whatever the number of modes
    minimum = -slopes[:, 0, 0] / omega**2
    up, down = (jnp.sum(potential.partition(edges(s * minimum[:, None])), axis=0) for s in (1.0, -1.0))
    np.testing.assert_allclose(down[0, 0] - up[0, 0], 4 * 0.005, rtol=1e-13)
    # the bath below Ω: (π/2) Σ g²/ω² → ∫₀^Ω 2λΩ/(ω² + Ω²) dω = πλ/2 is one half of the whole
    below = np.pi / 2 * float(jnp.sum(jnp.where(omega < 0.1, slopes[:, 0, 0] ** 2 / omega**2, 0.0)))
    np.testing.assert_allclose(below, np.pi * 0.005 / 2, rtol=1e-12)  # 50 of 100 modes
    np.testing.assert_array_equal(potential.masses, 1.0)


def test_derivatives_with_respect_to_parameters_are_finite_differences():
    for potential, x in MODELS.values():
        along = jax.tree.map(lambda leaf: 1e-3 * leaf, potential)  # all parameters at once

        @jax.jit
        def lowest(t, potential=potential, along=along, x=x):
            moved = jax.tree.map(lambda leaf, step: leaf + t * step, potential, along)
            return eigen.eigh(jnp.sum(matrix_partition(moved, edges(jnp.asarray(x))), axis=0))[0][0]

        expected = (8 * (lowest(1.0) - lowest(-1.0)) - lowest(2.0) + lowest(-2.0)) / 12
        np.testing.assert_allclose(jax.grad(lowest)(0.0), expected, rtol=1e-9)  # steps of 1e-3, fourth order
        assert expected != 0


def test_file_gives_the_hamiltonian_of_its_singlets():
    np.testing.assert_array_equal(LVC.frequencies, [0.008, 0.01, 0.012])
    np.testing.assert_allclose(LVC.masses, [125.0, 100.0, 1 / 0.012])
    np.testing.assert_array_equal(LVC.epsilon, [0.0, 0.0625, 0.078125])
    q = np.array(MODELS["vibronic"][1])[:, 0]
    v = np.diag([0.0, 0.0625, 0.078125]) + 0.5 * np.sum(OMEGA[6:] * q**2) * np.eye(3)
    v[0, 0] += 1.25e-3 * q[1]
    v[1, 1] += 6.25e-3 * q[0] - 2.5e-3 * q[1]
    v[2, 2] += 3.125e-3 * q[2]
    v[0, 1] = v[1, 0] = 7.5e-4 * q[2]
    v[1, 2] = v[2, 1] = -4e-3 * q[0] + 5e-3 * q[2]
    got = jnp.sum(LVC.partition(edges(jnp.asarray(q)[:, None])), axis=0)
    np.testing.assert_allclose(got, v, atol=1e-17)
    # a mode swings with its own frequency: √(k/M) = ω
    np.testing.assert_allclose(jnp.sqrt(LVC.terms()[0] / LVC.masses), LVC.frequencies, rtol=1e-15)


def written(model):
    """The model as text in the format of SHARC, singlets only."""
    d, modes = model.states, range(len(model.frequencies))
    linear = np.asarray(model.linear)
    kappa = [f"1 {i + 1} {a + 1} {linear[a, i, i]:.17e}" for a in modes for i in range(d)]
    pairs = [(i, j) for i in range(d) for j in range(i + 1, d)]
    coupling = [f"1 {i + 1} {j + 1} {a + 1} {linear[a, i, j]:.17e}" for a in modes for i, j in pairs]
    epsilon = [f"1 {i + 1} {value:.17e}" for i, value in enumerate(model.epsilon)]
    sections = {"epsilon": epsilon, "kappa": kappa, "lambda": coupling, "gamma": []}
    return "\n".join(["V0.txt", f"{d} 0", *(f"{k}\n" + "\n".join([str(len(v)), *v]) for k, v in sections.items())])


def test_reader_round_trip_finds_frequencies_beside_the_file(tmp_path):
    (tmp_path / "LVC.template").write_text(written(LVC) + "\n")
    line = " ".join(f"{omega:.17e}" for omega in LVC.frequencies)
    (tmp_path / "V0.txt").write_text(f"Geometry\nH 1. 0. 0. 0. 1.\nFrequencies\n{line}\nMass-weighted normal modes\n")
    again = read_lvc(tmp_path / "LVC.template")
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(LVC), strict=True):
        np.testing.assert_array_equal(one, other)


def test_multiplicity_is_chosen():
    triplet = read_lvc(EXAMPLE, 3, OMEGA, ignore_spin_orbit=True)
    assert triplet.states == 1
    np.testing.assert_array_equal(triplet.epsilon, [0.046875])
    np.testing.assert_array_equal(triplet.linear[:, 0, 0], [9.375e-4, 0.0, 0.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("V0.txt", "V0.txt"), "no spin–orbit coupling, but line 22 couples spins"),
        (("1   1     8", "1   4     8"), r"states from 1 to 3, but line 11 names \[4\]"),
        (("1   1   2     9", "1   2   2     9"), r"\(different\) states from 1 to 3, but line 18"),
        (("1   1     8", "1   1     6"), "positive frequency, but line 11 couples mode 6"),
        (("1   1     8", "1   1    10"), "positive frequency, but line 11 couples mode 10 of 9"),
        (("6.25000e-03", "6.25x"), "hold numbers there, but line 12"),
        (("1   1     8  1.25", "1   1.5   8  1.25"), "3 indices and a value in `kappa`, but line 11"),
        (("lambda\n3", "gama\n3"), "line 16 is `gama`. Did you mean `gamma`"),
        (
            ("lambda\n3", "gamma\n1\n 1 1 1 7 7 0.001\nlambda\n3"),
            r"linear .* line 18 holds a quadratic term \(`gamma`\)",
        ),
        (("epsilon\n4", "epsilon\n400"), "have 400 lines in `epsilon`"),
        (("3 0 1", ""), "hold numbers there, but line 3"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(tmp_path, change, message):
    text = EXAMPLE.read_text()
    assert change[0] in text
    path = tmp_path / "LVC.template"
    path.write_text(text.replace(*change))
    with pytest.raises(InputError, match=message):
        read_lvc(path, frequencies=OMEGA)


def test_missing_files_and_multiplicities_are_refused(tmp_path):
    with pytest.raises(InputError, match="be a file"):
        read_lvc(tmp_path / "none")
    with pytest.raises(InputError, match=r"lie beside its V0\.txt.*call `read_lvc` with `frequencies`"):
        read_lvc(EXAMPLE)
    with pytest.raises(InputError, match="`multiplicity` must have states, but it is 2"):
        read_lvc(EXAMPLE, 2, OMEGA)
    with pytest.raises(InputError, match="none imaginary"):
        read_lvc(EXAMPLE, 1, -OMEGA)


@every
def test_other_shapes_are_refused_and_the_dtype_is_kept(name):
    potential, x = MODELS[name]
    x = jnp.asarray(x)
    for wrong in (jnp.concatenate([x, x]), jnp.concatenate([x, x], axis=1)[:, :3]):
        with pytest.raises(InputError, match="its shape is"):
            potential.partition(edges(wrong))
    single = potential.partition(edges(x.astype(jnp.float32)))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, potential.partition(edges(x)), atol=1e-6)  # float32 of numbers near 1


def test_parameters_out_of_range_are_refused():
    with pytest.raises(InputError, match="`rate` must be positive"):
        SpinBoson(rate=0.0)
    with pytest.raises(InputError, match="`modes` must be positive"):
        SpinBoson(modes=0)
    with pytest.raises(InputError, match="`coupling` must be finite"):
        JahnTeller(math.inf)
    with pytest.raises(InputError, match="`frequencies` must be positive"):
        LinearVibronicCoupling([0.0], [0.0, 1.0], np.zeros((1, 2, 2)))
    with pytest.raises(InputError, match="`linear` must be symmetric"):
        LinearVibronicCoupling([1.0], [0.0, 1.0], [[[0.0, 1.0], [0.0, 0.0]]])
