"""The canonical weight to second order in 1/M, `second_order` of section 2: w = c Σ_j e^{−βλ_j} in place of (5.17).

With V_b·I inside V and Aⁿ = ∇_nV the form of section 2 is one trace that divides by no gap and holds in any basis,

    w = Tr e^{−βV} + Σ_n M_n⁻¹ { −(β²/12) Tr(e^{−βV} Δ_nV) + β³ ∫₀¹ k(s) Tr(Aⁿ e^{−sβV}·Aⁿ e^{−(1−s)βV}) ds },

k(s) = 1/12 − s(1 − s)/4. It is a smooth function of V, also where levels cross. One state: the ħ² correction of Wigner
and Kirkwood. Averages of functions of x are ∫ A w dx/∫ w dx up to O(M⁻²), and those of electron operators in the given
basis −T ∂_ε log ∫ w[V + εB] dx. Functions of momenta and of the adiabatic states need more than c: multiplied by it
they stay O(M⁻¹).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float, Inexact, Int, PRNGKeyArray

from jaxmd_iz import eigen
from jaxmd_iz.checks import must
from jaxmd_iz.nonlinear import Iterated
from jaxmd_iz.potentials.base import (
    AbstractMovingFrame,
    AbstractPairPotential,
    AbstractPotential,
    displaced,
    matrix_gradient,
    matrix_total,
    pair_derivative,
)
from jaxmd_iz.potentials.external import AbstractExternal, external_gradient
from jaxmd_iz.space import Edges

AT_ONCE = 32  # second derivatives taken together; bounds the memory
#: Gauss–Legendre on [0, 1]: exact to 1e-17 for e^{−2s}
NODES, SHARES = ((1 + np.polynomial.legendre.leggauss(8)[0]) / 2, np.polynomial.legendre.leggauss(8)[1] / 2)


def correction_factor(
    potential: AbstractPotential,
    e: Edges,
    masses: Float[Array, " n"],
    temperature: float | Float[Array, ""],
    external: AbstractExternal | None = None,
    species: Int[Array, " n"] | None = None,
    *,
    key: PRNGKeyArray | None = None,
    probes: int | None = None,
) -> Float[Array, ""]:
    """c(x) = w/Σ_j e^{−βλ_j}, by which the density of the surfaces `none` is multiplied; 1 + O(M⁻¹).

    First derivatives are exact at crossings too, in the positions and in T and M_n: the kinetic energy of particle n,
    for one, is ⟨|pⁿ|²/2M_n⟩ = DT/2 + T ⟨M_n ∂c/∂M_n⟩_g/⟨c⟩_g up to O(M⁻²), g the density of `none`.
    c − 1 is a sum over particles. With many of them it is not small, c can be negative, and the averages of c times
    local functions are right only in the form 1 + c − ⟨c⟩_g of `gibbs.reweight`.

    Args:
        potential: V(x), in an electron basis that does not move.
        e: bonds.
        masses: (n,) M_n, with ħ = 1, or M_n/ħ² in units where it is not.
        temperature: T, an energy.
        external: V_b, or None.
        species: (n,); those of the bonds by default.
        key: for `probes`.
        probes: estimate Σ_n M_n⁻¹Δ_nV by zᵀM^{−1/2}(∇²V)M^{−1/2}z with that many random signs z, two derivatives
            each, instead of nD exact ones. Unbiased in c. Not needed for pair potentials, whose Laplacian is exact.

    Returns:
        c ().

    Raises:
        InputError: a moving electron basis or iterated surfaces in place of V, masses or T that are not positive,
            `probes` without `key`.
    """
    _check(potential, e, masses, temperature, probes, key)
    v, a, laplacian = _derivatives(potential, e, masses, external, species, key, probes)
    return _factor(v, a, laplacian, jnp.asarray(temperature, e.x.dtype))


def log_weight(
    potential: AbstractPotential,
    e: Edges,
    masses: Float[Array, " n"],
    temperature: float | Float[Array, ""],
    external: AbstractExternal | None = None,
    species: Int[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """log w(x) = log c + log Σ_j e^{−β(λ_j + V_b)}, for a few particles: NaN where c < 0; nothing overflows.

    log c must not be replaced by c − 1: c grows as |∇V|², so that e^{c−1} beats e^{−βV} at every steep wall.

    Args:
        potential, e, masses, temperature, external, species: as in `correction_factor`.

    Returns:
        log w (), with the same exact first derivatives.

    Raises:
        InputError: as `correction_factor`.
    """
    _check(potential, e, masses, temperature)
    v, a, laplacian = _derivatives(potential, e, masses, external, species)
    t = jnp.asarray(temperature, e.x.dtype)
    return jnp.log(_factor(v, a, laplacian, t)) - eigen.free_energy(v, t) / t


def operator_factor(
    potential: AbstractPotential,
    e: Edges,
    masses: Float[Array, " n"],
    temperature: float | Float[Array, ""],
    operator: AbstractPotential | Inexact[Array, "d d"],
    external: AbstractExternal | None = None,
    species: Int[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """b(x) with ⟨B⟩ = ⟨b⟩_g/⟨c⟩_g up to O(M⁻²), g the density of `none`: b = −T ∂_ε w[V + εB]/Σ_j e^{−βλ_j} at ε = 0.

    The projection |χ_a⟩⟨χ_a| on a state of the given basis makes b its population; V itself makes it the potential
    energy without V_b. Only the integral of b e^{−βV} has a meaning: locally b is not the density of B.

    Args:
        potential, e, masses, temperature, external, species: as in `correction_factor`.
        operator: B, a constant Hermitian matrix or, as a function of x, anything that is a potential of d states.

    Returns:
        b ().

    Raises:
        InputError: as `correction_factor`; an operator that is not d × d and Hermitian, or in a moving basis.
    """
    _check(potential, e, masses, temperature)
    d = potential.states
    if isinstance(operator, AbstractPotential):
        must(operator.states == d, "operator", f"have {d} states", f"it has {operator.states}")
        _check(operator, e, masses, temperature, name="operator")
        tangent = _derivatives(operator, e, masses, None, species)
    else:
        must(operator.shape == (d, d), "operator", f"be ({d}, {d})", f"its shape is {operator.shape}")
        fixed = np.eye(d) if isinstance(operator, Tracer) else np.asarray(operator)
        must(np.allclose(fixed, fixed.conj().T), "operator", "be Hermitian", "it differs from its adjoint")
        tangent = (operator, jnp.zeros((e.x.size, d, d), operator.dtype), jnp.zeros_like(operator))
    at = _derivatives(potential, e, masses, external, species)
    dtype = jnp.result_type(at[0].dtype, tangent[0].dtype)
    at, along = (tuple(m.astype(dtype) for m in three) for three in (at, tangent))
    t = jnp.asarray(temperature, e.x.dtype)
    c, slope = jax.jvp(lambda *m: _factor(*m, t), at, along)
    mean = jnp.real(jnp.sum(_density_matrix(_exponent(at[0], t)).conj() * along[0]))
    return mean * c - t * slope


def _check(potential, e, masses, temperature, probes=None, key=None, name="potential") -> None:
    """One sentence for each argument that does not fit."""
    kind = type(potential).__name__
    moving = isinstance(potential, AbstractMovingFrame)
    remedy = "The states left out count to the order kept: give the potential of all states, without a wrapper."
    must(not moving, name, "have an electron basis that does not move", f"that of `{kind}` does", remedy)
    iterated = isinstance(potential, Iterated)
    must(not iterated, name, "be V itself", f"`{kind}` adds its own correction in 1/M", "Give the potential inside it.")
    n = e.x.shape[0]
    must(masses.shape == (n,), "masses", f"have shape ({n},)", f"it is {masses.shape}")
    for argument, value in (("masses", masses), ("temperature", temperature)):
        if not isinstance(value, Tracer):
            must(bool(np.all(np.asarray(value) > 0)), argument, "be positive", f"it is {value}")
    if probes is not None:
        must(probes >= 1, "probes", "be 1 or more", f"it is {probes}")
        must(key is not None, "key", "be given with `probes`", "it is None")


# --- V and its derivatives ----------------------------------------------------------------------------------------


def _derivatives(potential, e, masses, external, species, key=None, probes=None):
    """V (d, d), M_n^{−1/2} Aⁿ (nD, d, d) and Σ_n M_n⁻¹ Δ_nV (d, d), with V_b·I inside V."""
    v = matrix_total(potential, e)
    masses = masses.astype(e.x.dtype)
    a = matrix_gradient(potential, e)
    laplacian = _laplacian(potential, e, masses, key, probes)
    if external is not None:
        kinds = e.species if species is None else species
        identity = jnp.eye(v.shape[0], dtype=v.dtype)
        v = v + jnp.sum(external.energy(e.x, kinds)).astype(v.dtype) * identity
        a = a + external_gradient(external, e.x, kinds).astype(v.dtype)[:, :, None, None] * identity[None, None]
        laplacian = laplacian + _confinement(external, e.x, kinds, masses).astype(v.dtype) * identity
    a = a / jnp.sqrt(masses).astype(v.dtype)[:, None, None, None]
    return v, a.reshape(-1, *v.shape), laplacian


def _laplacian(potential, e, masses, key, probes):
    """Σ_n M_n⁻¹ Δ_nV: in closed form for pairs, otherwise by second derivatives along all coordinates or probes."""
    n, dim = e.x.shape
    if isinstance(potential, AbstractPairPotential):
        # Δ_nφ = 4r²φ″ + 2Dφ′ with derivatives in r², and both halves of a bond move with xⁿ
        first, second = jax.jvp(lambda s: pair_derivative(potential, e, s), (e.r2,), (jnp.ones_like(e.r2),))
        extra = (1,) * (first.ndim - 2)
        r2 = e.r2.reshape(e.r2.shape + extra).astype(first.dtype)
        each = jnp.sum(4 * r2 * second + 2 * dim * first, axis=1)
        whole = jnp.sum(each / masses.astype(first.dtype).reshape((n, *extra)), axis=0)
        return whole if whole.ndim else whole[None, None]

    def along(z):  # zᵀ(∇²V)z
        def slope(u):
            return jax.jvp(lambda w: matrix_total(potential, displaced(e, w)), (u,), (z,))[1]

        return jax.jvp(slope, (jnp.zeros_like(z),), (z,))[1]

    if probes is None:
        directions = jnp.eye(n * dim, dtype=e.x.dtype).reshape(-1, n, dim)
    else:
        directions = jax.random.rademacher(key, (probes, n, dim), e.x.dtype)
    directions = directions / jnp.sqrt(masses)[None, :, None]
    count = directions.shape[0]
    found = lax.map(along, directions, batch_size=min(count, AT_ONCE))
    return jnp.sum(found, axis=0) / (1 if probes is None else probes)


def _confinement(external, x, species, masses):
    """Σ_n M_n⁻¹ Δ_nV_b, a derivative along each axis at once for all particles: V_b is a sum over them."""

    def along(axis):
        z = jnp.broadcast_to(jnp.eye(x.shape[1], dtype=x.dtype)[axis][None, :], x.shape)

        def slope(u):
            return jax.jvp(lambda at: external.energy(at, species), (u,), (z,))[1]

        return jax.jvp(slope, (x,), (z,))[1]

    return jnp.sum(jnp.stack([along(axis) / masses for axis in range(x.shape[1])]))


# --- the trace ----------------------------------------------------------------------------------------------------


def _factor(v, a, laplacian, temperature):
    """c from V, M^{−1/2}A and Σ M⁻¹ΔV."""
    x = _exponent(v, temperature)
    mean = jnp.real(jnp.sum(_density_matrix(x).conj() * laplacian))
    return 1.0 - mean / (12 * temperature**2) + _double(x, a * (1 / temperature).astype(v.dtype) ** 1.5)


def _exponent(v, temperature):
    """βV from any zero of energy: c does not depend on it."""
    level = lax.stop_gradient(jnp.real(v[0, 0])).astype(v.dtype)
    return (v - level * jnp.eye(v.shape[0], dtype=v.dtype)) * (1 / temperature).astype(v.dtype)


def _density_matrix(x):
    """e^{−x}/Tr e^{−x}, of x as all the rest: the program then holds one `eigh`, where two independent batches of
    LAPACK's have been seen to wait for each other for ever on two cores."""
    return eigen.density_matrix(x, jnp.ones((), jnp.finfo(x.dtype).dtype))


