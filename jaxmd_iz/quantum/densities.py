"""Local moments μ_k(x) = ∫ W(x, p) p^k dp of a density operator, from its wave functions: (4.2), (4.3), (5.16).

W is the Wigner function of f̂ = Σ_i w_i |φ_i⟩⟨φ_i|, (N, d, d) at each p. No operator is ever formed: with
p̂ʲφ_i by Fourier transform,

    μ_k(x)_ab = Σ_i w_i 2^{−|k|} Σ_l C(k, l) (p̂^{k−l}φ_i)_a(x) conj (p̂^lφ_i)_b(x),

so that Tr(Op(A(x) p^k) f̂) = Σ_x Tr[A(x) μ_k(x)], Op the Weyl quantisation: the moments of degree at most three are
all that the conservation laws of section 4 ask for. States are taken in blocks, and only μ_k(x) is kept. The Gaussian η
spreads them to points y.
"""

import itertools
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Inexact

from jaxmd_iz.checks import must
from jaxmd_iz.quantum.grid import Grid
from jaxmd_iz.quantum.spectrum import Mixture

#: Powers (k_1, …, k_C) of the momenta of all coordinates.
Power = tuple[int, ...]


class Hamiltonian(eqx.Module):
    """φ ↦ Ĥφ = (Σ_a p̂_a²/2m_a + V(x)) φ by Fourier transform (4.1), (5.1)."""

    grid: Grid
    v: Inexact[Array, "N d d"]  # V + V_b I at the points

    def __call__(self, phi: Inexact[Array, "N d r"]) -> Complex[Array, "N d r"]:
        """Ĥφ of wave functions."""
        moved = self.grid.apply_kinetic(phi)
        return moved + jnp.einsum("xab,xbr->xar", self.v.astype(moved.dtype), phi.astype(moved.dtype))


class LocalMoments(eqx.Module):
    """Moments of a density operator at the points of its grid, or their time derivatives."""

    matrix: dict[Power, Complex[Array, "N d d"]]  # μ_k, Hermitian
    trace: dict[Power, Float[Array, " N"]]  # tr μ_k


class Gaussian(eqx.Module):
    """η(u) = e^{−|u|²/2s²}/(2πs²)^{D/2}, analytic, so that sums over a grid that resolves it are exact to rounding."""

    width: Float[Array, ""]  # s, a length

    def eta(self, u: Float[Array, "*b D"]) -> Float[Array, "*b"]:
        """η(u)."""
        s = self.width.astype(u.dtype)
        return jnp.exp(-jnp.sum(u**2, axis=-1) / (2 * s**2)) / (2 * jnp.pi * s**2) ** (u.shape[-1] / 2)

    def bond(self, y: Float[Array, " D"], one: Float[Array, "*b D"], two: Float[Array, "*b D"]) -> Float[Array, "*b"]:
        """B(y) = ∫₀¹ η(y − t xⁿ − (1 − t) xᵐ) dt on a line, a difference of error functions, and its limit at xⁿ = xᵐ.

        Raises:
            InputError: more than one dimension.
        """
        must(y.shape[-1] == 1, "y", "lie on a line", f"it has {y.shape[-1]} components")
        s = self.width.astype(y.dtype)
        half = (one[..., 0] - two[..., 0]) / (2 * s)
        u = (y[0] - (one[..., 0] + two[..., 0]) / 2) / s
        near = jnp.abs(half) < 0.1
        apart = jnp.where(near, 1.0, half).astype(half.dtype)
        root = 2**0.5
        far = (jax.lax.erf((u + apart) / root) - jax.lax.erf((u - apart) / root)) / (4 * apart * s)
        # Σ_j h²ʲ He₂ⱼ(u)/(2j + 1)!, of which the sixth term is 2e-15 at 0.1
        h2, u2 = jnp.where(near, half, 0.0).astype(half.dtype) ** 2, u**2
        he = (
            1.0,
            (u2 - 1) / 6,
            (u2**2 - 6 * u2 + 3) / 120,
            (u2**3 - 15 * u2**2 + 45 * u2 - 15) / 5040,
            (u2**4 - 28 * u2**3 + 210 * u2**2 - 420 * u2 + 105) / 362880,
        )
        series = he[0] + h2 * (he[1] + h2 * (he[2] + h2 * (he[3] + h2 * he[4])))
        return jnp.where(near, self.eta(u[..., None] * s) * series, far)


