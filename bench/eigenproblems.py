"""Batches of small Hermitian eigenproblems: `eigen.eigh` against `jnp.linalg.eigh`, both in this run."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from bench.timing import row, seconds
from jaxmd_iz import eigen

KINDS = [(d, dtype) for d in (2, 3, 4, 6) for dtype in ("float32", "float64")] + [(2, "complex128"), (3, "complex128")]


def eigenproblems(quick: bool) -> Iterator[dict]:
    """Eigenvalues and eigenvectors of random Hermitian matrices, a batch at a time."""
    batch = 10_000 if quick else 100_000
    rng = np.random.default_rng(0)
    for d, dtype in KINDS:
        a = rng.normal(size=(2, batch, d, d))
        v = jnp.asarray(a[0] + 1j * a[1] if dtype == "complex128" else a[0], dtype)
        v = v + jnp.swapaxes(v, 1, 2).conj()
        ours, theirs = (batch / seconds(jax.jit(solve), v) for solve in (eigen.eigh, jnp.linalg.eigh))
        yield row(f"eigh of {d} × {d}, {dtype}, against jnp.linalg", ours, "matrices/s", theirs)
