"""The GPU kernel of pair sums: equal to the n × n form, run as plain operations here; and it lowers for CUDA."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmd_iz as iz
from jaxmd_iz import pair_kernel
from jaxmd_iz.pair_loop import _kernel_sums, _kernel_turns, _square, _square_turns, pair_sums

INTERPRETED = functools.partial(pair_kernel.tiled_sums, interpret=True)
N = 67  # more than one program, and no multiple of a tile
SPACES = {
    "free": iz.Free(3),
    "orthorhombic": iz.Periodic([4.4, 4.6, 5.0]),
    "triclinic": iz.Periodic([[4.8, 0.0, 0.0], [0.9, 4.7, 0.0], [-0.6, 0.7, 4.9]]),
    "plane": iz.Periodic([9.0, 8.0]),
}


def _potential(states: int):
    base = iz.LennardJones(1.0, 1.0, cutoff=2.1, truncation="force_shift")
    return (
        base if states == 1 else iz.TwoStateFluid(base, iz.Gaussian(0.3, 0.3, 1.2), iz.Gaussian(0.2, 0.3, 1.1), 1.0, N)
    )


def _case(space, dtype, batch=2):
    rng = np.random.default_rng(3)
    dim = space.dimensions
    side = int(np.ceil(N ** (1 / dim)))
    sites = np.stack(np.meshgrid(*[np.arange(side)] * dim, indexing="ij"), -1).reshape(-1, dim)[:N]
    x = sites + rng.normal(scale=0.08, size=(batch, N, dim)) + 17.3  # some far outside the cell
    return jnp.asarray(x, dtype), jnp.asarray(rng.normal(size=(batch, N)), dtype)


@pytest.mark.parametrize("where", SPACES)
@pytest.mark.parametrize(("states", "weighted"), [(1, False), (2, True)])
def test_kernel_equals_the_square_form(where, states, weighted):
    space, potential = SPACES[where], _potential(states)
    x, b = _case(space, jnp.float64)
    b = b if weighted else None
    species = jnp.zeros(N, int)
    found = _kernel_sums(INTERPRETED, potential, space, x, species, b)
    axes = (None, None, 0, None, None if b is None else 0)
    expected = jax.vmap(_square, axes)(potential, space, x, species, b)
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        # sums of 66 terms in another order; the largest is ~100 times the result
        np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-12 * float(jnp.abs(e).max()))


@pytest.mark.parametrize("where", ["orthorhombic", "plane"])
def test_kernel_of_turns_equals_the_square_form(where):
    space, potential = SPACES[where], _potential(2)
    x, _ = _case(space, jnp.float64)
    b = jnp.asarray(np.random.default_rng(4).normal(size=(*x.shape[:2], 2, x.shape[2])))
    species = jnp.zeros(N, int)
    found = _kernel_turns(INTERPRETED, potential, space, x, species, b)
    expected = jax.vmap(_square_turns, (None, None, 0, None, 0))(potential, space, x, species, b)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * float(jnp.abs(expected).max()))


def test_integer_positions_keep_single_precision():
    space, potential = SPACES["orthorhombic"], _potential(1)
    x, _ = _case(space, jnp.float64)
    x = x.astype(jnp.float32)
    species = jnp.zeros(N, int)
    found = _kernel_sums(INTERPRETED, potential, space, x, species, None)
    exact = jax.vmap(_square, (None, None, 0, None, None))(potential, space, x.astype(jnp.float64), species, None)
    plain = jax.vmap(_square, (None, None, 0, None, None))(potential, space, x, species, None)
    assert found.slope.dtype == jnp.float32
    scale = float(jnp.abs(exact.slope).max())
    # differences of integers are wrong by 2⁻³² of an edge, those of x ~ 20 by one rounding: one as good as the other
    error, other = (
        float(jnp.abs(s.astype(jnp.float64) - exact.slope).max()) / scale for s in (found.slope, plain.slope)
    )
    assert error < 2 * other + 1e-7


@pytest.mark.parametrize("states", [1, 2])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_kernel_lowers_for_cuda(states, dtype):
    space, potential = SPACES["orthorhombic"], _potential(states)
    x, b = _case(space, dtype)
    species = jnp.zeros(N, int)

    def run(x, b):
        sums = _kernel_sums(pair_kernel.tiled_sums, potential, space, x, species, b if states == 2 else None)
        if states == 1:
            return sums
        fields = jnp.broadcast_to(b[:, :, None, None], (*b.shape, 2, 3))
        return sums, _kernel_turns(pair_kernel.tiled_sums, potential, space, x, species, fields)

    text = jax.jit(run).trace(x, b).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("__gpu$xla.gpu.triton") == states


def test_a_batch_on_a_gpu_takes_the_kernel(monkeypatch):
    space, potential = SPACES["orthorhombic"], _potential(1)
    x, _ = _case(space, jnp.float64)
    species, calls = jnp.zeros(N, int), []

    def interpreted(*arguments):
        calls.append(arguments)
        return tiled_sums(*arguments, interpret=True)

    tiled_sums = pair_kernel.tiled_sums
    monkeypatch.setattr(pair_kernel, "tiled_sums", interpreted)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")

    def forces(x):
        return jax.vmap(lambda a: pair_sums(potential, space, a, species, None).slope)(x)

    found, slope = jax.jvp(forces, (x,), (jnp.sin(x),))
    monkeypatch.undo()
    expected, same = jax.jvp(forces, (x,), (jnp.sin(x),))
    assert len(calls) == 1
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * float(jnp.abs(expected).max()))
    np.testing.assert_allclose(slope, same, rtol=1e-12, atol=1e-12 * float(jnp.abs(same).max()))


def test_tables_by_species_stay_with_the_plain_form():
    assert pair_kernel.takes(_potential(1))
    assert not pair_kernel.takes(iz.LennardJones.mixed([1.0, 0.5], [1.0, 0.9], cutoff=2.0))