@jax.custom_jvp
def _double(x, a):
    """Σ_i ∫₀¹ k(s) Tr(a_i e^{−sx} a_i e^{−(1−s)x}) ds / Tr e^{−x} = Σ_i Σ_jk K_jk |(Ψ*a_iΨ)_jk|² / Σ_j e^{−x_j}."""
    levels, psi, weights = _states(x)
    kernel = _kernel(levels[:, None], levels[None, :])
    inside = jnp.sum(jnp.abs(_within(psi, a)) ** 2, axis=0)
    return jnp.sum(kernel * inside) / jnp.sum(weights)


@_double.defjvp
def _double_moved(primals, tangents):
    (x, a), (dx, da) = primals, tangents
    value = _double(x, a)
    levels, psi, weights = _states(x)
    total = jnp.sum(weights)
    kernel = _kernel(levels[:, None], levels[None, :])
    a, da = _within(psi, a), _within(psi, (da + jnp.swapaxes(da, -1, -2).conj()) / 2)
    dx = _within(psi, (dx + dx.conj().T) / 2)
    d_value = 2 * jnp.sum(kernel[None] * jnp.real(a.conj() * da)) / total
    # e^{−(1−s)x} moves by its divided differences (Daleckii–Krein): Σ_jkl a_jk dx_kl a_lj (K_jk − K_jl)/(x_k − x_l)
    loop = jnp.einsum("ijk,ilj->jkl", a, a)
    d_value = d_value + 2 * jnp.sum(_kernel_difference(levels) * jnp.real(loop * dx[None])) / total
    share = jnp.sum(weights * jnp.real(jnp.diagonal(dx))) / total  # −d log Tr e^{−x}
    return value, d_value + value * share


