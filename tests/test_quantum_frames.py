"""The adiabatic frame: Ψ*#H#Ψ with all its terms (5.1), H̄ of (5.5), and the remainders of (5.8), (5.14), (5.15)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz.checks import InputError
from jaxmd_iz.quantum import conservation as co
from jaxmd_iz.quantum import densities as de
from jaxmd_iz.quantum import frames, weyl
from jaxmd_iz.quantum.grid import Grid
from jaxmd_iz.quantum.spectrum import Mixture, evolved, gibbs, mixture, spectrum

HBAR = 0.1
LINE = Grid((-4.5,), (4.5,), (241,), HBAR, 1.3)  # packets weigh e^{−60} at the edges; momenta up to 8.7
ETA = de.Gaussian(jnp.array(0.5))
Y = jnp.linspace(-2.0, 2.0, 16)[:, None]


def real_two(x):
    """¼(x − ½)⁴ I + [[x, ½], [½, −x]]: gap 1 at x = 0."""
    tilt, even = jnp.diag(jnp.array([1.0, -1.0])), jnp.array([[0.0, 0.5], [0.5, 0.0]])
    return 0.25 * (x[0] - 0.5) ** 4 * jnp.eye(2) + x[0] * tilt + even


def complex_three(x):
    a = jnp.array([[0.0, 0.3j, 0.2], [-0.3j, 1.5, 0.4 + 0.3j], [0.2, 0.4 - 0.3j, 3.0]])
    b = jnp.array([[0.3, 0.5, 0.2 - 0.5j], [0.5, -0.4, 0.1], [0.2 + 0.5j, 0.1, 0.9]])
    return a + jnp.sin(1.3 * x[0]).astype(complex) * b


def plane_two(x):
    """Levels that nowhere meet: the diagonal part is positive."""
    a, b = 1.5 + 0.3 * jnp.sin(x[0]) * jnp.cos(0.7 * x[1]), 0.4 * jnp.sin(0.7 * x[0] + 0.9 * x[1])
    return jnp.stack([jnp.stack([a, b]), jnp.stack([b, -a])]) + 0.2 * jnp.sum(x**2) * jnp.eye(2)


def trap(x):
    return 0.5 * jnp.sum(x**2)


def packets(grid, d):
    x, h = np.asarray(grid.x), float(grid.hbar)
    found = []
    for at, p, s in ((0.3, 1.0, (1.0, 0.5j, -0.3)), (-0.4, -0.7, (0.3, 1.0, 0.8j))):
        phi = np.exp(-np.sum((x - at) ** 2, axis=1) / (2 * h) + 1j * p * np.sum(x, axis=1) / h)
        found.append(phi[:, None] * np.array(s)[None, :d])
    return jnp.asarray(np.stack(found, axis=-1))


def relative(one, two):
    return float(jnp.max(jnp.abs(one - two)) / jnp.max(jnp.abs(two)))


@pytest.mark.parametrize(
    ("potential", "grid", "accuracy"),
    [
        (real_two, LINE, 1e-13),
        (complex_three, LINE, 1e-13),
        (lambda x: jnp.real(complex_three(x)), LINE, 1e-13),
        # packets are 2e-12 at the edges
        (plane_two, Grid((-5.5, -5.5), (5.5, 5.5), (55, 55), 0.5, (1.0, 1.7)), 1e-10),
    ],
    ids=["real 2", "complex 3", "real 3", "plane"],
)
def test_all_terms_of_the_transformed_hamiltonian(potential, grid, accuracy):
    """Op(Ψ*#H#Ψ) = Ψ*ĤΨ on packets that vanish at the edges."""
    v = jax.vmap(potential)(grid.x)
    frame = frames.smooth_frame(grid, potential)
    psi = np.asarray(frame.psi)
    levels = np.einsum("xak,xab,xbl->xkl", psi.conj(), v, psi)
    np.testing.assert_allclose(levels, np.linalg.eigvalsh(v)[:, :, None] * np.eye(v.shape[-1]), atol=1e-12)
    phi = packets(grid, v.shape[-1])
    exact = frames.InFrame(frame, de.Hamiltonian(grid, v))(phi)
    terms = frames.transformed_hamiltonian(frame, v)
    assert relative(weyl.apply_polynomial(grid, terms, phi), exact) < accuracy
    once = {k: a for k, a in terms.items() if sum(k) != 1}
    zero = (0,) * grid.coordinates
    quarter = sum(
        (-(grid.hbar**2) / (4 * grid.masses[c])).astype(complex) * (d.conj().swapaxes(1, 2) @ d)
        for c, d in enumerate(jnp.moveaxis(frame.coupling, 1, 0).astype(complex))
    )
    # as printed, and with either of its two faults: the first-order term is the larger one by far
    both, first, second = (
        relative(weyl.apply_polynomial(grid, wrong, phi), exact)
        for wrong in ({**once, zero: terms[zero] + quarter}, once, {**terms, zero: terms[zero] + quarter})
    )
    assert min(both, first) > 5e-3 and second > 1e-4


def test_frame_is_parallel_transported():
    """⟨ψ_k, ψ_k′⟩ = 0 by differences of eighth order, and D = Ψ*Ψ′; a frame of another phase has no such D."""
    grid = Grid((-2.0,), (2.0,), (401,), HBAR)
    frame = frames.smooth_frame(grid, complex_three)
    psi = np.asarray(frame.psi)
    slope = sum(
        c * (psi[4 + k : 397 + k] - psi[4 - k : 397 - k])
        for k, c in ((1, 4 / 5), (2, -1 / 5), (3, 4 / 105), (4, -1 / 280))
    )
    found = psi[4:397].conj().swapaxes(1, 2) @ slope / grid.steps[0]
    np.testing.assert_allclose(found, frame.coupling[4:397, 0], atol=1e-11)  # rounding/h = 1e-13, h⁸/630 Ψ⁽⁹⁾ = 1e-12
    assert np.max(np.abs(frame.coupling)) > 0.1


def test_diagonal_hamiltonian():
    """(5.5): λ_k + κħ²|∇α|²/4m for two real states; orders in ħ² against Ψ*#H#Ψ for three complex ones."""
    x = np.asarray(LINE.x)[:, 0]
    r = np.sqrt(x**2 + 0.25)
    turn = 0.5 / r**2  # |α′|
    for kappa in (0.0, 0.25):
        of = frames.adiabatic_energies(LINE, lambda x: real_two(x)[None], trap, kappa)
        extra = kappa * HBAR**2 * turn**2 / (4 * 1.3)
        exact = 0.25 * (x - 0.5) ** 4 + np.stack([-r, r]) + extra + 0.5 * x**2
        h = frames.diagonal_hamiltonian(of)
        np.testing.assert_allclose(h[0,], exact.T[:, :, None] * np.eye(2), atol=1e-12)
        np.testing.assert_allclose(h[2,], np.broadcast_to(np.eye(2) / 2.6, (241, 2, 2)), rtol=1e-15)
        up = (x - 0.5) ** 3 + np.stack([-x / r, x / r]) - 4 * extra * x / r**2
        np.testing.assert_allclose(of.gradient[:, 0, 0], up.T[:, :, None] * np.eye(2), atol=1e-11)
        np.testing.assert_allclose(of.external_gradient[:, 0], x, rtol=1e-14)
    errors = []
    for hbar in (0.2, 0.1):
        grid = Grid((-3.0,), (3.0,), (241,), hbar)
        partition = frames.corrected(grid, lambda x: complex_three(x)[None], 0.5)
        w = jax.vmap(partition)(grid.x)[:, 0]
        of = frames.adiabatic_energies(grid, lambda x: complex_three(x)[None], None, 0.5)
        np.testing.assert_allclose(np.einsum("xkk->xk", of.v), np.linalg.eigvalsh(w), atol=1e-13)
        frame = frames.smooth_frame(grid, lambda x: complex_three(x))
        whole = frames.transformed_hamiltonian(frame, jax.vmap(complex_three)(grid.x))[0,]
        errors.append(np.max(np.abs(np.einsum("xkk->xk", whole - of.v.astype(complex)))))
    assert 3.7 < math.log2(errors[0] / errors[1]) < 4.3  # second order of perturbation theory in ħ²


def test_energies_of_two_particles_add_up():
    """Σ_n Λ̄ⁿ = Λ̄ (5.6), with the share κħ²/m_n of each particle."""
    grid = Grid((-2.0, -2.0), (2.0, 2.0), (5, 7), 0.3, (1.0, 2.7))

    def partition(x):
        v = complex_three(x[:1] - 0.5 * x[1:])
        share = (0.3 + 0.2 * jnp.tanh(x[1])).astype(complex)
        return jnp.stack([share * v, (1 - share) * v])

    of = frames.adiabatic_energies(grid, partition, None, 0.25)
    w = jax.vmap(frames.corrected(grid, partition, 0.25))(grid.x)
    np.testing.assert_allclose(np.einsum("xnkk->xk", of.e), np.linalg.eigvalsh(np.sum(w, axis=1)), atol=1e-13)
    v = jax.vmap(partition)(grid.x)
    own = np.einsum("xnaa->xn", np.asarray(w - v)).real  # κħ²/m_n |D_n|², and V turns by x⁰ twice as fast as by x¹
    np.testing.assert_allclose(own[:, 0] / own[:, 1], 4 * 2.7, rtol=1e-9)


def padded(f, count):
    """The `count` states of the largest weights, or states of weight 0 besides: one shape for all masses."""
    order = np.argsort(-np.abs(np.asarray(f.weights)))[:count]
    rest = count - len(order)
    vectors = np.pad(np.asarray(f.vectors)[:, :, order].astype(complex), ((0, 0), (0, 0), (0, rest)))
    return Mixture(f.grid, jnp.asarray(vectors), jnp.asarray(np.pad(np.asarray(f.weights)[order], (0, rest))))


def pushed_symbol(x, p):
    """exp −(|p|²/2 + λ_k + x/2), diagonal, for T = 1; e¹ against underflow of the weights."""
    r = jnp.sqrt(x**2 + 0.25)
    energy = 0.5 * p**2 + 0.25 * (x - 0.5) ** 4 + 0.5 * x - 1.0 + jnp.concatenate([-r, r], axis=-1)
    return jnp.exp(-energy)[..., None] * jnp.eye(2)[None, None]


def test_remainders_in_the_adiabatic_and_the_diabatic_frame():
    """(5.8), (5.14), (5.15) at T = 1 and τ = 1.5 after a push: M⁻¹ where M^{−3/2} is printed, whatever κ is.

    From a diagonal symbol the energy law is off by M^{−1/2} at first: both states mix to order ħ within τ ≈ ħ/gap, and
    only dephasing makes what they exchange smaller. With p and V in the diabatic frame nothing remains.
    """
    masses, cases = np.array([30.0, 200.0]), [("operator", 0.0), ("operator", 0.25), ("operator", 0.5)]
    cases.append(("symbol", 0.25))
    found, early = {case: [] for case in cases}, []
    for m in masses:
        grid = Grid((-3.15,), (4.15,), (261,), m**-0.5)  # leaves out 1e-13 of the weight
        x = grid.x[:, :, None]
        v = jax.vmap(real_two)(grid.x)
        levels, pushed = spectrum(grid, v), spectrum(grid, v + 0.5 * x * jnp.eye(2)[None])
        frame = frames.smooth_frame(grid, real_two)
        symbol = mixture(grid, weyl.quantise(grid, pushed_symbol), 2, 1e-12)
        symbol = Mixture(grid, frames.out_of_frame(frame, symbol.vectors), symbol.weights)
        starts = {"operator": padded(gibbs(pushed, 1.0, 1e-12), 370), "symbol": padded(symbol, 370)}
        later = {name: evolved(levels, start, 1.5) for name, start in starts.items()}
        for name, kappa in cases:
            of = frames.adiabatic_energies(grid, lambda x: real_two(x)[None], None, kappa)
            terms = frames.adiabatic_law_terms(frame, later[name], v, of, Y, ETA.eta, ETA.bond)
            found[name, kappa].append(co.relative_residual(terms))
        start = evolved(levels, starts["symbol"], m**-0.5)  # with κ = ¼ still
        terms = frames.adiabatic_law_terms(frame, start, v, of, Y, ETA.eta, ETA.bond)
        early.append(float(jnp.max(jnp.abs(jnp.sum(terms[2], axis=0)))))
        of = co.energies(grid, lambda x: real_two(x)[None])
        exact = co.relative_residual(co.law_terms(later["operator"], of, Y, ETA.eta, ETA.bond))
        assert np.max(exact) < 1e-11  # rounding, and what is left out
    span = np.log(masses[1] / masses[0])
    for case, errors in found.items():
        np.testing.assert_allclose(np.log(errors[0] / errors[1]) / span, 1.0, atol=0.1, err_msg=str(case))
    assert np.log(early[0] / early[1]) / span == pytest.approx(0.5, abs=0.1)


def test_bad_input_is_refused_in_a_sentence():
    line = Grid((-1.0,), (1.0,), (21,))
    plane = Grid((-1.0, -1.0), (1.0, 1.0), (11, 11))

    def cone(x):
        return jnp.stack([jnp.stack([x[0], x[1]]), jnp.stack([x[1], -x[0]])]) + 0.03 * jnp.eye(2)[::-1]

    def swap(x):
        return (
            jnp.diag(jnp.array([1.0, -1.0, 40.0])) * (x[0] - 0.05)
            + 0.01 * jnp.ones((3, 3))
            + jnp.diag(jnp.array([0.0, 0.0, 9.0]))
        )

    cases = [
        (lambda: frames.smooth_frame(line, lambda x: x[0] * jnp.diag(jnp.array([1.0, -1.0]))), "potential", "distinct"),
        (lambda: frames.smooth_frame(line, lambda x: jnp.eye(3) * x[0]), "potential", "distinct"),
        (lambda: frames.smooth_frame(plane, cone), "grid", "not wind around a crossing"),
        (lambda: frames.smooth_frame(plane, lambda x: jnp.diag(jnp.arange(3.0)) * x[0]), "potential", "3 × 3"),
        (lambda: frames.smooth_frame(line, swap), "grid", "follow the eigenvectors"),
    ]
    for call, argument, words in cases:
        with pytest.raises(InputError, match=rf"Argument `{argument}` must .*{words}"):
            call()
