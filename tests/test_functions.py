"""Functions in jax-md's form are potentials: energies of all positions, and pair functions, which know their bonds."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmd_iz as iz
from jaxmd_iz.checks import InputError
from jaxmd_iz.interop import displacement_and_shift
from jaxmd_iz.pair_kernel import takes

EPS, SIGMA, CUT = 0.0104, 1.6, 2.4


def crystal():
    """A triclinic cell, eight shaken particles in it, and their masses."""
    cell = np.array([[5.4, 0.0, 0.0], [0.9, 5.2, 0.0], [-0.5, 0.7, 5.6]])
    grid = np.stack(np.meshgrid(*[[0.0, 0.5]] * 3, indexing="ij"), -1).reshape(-1, 3)
    shaken = grid + 0.07 * np.random.default_rng(0).normal(size=(8, 3))
    return iz.Periodic(cell), jnp.asarray(shaken @ cell), jnp.full(8, 40.0)


def test_functions_in_the_form_of_jax_md_are_potentials():
    _check_functions(_phi, _stand_in)


@pytest.mark.filterwarnings("ignore")
def test_functions_of_jax_md_are_potentials():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        jax_md = pytest.importorskip("jax_md", reason="jax-md, an optional peer, is not installed")

        def pairs(displacement, per_particle):
            metric = jax_md.space.canonicalize_displacement_or_metric(displacement)
            return jax_md.smap.pair(_cut, metric, reduce_axis=(1,) if per_particle else None)

        eps = jnp.asarray(EPS, float)  # a Python number would be rounded to float32 there
        _check_functions(lambda r: jax_md.energy.lennard_jones(r, SIGMA, eps), pairs)


def _phi(r):
    return 4 * EPS * ((SIGMA / r) ** 12 - (SIGMA / r) ** 6)


def _cut(r, **_):
    return jnp.where(r < CUT, _phi(jnp.where(r < 0.1, 1.0, r)), 0.0)


def _stand_in(displacement, per_particle):
    """What `jax_md.smap.pair` makes: all pairs by a displacement of two points."""

    def energy(x):
        d = jax.vmap(jax.vmap(displacement, (None, 0)), (0, None))(x, x)
        own = jnp.eye(len(x), dtype=bool)
        r = jnp.sqrt(jnp.where(own, 1.0, jnp.sum(d**2, axis=-1)))
        each = jnp.sum(jnp.where(own, 0.0, _cut(r)), axis=1) / 2
        return each if per_particle else jnp.sum(each)

    return energy


def _check_functions(phi, pairs):
    space, at, masses = crystal()
    displacement, shift = displacement_and_shift(space)
    known = iz.LennardJones(epsilon=EPS, sigma=SIGMA, cutoff=CUT)
    from_pair = iz.PairFunction(phi, CUT)
    each, total = (iz.from_jax_md(pairs(displacement, w), evenly=not w) for w in (True, False))
    systems = [iz.System(p, space, masses) for p in (known, from_pair, each, total)]
    x = shift(at, 3.0 * jnp.ones_like(at))
    inside = x @ np.linalg.inv(space.matrix)
    assert (inside >= 0).all() and (inside < 1).all()
    found = [eqx.filter_jit(lambda s, x: s.surface(x, 0))(s, x) for s in systems]
    for other in found[1:]:
        np.testing.assert_allclose(other.gradient, found[0].gradient, rtol=1e-10, atol=1e-15)
    for other in found[1:3]:
        np.testing.assert_allclose(other.energy, found[0].energy, rtol=1e-12)
    np.testing.assert_allclose(found[3].energy, np.full(8, found[0].energy.mean()), rtol=1e-12)
    with pytest.raises(InputError, match="`evenly=True`"):
        iz.System(iz.from_jax_md(pairs(displacement, False)), space, masses).levels(x)


class Soft(eqx.Module):
    strength: jax.Array

    def __call__(self, r):
        return self.strength * (1 - r / CUT) ** 3


def test_functions_stay_out_of_kernels_for_gpus():
    table = jnp.linspace(1.0, 0.0, 50)  # closed over, and interpolated: no kernel takes it
    potential = iz.PairFunction(lambda r: EPS * jnp.interp(r, jnp.linspace(0.0, CUT, 50), table), CUT)
    assert not takes(potential) and takes(iz.LennardJones(EPS, SIGMA, CUT))
    space, at, masses = crystal()
    system = iz.System(potential, space, masses)
    forces = jax.vmap(lambda x: system.force(x, 0))(at[None])
    np.testing.assert_allclose(forces.sum(axis=1), np.zeros((1, 3)), atol=1e-15)
    assert jnp.abs(forces).max() > 1e-3


def test_parameters_of_a_pair_function_have_gradients():
    space, at, masses = crystal()

    def pull(strength):
        system = iz.System(iz.PairFunction(Soft(strength), CUT), space, masses)
        return jnp.sum(system.force(at, 0)[0] ** 2)

    both = jax.jit(jax.value_and_grad(pull))
    values = [both(jnp.asarray(s))[0] for s in (0.3001, 0.2999)]
    np.testing.assert_allclose(both(jnp.asarray(0.3))[1], (values[0] - values[1]) / 2e-4, rtol=1e-6)


def test_a_function_of_positions_has_no_pressure():
    """A strain of the cell does not reach it; the same bonds as a pair potential have one."""
    space, x, masses = crystal()
    potential = iz.FromFunction(lambda x: jnp.zeros(x.shape[0], x.dtype))
    grid = iz.Grid(x[:1], iz.Polynomial(1.0, 3))
    density, key = iz.Canonical(1.0), jax.random.key(0)
    run = iz.simulate(iz.System(potential, space, masses), density, grid, x[None], p=0 * x[None] + 1.0, key=key)
    assert run.pressure is None