def _states(x):
    """Levels above the lowest, eigenvectors, e^{−x_j} relative to the lowest."""
    levels, psi = eigen.eigh(x)
    levels = levels - levels[0]
    return levels, psi, jnp.exp(-levels)


def _within(psi, a):
    """Ψ* a Ψ."""
    return psi.conj().T @ a @ psi if a.ndim == 2 else jnp.einsum("aj,iab,bk->ijk", psi.conj(), a, psi)


def _kernel(one, other):
    """K = ∫₀¹ k(s) e^{−s·one − (1−s)·other} ds, symmetric.

    With y = (one − other)/2 it is ½ e^{−(one + other)/2} [(sinh y/y − cosh y)/(4y²) + sinh y/(6y)] of section 2.
    """
    i0, i1, i2, _ = _moments(jnp.abs(one - other))
    return jnp.exp(-jnp.minimum(one, other)) * (i0 / 12 - (i1 - i2) / 4)


def _kernel_slope(one, other):
    """∂K/∂other = −∫₀¹ (1 − s) k(s) e^{−s·one − (1−s)·other} ds."""
    i0, i1, i2, i3 = _moments(jnp.abs(one - other))
    near = i1 / 12 - (i2 - i3) / 4  # ∫ s k(s) e^{−sy}
    far = i0 / 12 - (i1 - i2) / 4 - near
    return -jnp.exp(-jnp.minimum(one, other)) * jnp.where(other > one, near, far)


