"""Individual masses by rescaling to one reference mass, x = M₁^{1/2} M^{-1/2} x′: (5.23), (5.24), standard form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import surfaces
from jaxmd_iz.integrators import VelocityVerlet, trajectory
from jaxmd_iz.potentials.base import FromFunction, matrix_partition
from jaxmd_iz.potentials.conical import LepsH3
from jaxmd_iz.potentials.diabatic import Gaussian, TwoStateFluid
from jaxmd_iz.potentials.pair import LennardJones
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.system import System

LATTICE = np.stack(np.meshgrid([0.3, 1.5], [0.3, 1.55], [0.3, 1.45]), -1).reshape(-1, 3)[:5]
BASE = LennardJones(1.0, 1.0, 1.7, "force_shift")
FLUID = TwoStateFluid(BASE, Gaussian(0.8, 0.5, 1.1), Gaussian(0.6, 0.5, 1.2), 0.8, 5)
TRIANGLE = np.array([[0.0, 0.1], [1.7, 0.0], [0.5, 2.1]])


def vibronic(x):
    """Two complex states that depend on absolute positions: Vⁿ = diag(½|xⁿ|², 0.3|xⁿ|² + ½) with a linear coupling."""
    r2 = jnp.sum(x**2, axis=1)
    level = jnp.stack([0.5 * r2, 0.3 * r2 + 0.5], axis=-1).astype(complex)
    up = jax.lax.complex(0.2 + 0.3 * x[:, 0], 0.2 * x[:, 1])
    return level[:, :, None] * jnp.eye(2)[None].astype(complex) + jnp.stack(
        [jnp.stack([jnp.zeros_like(up), up], -1), jnp.stack([up.conj(), jnp.zeros_like(up)], -1)], -2
    )


COMPLEX = FromFunction(vibronic, states=2, complex=True)
PAIR = np.array([[0.4, -0.2], [-0.5, 0.6]])
CASES = {  # potential, space, positions, masses, speed, time step
    "fluid": (FLUID, Periodic([3.4, 3.5, 3.6]), LATTICE, [2.0, 5.0, 1.0, 8.0, 3.0], 0.8, 0.004),
    "H3": (LepsH3(), Free(2), TRIANGLE, [1837.0, 3670.0, 5497.0], 5e-3, 4.0),
    "complex": (COMPLEX, Free(2), PAIR, [3.0, 20.0], 0.6, 0.01),
}


def rescaled(potential, space, masses):
    """The system in x′, where every particle has the mass M₁ = masses[0], and the factors x/x′."""
    factors = jnp.sqrt(masses[0] / masses)[:, None]
    species = jnp.zeros(masses.shape, int)

    def partition(x):
        return matrix_partition(potential, space.edges(factors * x, species))

    inner = FromFunction(partition, states=potential.states, complex=potential.complex)
    return System(inner, Free(space.dimensions), jnp.full_like(masses, masses[0])), factors


def error(value, expected):
    return np.max(np.abs(value - expected)) / np.max(np.abs(expected))


@pytest.mark.parametrize("name", CASES)
def test_individual_masses_are_one_mass_in_rescaled_coordinates(name):
    potential, space, x, masses, speed, step = CASES[name]
    x, m, steps = jnp.asarray(x), jnp.asarray(masses), 60
    p = m[:, None] * jnp.asarray(speed * np.random.default_rng(0).normal(size=x.shape))
    direct, (equal, factors) = System(potential, space, m), rescaled(potential, space, m)
    short = step / np.sqrt(masses[0])  # τ = M₁^{-1/2} t
    root, one = jnp.sqrt(m)[:, None], jnp.ones_like(m)

    @jax.jit
    def run(state):
        def original(step, scale, m, p):
            return trajectory(VelocityVerlet(step), lambda x: scale * direct.force(x, state), m, x, p, steps)

        # ẋ = M⁻¹p, ṗ = −∇λ̄; and (5.24): ẋ = p̄, dp̄/dτ = −M₁M⁻¹∇λ̄, with p̄ = M₁^{1/2}M⁻¹p
        turn = jnp.sqrt(m[0]) / m[:, None]
        forms = [(jnp.asarray(step), one[:, None], m, p), (jnp.asarray(short), factors**2, one, turn * p)]
        xs, ps = jax.vmap(original)(*map(jnp.stack, zip(*forms, strict=True)))
        # (5.23): ẋ′ = p′, ṗ′ = −∇_{x′}λ̄(M₁^{1/2}M^{-1/2}x′), with p′ = M^{-1/2}p
        y, q = trajectory(VelocityVerlet(short), lambda y: equal.force(y, state), one, x / factors, p / root, steps)
        return (xs[0], ps[0]), (xs[1], ps[1] / turn), (factors * y, root * q)

    @jax.jit
    def energies():
        both = ((direct, x), (equal, x / factors))
        corrected = [surfaces.partition(s.potential, s.edges(at), s.masses, "paper") for s, at in both]
        return *corrected, surfaces.partition(potential, direct.edges(x), m, "none")

    # sixty steps without instability: rounding with three digits to spare
    for state in range(potential.states):
        (xs, ps), *others = jax.tree.map(np.asarray, run(jnp.asarray(state)))
        for y, q in others:
            assert error(y, xs) <= 1e-12
            assert error(q, ps) <= 1e-12
        assert error(np.asarray(x), xs) > 0.1  # it moved, and was pushed
        assert error(np.asarray(p), ps) > 0.01
    whole, same, plain = map(np.asarray, energies())
    assert error(same, whole) <= 1e-14  # λ̄ⁿ with M_n is λ̄ⁿ with M₁ in x′
    assert error(plain, whole) > 1e-5  # where the correction is felt
