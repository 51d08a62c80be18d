"""The GPU kernel of pair sums: equal to the n × n form, run as plain operations here; and it lowers for CUDA."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmd_iz as iz
from jaxmd_iz import pair_kernel
from jaxmd_iz.pair_loop import _each, _square, _tiles, _total, _turns, pair_sums

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


def _both(look, k, states, space, x, fields):
    """The sums by the kernel and by the n × n form."""
    potential, species = _potential(states), jnp.zeros(N, int)
    found = _tiles(look, k, INTERPRETED, potential, space, x, species, fields)
    expected = jax.vmap(lambda a, f: _square(look, k, potential, space, a, species, f))(x, fields)
    return found, expected


@pytest.mark.parametrize("where", SPACES)
@pytest.mark.parametrize(("states", "weighted"), [(1, False), (2, True)])
def test_kernel_equals_the_square_form(where, states, weighted):
    x, b = _case(SPACES[where], jnp.float64)
    found, expected = _both(_each, 0, states, SPACES[where], x, b[..., None][..., : int(weighted)])
    assert len(found[1]) == (2 * states - 1) * (1 + x.shape[2] * (1 + weighted))
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        # sums of 66 terms in another order; the largest is ~100 times the result
        np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-12 * float(jnp.abs(e).max()))


@pytest.mark.parametrize(
    ("look", "k", "where"), [(_total, 2, "plane"), (_turns, 2, "orthorhombic"), (_turns, 0, "plane")]
)
def test_kernel_of_turns_and_totals_equals_the_square_form(look, k, where):
    x, _ = _case(SPACES[where], jnp.float64)
    count = 0 if look is _total else k * x.shape[2] + 3
    fields = jnp.asarray(np.random.default_rng(4).normal(size=(*x.shape[:2], count)))
    found, expected = _both(look, k, 2, SPACES[where], x, fields)
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-12 * float(jnp.abs(e).max()))


def test_integer_positions_keep_single_precision():
    space, potential = SPACES["orthorhombic"], _potential(1)
    x, _ = _case(space, jnp.float64)
    x = x.astype(jnp.float32)
    species = jnp.zeros(N, int)
    none = jnp.zeros((*x.shape[:2], 0), x.dtype)
    found = jnp.stack(_tiles(_each, 0, INTERPRETED, potential, space, x, species, none)[1])

    def plain(x):
        return jnp.stack(jax.vmap(lambda a, f: _square(_each, 0, potential, space, a, species, f))(x, none)[1])

    exact = plain(x.astype(jnp.float64))
    assert found.dtype == jnp.float32
    scale = float(jnp.abs(exact[1:]).max())
    # differences of integers are wrong by 2⁻³² of an edge, those of x ~ 20 by one rounding: one as good as the other
    error, other = (float(jnp.abs(f.astype(jnp.float64) - exact)[1:].max()) / scale for f in (found, plain(x)))
    assert error < 2 * other + 1e-7


@pytest.mark.parametrize("states", [1, 2])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_kernel_lowers_for_cuda(states, dtype):
    space, potential = SPACES["orthorhombic"], _potential(states)
    x, b = _case(space, dtype)
    species = jnp.zeros(N, int)

    def run(x, b):
        fields = b[..., None][..., : states - 1]
        sums = _tiles(_each, 0, pair_kernel.tiled_sums, potential, space, x, species, fields)
        if states == 1:
            return sums
        fields = jnp.broadcast_to(b[:, :, None], (*b.shape, 9))
        return sums, _tiles(_turns, 2, pair_kernel.tiled_sums, potential, space, x, species, fields)

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