def _kernel_difference(levels):
    """(K_jk − K_jl)/(x_k − x_l) at [j, k, l]; for levels k, l within 1 the mean of the slope between them."""
    j, k, l = levels[:, None, None], levels[None, :, None], levels[None, None, :]
    apart = jnp.broadcast_to(k - l, (levels.shape[0],) * 3)
    close = jnp.abs(apart) < 1
    whole = (_kernel(j, k) - _kernel(j, l)) / jnp.where(close, 1.0, apart)
    nodes = jnp.asarray(NODES, levels.dtype).reshape(1, 1, 1, -1)
    between = l[..., None] + nodes * jnp.where(close, apart, 0.0)[..., None]
    mean = _kernel_slope(j[..., None], between) @ jnp.asarray(SHARES, levels.dtype)
    return jnp.where(close, mean, whole)


def _moments(y):
    """∫₀¹ sᵐ e^{−sy} ds for m = 0 … 3 and y ≥ 0: by quadrature up to y = 2, then (m I_{m−1} − e^{−y})/y."""
    nodes, shares = jnp.asarray(NODES, y.dtype), jnp.asarray(SHARES, y.dtype)
    decay = jnp.exp(-jnp.minimum(y, 2.0)[..., None] * nodes.reshape((1,) * y.ndim + (-1,)))
    large = jnp.maximum(y, 2.0)
    end, last, found = jnp.exp(-large), 0.0, []
    for m in range(4):
        last = ((1 - end) if m == 0 else m * last - end) / large
        found.append(jnp.where(y < 2, decay @ (shares * nodes**m), last))
    return found