def local_moments(
    f: Mixture, matrices: tuple[Power, ...] = (), traces: tuple[Power, ...] = (), block: int = 64
) -> LocalMoments:
    """μ_k(x) = ∫ W p^k dp of a density operator, as matrices of the states or as traces of them.

    Args:
        f: the density operator; the moments are sums with its weights, so divide by Σ w_i if that is not 1.
        matrices: powers whose d × d matrices are wanted.
        traces: powers of which the trace over states is enough.
        block: states at a time; memory is about (number of powers) × block × N d complex numbers.

    Returns:
        LocalMoments; Σ_x of them are the means of p^k.

    Raises:
        InputError: powers that are not whole numbers from 0, one a coordinate, or a block below 1.
    """
    _check(f, matrices, traces, block)
    return _in_blocks(f, None, matrices, traces, block)


def local_rates(
    f: Mixture,
    hamiltonian: Callable,
    matrices: tuple[Power, ...] = (),
    traces: tuple[Power, ...] = (),
    block: int = 64,
) -> LocalMoments:
    """∂_τ μ_k(x) along ∂_τ f̂ = −(i/ħ)[Ĥ, f̂] (4.3), exactly: no step in time is taken.

    Args:
        f: the density operator.
        hamiltonian: φ (N, d, r) ↦ Ĥφ; `Hamiltonian`, or any other Hermitian operator.
        matrices, traces, block: as in `local_moments`.

    Raises:
        InputError: as `local_moments`.
    """
    _check(f, matrices, traces, block)
    return _in_blocks(f, hamiltonian, matrices, traces, block)


def expectation(moment: Inexact[Array, "N d d"], a: Inexact[Array, "N d d"]) -> Float[Array, ""]:
    """Tr(Op(A(x) p^k) f̂) = Σ_x Tr[A(x) μ_k(x)] for Hermitian A (4.2).

    Args:
        moment: μ_k.
        a: A at the points of the grid.
    """
    return jnp.sum(contract(a, moment))


def contract(a: Inexact[Array, "N *n d d"], moment: Inexact[Array, "N d d"]) -> Float[Array, "N *n"]:
    """Re Tr[A(x) μ(x)] at every point, for any number of matrices A a point."""
    kind = np.result_type(a.dtype, moment.dtype)
    return jnp.real(jnp.einsum("x...ab,xba->x...", a.astype(kind), moment.astype(kind)))


def _check(f, matrices, traces, block):
    c = f.grid.coordinates
    for name, powers in (("matrices", matrices), ("traces", traces)):
        for k in powers:
            whole = len(k) == c and all(isinstance(n, int) and n >= 0 for n in k)
            must(whole, name, f"hold powers of {c} momenta, whole numbers from 0", f"one is {k}")
    must(block > 0, "block", "be positive", f"it is {block}")


@eqx.filter_jit
def _in_blocks(f, hamiltonian, matrices, traces, block):
    """Sums over blocks of states; the last block is moved back to end with the last state, what came before off."""
    count = f.vectors.shape[2]
    block = min(block, count)

    def of(start):
        begin = jnp.minimum(start, count - block)
        phi = jax.lax.dynamic_slice_in_dim(f.vectors, begin, block, axis=2)
        phi = phi.astype(np.result_type(phi.dtype, np.complex64))
        w = jax.lax.dynamic_slice_in_dim(f.weights, begin, block)
        w = jnp.where(begin + jnp.arange(block) >= start, w, 0.0).astype(w.dtype)
        if hamiltonian is None:
            return _moments(f.grid, phi, w, matrices, traces)
        unit = jax.lax.complex(jnp.zeros_like(f.grid.hbar), -1 / f.grid.hbar)  # −i/ħ
        rate = unit.astype(phi.dtype) * hamiltonian(phi)  # φ′ = −(i/ħ)Ĥφ (4.1)
        return jax.jvp(lambda z: _moments(f.grid, z, w, matrices, traces), (phi,), (rate,))[1]

    def add(total, start):
        return jax.tree.map(jnp.add, total, of(start)), None

    total = of(jnp.array(0))
    if count > block:
        total = jax.lax.scan(add, total, jnp.arange(block, count, block))[0]
    return total


def _moments(grid, phi, weights, matrices, traces):
    """μ_k and tr μ_k of one block."""
    known: dict[Power, Array] = {}

    def moved(m):
        """p̂^m φ, taken once."""
        if m not in known:
            known[m] = phi
            for c, power in enumerate(m):
                known[m] = grid.apply_momentum(known[m], c, power) if power else known[m]
        return known[m]

    def of(k, form):
        total = jnp.zeros((), phi.dtype)
        for l in itertools.product(*(range(power + 1) for power in k)):
            rest = tuple(a - b for a, b in zip(k, l, strict=True))
            factor = math.prod(map(math.comb, k, l)) / 2 ** sum(k)
            one = moved(rest)
            total = total + factor * jnp.einsum(form, one * weights.astype(one.dtype)[None, None, :], moved(l).conj())
        return total

    return LocalMoments(
        {k: of(k, "xar,xbr->xab") for k in matrices},
        {k: jnp.real(of(k, "xar,xar->x")) for k in traces},
    )
