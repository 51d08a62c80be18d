"""Charts of Ψ around a conical intersection, transport along paths, Berry phases.

Vectors are of length 1 and made of a handful of operations: 1e-13 is rounding with three digits to spare.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import eigen, surfaces
from jaxmd_iz.checks import InputError
from jaxmd_iz.geometric_phase import (
    CHARTS,
    berry_phase,
    chart_of,
    eigenvectors_in_chart,
    follow,
    loop_phase,
    mixing_angle,
    smooth_frame,
)
from jaxmd_iz.potentials.adiabatic import Lowest
from jaxmd_iz.potentials.base import FromFunction
from jaxmd_iz.potentials.conical import LepsH3
from jaxmd_iz.space import Free

ROUNDING = 1e-13
PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
REAL = jnp.asarray(PAULI[[2, 0]].real)  # ṽ and v₁₂
SLOPE = 0.7  # of the cone: k of E×e


def jahn_teller(x):
    """½ρ² I + k [[x, y], [y, −x]]."""
    return 0.5 * jnp.sum(x**2) * jnp.eye(2)[None] + SLOPE * jnp.einsum("nc,cij->nij", x, REAL)


def renner_teller(x):
    """An intersection around which α turns twice: [[x² − y², 2xy], [2xy, y² − x²]]."""
    return jnp.einsum("nc,cij->nij", jnp.stack([x[:, 0] ** 2 - x[:, 1] ** 2, 2 * x[:, 0] * x[:, 1]], -1), REAL)


def spin(x):
    """x·σ of spin ½ in the field x."""
    return jnp.einsum("nc,cij->nij", x.astype(complex), jnp.asarray(PAULI))


def embedded(d):
    """E×e in complex numbers, in another electron basis, with a third state above if d = 3."""
    basis = jnp.asarray(np.linalg.qr(np.random.default_rng(3).normal(size=(d, d, 2)) @ [1, 1j])[0])

    def function(x):
        v = (50.0 * jnp.eye(d)).at[:2, :2].set(jahn_teller(x)[0]).astype(complex)
        return (basis @ v @ basis.conj().T)[None]

    return FromFunction(function, states=d, complex=True)


JAHN_TELLER = FromFunction(jahn_teller, states=2)
EMBEDDED = embedded(2)
SPIN = FromFunction(spin, states=2, complex=True)


def circle(count, radius=1.0, centre=(0.0, 0.0)):
    """`count` configurations of one particle on a circle, (count, 1, 2)."""
    angle = 2 * np.pi * np.arange(count) / count
    return jnp.asarray(radius * np.stack([np.cos(angle), np.sin(angle)], -1)[:, None] + np.asarray(centre))


def triangles(count, radius, uneven=0.0):
    """Triangles with sides 2 + radius cos(θ + 120° i), one of them longer by `uneven`: (count, 3, 2)."""
    angle = 2 * np.pi * np.arange(count)[:, None] / count + 2 * np.pi * np.arange(3) / 3
    ab, bc, ac = (2.0 + radius * np.cos(angle) + [uneven, 0.0, 0.0]).T
    x = (ab**2 + ac**2 - bc**2) / (2 * ab)
    zero = np.zeros(count)
    corners = [(zero, zero), (ab, zero), (x, np.sqrt(ac**2 - x**2))]
    return jnp.asarray(np.stack([np.stack(c, -1) for c in corners], axis=1))


def edges(x):
    return Free(2).edges(x, jnp.zeros(1, int))


def error(value, expected):
    return np.max(np.abs(np.asarray(value) - np.asarray(expected)))


# --- charts -------------------------------------------------------------------------------------------------------

ANGLES = np.linspace(-np.pi, np.pi, 13)[1:]  # with both cuts, 0 and π, among them
V = (
    jnp.einsum("lc,cij->lij", jnp.asarray(np.stack([np.cos(ANGLES), np.sin(ANGLES)], -1)), REAL)
    + 0.3 * jnp.eye(2)[None]
)


def test_charts_diagonalise_and_differ_by_a_sign_on_one_side():
    frames = [np.asarray(eigenvectors_in_chart(V, c)) for c in CHARTS]
    for c, psi in zip(CHARTS, frames, strict=True):
        assert error(np.einsum("lia,lij,ljb->lab", psi, V, psi), np.diag([-0.7, 1.3])[None]) <= ROUNDING
        alpha = np.asarray(mixing_angle(V, c))
        assert error(np.cos(alpha), np.cos(ANGLES)) <= ROUNDING
        assert error(np.sin(alpha), np.sin(ANGLES)) <= ROUNDING
    above, below = V[:, 0, 1] > 1e-9, V[:, 0, 1] < -1e-9
    # transition functions +1 and −1: no frame is continuous all around
    assert error(frames[0][above], frames[1][above]) <= ROUNDING
    assert error(frames[0][below], -frames[1][below]) <= ROUNDING
    assert np.sum(above) == np.sum(below) == 5


@pytest.mark.parametrize("chart", CHARTS)
def test_frame_turns_by_half_the_angle_in_every_chart(chart):
    def of(x, function):
        return function(jnp.sum(jahn_teller(x), axis=0), chart)

    @jax.vmap
    def both(x):
        turn = jax.jacfwd(of)(x, eigenvectors_in_chart)[..., 0, :]
        return jnp.einsum("laD,lbD->ab", turn, turn), jax.grad(of)(x, mixing_angle)[0]

    points = circle(12, 0.4)  # the cut of the other chart is among them
    off_cut = np.asarray(chart_of(jax.vmap(jahn_teller)(points)[:, 0])) == chart
    square, slope = (np.asarray(a)[off_cut] for a in jax.jit(both)(points))
    x, y = np.asarray(points)[off_cut, 0].T
    assert error(slope, np.stack([-y, x], -1) / 0.16) <= 10 * ROUNDING  # ∇α = (ṽ∇v₁₂ − v₁₂∇ṽ)/r²
    # (5.27): ∇Ψ*·∇Ψ = ¼|∇α|² I
    assert error(square, np.eye(2)[None] / (4 * 0.16)) <= 10 * ROUNDING
    assert len(square) >= 5


def test_correction_of_the_surface_is_the_square_of_the_angle():
    mass = jnp.array([0.05])

    @jax.jit
    @jax.vmap
    def look(x):
        e = edges(x)
        levels = {
            name: [surfaces.levels(p, e, mass, c) for c in ("none", "paper")]
            for name, p in (("closed", JAHN_TELLER), ("general", EMBEDDED))
        }
        slopes = [jax.grad(lambda x, c=c: mixing_angle(jahn_teller(x)[0], c))(x) for c in CHARTS]
        return {k: paper - none for k, (none, paper) in levels.items()}, [jnp.sum(s**2) for s in slopes]

    for radius in (0.3, 1.0):
        shifts, squares = jax.tree.map(np.asarray, look(circle(7, radius, (1e-3, 0.0))))
        x = np.asarray(circle(7, radius, (1e-3, 0.0)))
        expected = 1 / (16 * 0.05 * np.sum(x**2, axis=(1, 2)))  # |∇α| = 1/ρ
        for square in squares:
            np.testing.assert_allclose(square / (16 * 0.05), expected, rtol=1e-14)
        # differences of levels of the same size as the shift: (5.28) through the closed and the general form
        np.testing.assert_allclose(shifts["closed"], np.stack([expected] * 2, -1), rtol=1e-13)
        np.testing.assert_allclose(shifts["general"], np.stack([expected] * 2, -1), rtol=1e-12)


# --- frames along paths -------------------------------------------------------------------------------------------


def matrices(potential, points):
    return jax.vmap(lambda x: jnp.sum(potential.function(x), axis=0))(points)


@pytest.mark.parametrize("potential", [JAHN_TELLER, EMBEDDED], ids=["real", "complex"])
def test_transport_is_parallel_and_closes_with_the_loop_phase(potential):
    vs = matrices(potential, jnp.concatenate([circle(40), circle(40)[:1]]))
    psi = np.asarray(jax.jit(follow)(vs))
    energies = np.einsum("lia,lij,ljb->lab", psi.conj(), vs, psi)
    assert error(energies, [np.diag(np.linalg.eigvalsh(v)) for v in vs]) <= 10 * ROUNDING
    overlap = np.einsum("lia,lia->la", psi[:-1].conj(), psi[1:])
    assert np.max(np.abs(overlap.imag)) <= ROUNDING
    assert np.min(overlap.real) > 0.9
    closing = np.einsum("ia,ia->a", psi[0].conj(), psi[-1])
    phase = np.asarray(loop_phase(jnp.asarray(psi[:-1])))
    assert error(closing, np.exp(1j * phase)) <= ROUNDING
    assert error(closing, [-1.0, -1.0]) <= ROUNDING
    # another start gives other phases, and nothing else
    turn = np.exp(1j * np.arange(1, len(phase) + 1)) if np.iscomplexobj(psi) else np.array([1.0, -1.0])
    assert error(jax.jit(follow)(vs, jnp.asarray(psi[0] * turn)), psi * turn) <= ROUNDING


@pytest.mark.parametrize("potential", [JAHN_TELLER, EMBEDDED], ids=["real", "complex"])
def test_smooth_frame_has_the_couplings_for_slopes(potential):
    @jax.jit
    def look(x, cuts):
        near = eigen.eigh(potential.function(x)[0])[1]

        def frame(x):
            return smooth_frame(potential.function(x)[0], near)

        return near, frame(x), jax.jacfwd(frame)(x), jax.vmap(frame)(cuts), surfaces.couplings(potential, edges(x))

    cuts = jnp.array([[[1.0, 1e-9]], [[1.0, -1e-9]], [[-1.0, 1e-9]], [[-1.0, -1e-9]]])
    near, psi, slope, frames, expected = map(np.asarray, look(jnp.array([[0.2, -0.31]]), cuts))
    assert error(psi, near) <= ROUNDING
    # D_lk = ⟨ψ_l, ∇ψ_k⟩, D_kk = 0, of order 1/ρ
    assert error(np.einsum("il,iknD->lknD", near.conj(), slope), expected) <= 100 * ROUNDING
    # continuous across the cuts of both charts, where eigenvectors in one chart jump
    assert error(frames[::2], frames[1::2]) <= 1e-8


def test_loop_phase_does_not_depend_on_the_phases_of_the_vectors():
    vs = matrices(SPIN, jnp.concatenate([circle(20), jnp.full((20, 1, 1), 0.6)], -1))
    psi = np.linalg.eigh(vs)[1]
    turned = psi * np.exp(2j * np.pi * np.random.default_rng(0).uniform(size=(20, 1, 2)))
    assert error(loop_phase(jnp.asarray(turned)), loop_phase(jnp.asarray(psi))) <= ROUNDING
    assert error(loop_phase(jnp.asarray(psi[::-1])), -loop_phase(jnp.asarray(psi))) <= ROUNDING  # backwards


# --- Berry phases -------------------------------------------------------------------------------------------------

H3 = LepsH3()


@pytest.mark.parametrize(
    ("potential", "loop", "phase"),
    [
        (JAHN_TELLER, circle(70), np.pi),  # more than one batch
        (JAHN_TELLER, circle(12, 1.0, (0.5, 0.5)), np.pi),
        (JAHN_TELLER, circle(12, 1.0, (1.5, 0.0)), 0.0),
        (FromFunction(renner_teller, states=2), circle(24), 0.0),  # α turns twice
        (H3, triangles(24, 0.3), np.pi),
        (H3, triangles(24, 0.3, uneven=0.4), np.pi),  # off centre by 0.27
        (H3, triangles(24, 0.3, uneven=0.6), 0.0),  # by 0.4: equal sides lie outside
    ],
    ids=["cone", "off centre", "beside", "double", "H3", "H3 off centre", "H3 beside"],
)
def test_berry_phase_counts_the_intersections_inside(potential, loop, phase):
    assert np.array_equal(berry_phase(potential, loop, Free(2)), [phase, phase])


def test_berry_phase_of_a_cone_among_three_complex_states_is_that_of_the_cone():
    got = np.asarray(berry_phase(embedded(3), circle(12), Free(2)))
    assert error(np.exp(1j * got), [-1.0, -1.0, 1.0]) <= ROUNDING
    assert np.all((-np.pi < got) & (got <= np.pi))


def polygon(tilt, count):
    """Solid angle of the polygon of great circles through `count` even points at the polar angle `tilt`."""
    t, a = jnp.tan(tilt / 2) ** 2, 2 * np.pi / count
    return 2 * count * jnp.arctan2(t * jnp.sin(a), 1 + t * jnp.cos(a))


def test_berry_phase_of_a_spin_is_half_the_solid_angle():
    def phase(tilt, count):
        angle = jnp.asarray(2 * np.pi * np.arange(count) / count)
        ring = jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1) * jnp.sin(tilt)
        field = jnp.concatenate([ring, jnp.full((count, 1), jnp.cos(tilt))], axis=-1)
        return berry_phase(SPIN, 1.7 * field[:, None, :], Free(3))

    tilt = jnp.asarray(1.1)
    for count in (12, 48):
        value, slope = jax.jit(lambda t, c=count: (phase(t, c), jax.jacrev(phase)(t, c)))(tilt)
        # along the field −Ω/2, against it +Ω/2, Ω of the polygon: exactly
        assert error(value, np.array([0.5, -0.5]) * polygon(tilt, count)) <= 10 * ROUNDING
        assert error(slope, np.array([0.5, -0.5]) * jax.grad(polygon)(tilt, count)) <= 1e-11  # sum of `count` terms
    # and to second order that of the cone, 2π(1 − cos θ): π² sin²θ cos θ/(3L²)·… < 4/L²
    assert error(value, np.array([1, -1]) * np.pi * (1 - np.cos(1.1))) < 4 / 48**2


def test_berry_phase_takes_a_moving_basis_along():
    adiabatic = Lowest(FromFunction(jahn_teller, states=2), 2)  # V is diagonal in it, the basis turns
    assert error(berry_phase(adiabatic, circle(12), Free(2)), np.pi) <= ROUNDING
    assert error(berry_phase(adiabatic, circle(12, 1.0, (1.5, 0.0)), Free(2)), 0.0) <= ROUNDING


def test_loops_without_a_phase_are_refused():
    flat = np.array([[1e-9, 1.0, 1e-3], [1e-9, -1.0, 1e-3], [1e-9, 0.5, 1e-3]])
    with pytest.raises(eqx.EquinoxRuntimeError, match="keeps at least half its overlap"):
        berry_phase(SPIN, jnp.asarray(flat)[:, None], Free(3))
    with pytest.raises(InputError, match=r"`loop` must hold at least three configurations, but it holds 2\.$"):
        berry_phase(SPIN, jnp.ones((2, 1, 3)), Free(3))
    with pytest.raises(InputError, match=r"`states` must be among 0 … 1, but they are \(2,\)\.$"):
        berry_phase(SPIN, jnp.ones((4, 1, 3)), Free(3), states=(2,))
    with pytest.raises(InputError, match=r"`v` must be a real 2 × 2 matrix, but it is float64, \(3, 3\)\.$"):
        mixing_angle(jnp.eye(3))
    with pytest.raises(InputError, match=r"`chart` must be 0 or 1, but it is 2\.$"):
        mixing_angle(jnp.eye(2), 2)
