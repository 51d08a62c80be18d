"""Ab initio electrons: V(x) is full configuration interaction in s-type Gaussians on the nuclei, (2.3), (2.8)–(2.11).

Atomic units: hartree, bohr, m_e. Free space in three dimensions.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from jaxmd_iz.checks import must
from jaxmd_iz.eigen import inverse_sqrt
from jaxmd_iz.orbitals import integrals as s_integrals
from jaxmd_iz.orbitals.basis import BasisData, atomic_number, basis_data, molecule
from jaxmd_iz.orbitals.configurations import LARGEST, Configurations, configurations
from jaxmd_iz.potentials.base import AbstractMovingFrame
from jaxmd_iz.shapes import Scalar
from jaxmd_iz.space import Edges


class Integrals(eqx.Module):
    """The terms of (2.8) over m orthonormal orbitals at one x."""

    kinetic: Float[Array, "m m"]  # −½Δ
    attraction: Float[Array, "n m m"]  # −Z_n g(|xⁿ − x̄|)
    trap: Float[Array, "m m"]  # v_b, per electron
    repulsion: Float[Array, "m m m m"]  # (pq|rs) of g
    nuclear: Float[Array, " n"]  # ½ Σ_{m≠n} Z_n Z_m g(|xⁿ − xᵐ|)


class Electrons(AbstractMovingFrame):
    """J electrons about n nuclei, all configurations of one spin in a Gaussian basis; (2.8) with its ions mended:

    Vⁿ = (Z_n/ΣZ)(T_e + V_ee) + ½ Σ_{m≠n} Z_n Z_m g(|xⁿ − xᵐ|) − Z_n Σ_e g(|xⁿ − x̄ᵉ|) + v_b/n,  g(r) = 1/√(r² + δ_a).

    Σ_n Vⁿ is the Hamiltonian with the repulsion of the nuclei, in determinants of the orbitals χS^{−1/2}, which move
    with the nuclei. v_b = ½k Σ_e |x̄ᵉ − x⁰|² with x⁰ = Σxⁿ/n is the confinement of (2.4). Functions of type s alone:
    good for H_n and He, poor for Li. The number of states N is that of all configurations of the spin: wrap it to keep
    the d lowest. Σ_n 𝒟ⁿV need not vanish, since orbitals carried along by the nuclei move.

    Use 64-bit positions: two-electron integrals cancel too much for fewer.

    Args:
        charges: Z_n in order of the particles, as numbers or symbols.
        basis: `sto-3g` (H, He, Li), `even-tempered`, or element ↦ shells, lists of (exponent, coefficient).
        electrons: J; Σ Z_n by default.
        spin: 2S = 2M_s; 0 for an even J and 1 for an odd one by default.
        softening: δ_a in bohr², 0 for Coulomb; good values 1e-8 … 1. Zero or not is fixed at construction.
        confinement: k in hartree/bohr², 0 for none. Zero or not is fixed at construction.

    Raises:
        InputError: an unknown element or basis, more electrons than the orbitals hold, a spin that they cannot have,
            too many determinants, or a negative softening or confinement.
    """

    softening: Scalar
    confinement: Scalar
    charges: tuple[int, ...] = eqx.field(static=True)
    basis: BasisData = eqx.field(static=True)
    electrons: int = eqx.field(static=True)
    spin: int = eqx.field(static=True)
    soft: bool = eqx.field(static=True)
    confined: bool = eqx.field(static=True)
    cutoff: ClassVar[float] = math.inf
    own_bonds: ClassVar[bool] = False
    invariant: ClassVar[bool] = True
    complex: ClassVar[bool] = False

    def __init__(
        self,
        charges: Sequence[int | str],
        basis="sto-3g",
        electrons: int | None = None,
        spin: int | None = None,
        softening=0.0,
        confinement=0.0,
    ):
        must(len(charges) > 0, "charges", "hold at least one nucleus", "it is empty")
        self.charges = tuple(atomic_number(z) for z in charges)
        self.basis = basis_data(basis)
        orbitals = molecule(self.charges, self.basis).size
        number = sum(self.charges) if electrons is None else electrons
        but = f"it is {number} and the basis has {orbitals} orbitals"
        must(0 < number <= 2 * orbitals, "electrons", "be from 1 to twice the number of orbitals", but)
        self.electrons = number
        self.spin = number % 2 if spin is None else spin
        alpha, beta = (number + self.spin) // 2, (number - self.spin) // 2
        possible = 0 <= self.spin <= number and (number - self.spin) % 2 == 0 and alpha <= orbitals
        but = f"it is {self.spin}, with {number} electrons in {orbitals} orbitals"
        must(possible, "spin", "be a 2S that the electrons can have", but)
        size = math.comb(orbitals, alpha) * math.comb(orbitals, beta)
        but = f"{number} electrons in {orbitals} orbitals have {size}"
        must(size <= LARGEST, "basis", f"give at most {LARGEST} determinants", but, "Take a smaller basis.")
        self.softening, self.soft = _at_least_zero("softening", softening)
        self.confinement, self.confined = _at_least_zero("confinement", confinement)

    @property
    def configurations(self) -> Configurations:
        """The determinants and the states of spin S in them."""
        beta = (self.electrons - self.spin) // 2
        return configurations(molecule(self.charges, self.basis).size, self.electrons - beta, beta)

    @property
    def states(self):
        """N, the number of configurations of spin S."""
        return self.configurations.dimension

    def _products(self, x):
        must(x.shape[1] == 3, "x", "have three dimensions for electrons", f"it has {x.shape[1]}")
        n = len(self.charges)
        must(x.shape[0] == n, "charges", "hold one number for each particle", f"it holds {n} for {x.shape[0]}")
        basis = molecule(self.charges, self.basis)
        left, right = (jnp.matmul(jnp.asarray(at, x.dtype), x, precision="highest") for at in (basis.left, basis.right))
        return basis, s_integrals.products(left, right, *basis.exponents[basis.pairs])

    def orthonormal(self, x: Float[Array, "n D"]) -> Float[Array, "m m"]:
        """S^{−1/2}, the symmetrically orthonormalised orbitals in columns."""
        basis, pair = self._products(x)
        return inverse_sqrt(basis.contract(pair.overlap))

    def integrals(self, x: Float[Array, "n D"]) -> Integrals:
        """The terms of (2.8) over orthonormal orbitals.

        Args:
            x: (n, 3) positions in bohr.

        Returns:
            Integrals, in hartree.
        """
        basis, pair = self._products(x)
        delta = self.softening.astype(x.dtype) if self.soft else None
        z = jnp.asarray(self.charges, x.dtype)
        attraction, repulsion = s_integrals.coulomb(pair, x, delta)
        one = [s_integrals.kinetic(pair)[None, :], -z[:, None] * attraction]
        if self.confined:
            moment = s_integrals.second_moment(pair, jnp.mean(x, axis=0))
            one.append(0.5 * self.confinement.astype(x.dtype) * moment[None, :])
        n, m = x.shape[0], basis.size
        onto = basis.onto(inverse_sqrt(basis.contract(pair.overlap)))
        one = (jnp.concatenate(one) @ onto.T).reshape(-1, m, m)
        g = (onto @ repulsion @ onto.T).reshape(m, m, m, m)
        other = jnp.asarray(~np.eye(n, dtype=bool))
        r2 = jnp.where(other, jnp.sum((x[:, None, :] - x[None, :, :]) ** 2, axis=-1), 1.0)
        between = jnp.where(other, s_integrals.interaction(r2, delta), 0.0)
        trap = one[n + 1] if self.confined else jnp.zeros_like(one[0])
        return Integrals(one[0], one[1 : n + 1], trap, g, 0.5 * z * (between @ z))

    def partition(self, e: Edges) -> Float[Array, "n N N"]:
        """Vⁿ in the configurations, (n, N, N); its sum over n is V(x)."""
        i, space = self.integrals(e.x), self.configurations
        share = jnp.asarray(self.charges, e.x.dtype) / sum(self.charges)
        common = space.hamiltonian(i.kinetic, i.repulsion)  # T_e + V_ee
        own = jax.vmap(space.one_body)(i.attraction + i.trap[None, :, :] / e.x.shape[0])
        unit = jnp.eye(common.shape[0], dtype=common.dtype)
        return share[:, None, None] * common[None, :, :] + own + i.nuclear[:, None, None] * unit[None, :, :]

    def total(self, e: Edges) -> Float[Array, "N N"]:
        """V(x) = Σ_n Vⁿ, (N, N), without the partition."""
        return self._matrix(*self._summed(e.x))

    def _summed(self, x):
        i = self.integrals(x)
        return i.kinetic + jnp.sum(i.attraction, axis=0) + i.trap, i.repulsion, jnp.sum(i.nuclear)

    def _matrix(self, h, g, nuclear):
        """The Hamiltonian, linear in its integrals."""
        v = self.configurations.hamiltonian(h, g)
        return v + nuclear * jnp.eye(v.shape[0], dtype=v.dtype)

    def connection(self, x: Float[Array, "n D"]) -> Float[Array, "n D m m"]:
        """Aⁿ_pq = ⟨φ_p, ∇_{xⁿ}φ_q⟩ of the orthonormal orbitals φ = χC, C = S^{−1/2}; anti-Hermitian.

        A = C⁻¹∇C + Cᵀ⟨χ, ∇χ⟩C, in which nucleus n moves the orbitals that sit on it.
        """
        basis, pair = self._products(x)
        c, slope = jax.jacfwd(lambda y: (self.orthonormal(y),) * 2, has_aux=True)(x)[::-1]
        s = basis.contract(pair.overlap)
        on = jnp.asarray(basis.homes[None, :] == np.arange(x.shape[0])[:, None], x.dtype)
        odd = basis.contract_odd(s_integrals.moved_overlap(pair))
        moving = jnp.einsum("abD,nb->nDab", odd, on)  # ⟨χ_a, ∇_{xⁿ}χ_b⟩
        return c.T @ (s @ jnp.moveaxis(slope, (0, 1), (2, 3)) + moving @ c)

    def _slopes(self, x):
        """The integrals of V(x) and their derivatives, each (n, D, …)."""
        slopes, here = jax.jacfwd(lambda y: (self._summed(y),) * 2, has_aux=True)(x)
        return here, jax.tree.map(lambda s: jnp.moveaxis(s, (-2, -1), (0, 1)), slopes)

    def covariant_gradient(self, e: Edges) -> Float[Array, "n D N N"]:
        """𝒟V = ∇_{xⁿ}V + [Aⁿ, V], with the motion of the orbitals in Aⁿ lifted to configurations."""
        here, slopes = self._slopes(e.x)
        gradient = jax.vmap(jax.vmap(self._matrix))(*slopes)
        moved = jax.vmap(jax.vmap(self.configurations.one_body))(self.connection(e.x)) @ self._matrix(*here)
        return gradient + moved + jnp.swapaxes(moved, -1, -2)  # Aᵀ = −A

    def covariant_elements(self, e: Edges, coefficients: Float[Array, "N d"]) -> Float[Array, "n D d d"]:
        """C*(𝒟V)C for few states by transition density matrices, without any (n, D, N, N) array.

        Args:
            e: bonds, of which the positions are used.
            coefficients: (N, d) states in columns, orthonormal.

        Returns:
            (n, D, d, d), in hartree/bohr.
        """
        c = coefficients
        here, (h, g, nuclear) = self._slopes(e.x)

        def between(left, right):  # of every two columns, (d, d, …)
            return jax.vmap(lambda l: jax.vmap(lambda r: self.configurations.densities(l, r), 1)(right), 1)(left)

        one, two = between(c, c)
        gradient = jnp.einsum("nDpq,lkpq->nDlk", h, one) + 0.5 * jnp.einsum("nDpqrs,lkpqrs->nDlk", g, two)
        gradient = gradient + nuclear[:, :, None, None] * (c.T @ c)[None, None]
        mixed, _ = between(c, self._matrix(*here) @ c)
        moved = jnp.einsum("nDpq,lkpq->nDlk", self.connection(e.x), mixed)
        return gradient + moved + jnp.swapaxes(moved, -1, -2)

    def frame(self, e: Edges) -> Float[Array, "N N"]:
        """The configurations themselves are the basis: the identity."""
        return jnp.eye(self.states, dtype=e.x.dtype)

    def state_partition(self, e: Edges, coefficients: Float[Array, "N d"]) -> Float[Array, "d n"]:
        """λ_kⁿ = ⟨Ψ_k, VⁿΨ_k⟩ of (2.9) by density matrices, without any (N, N) matrix.

        Args:
            e: bonds, of which the positions are used.
            coefficients: (N, d) Ψ_k in columns.

        Returns:
            (d, n), in hartree.
        """
        i, n = self.integrals(e.x), e.x.shape[0]
        share = jnp.asarray(self.charges, e.x.dtype) / sum(self.charges)

        def energies(state):
            one, two = self.configurations.densities(state, state)
            common = jnp.sum(i.kinetic * one) + 0.5 * jnp.sum(i.repulsion * two)
            own = jnp.einsum("npq,pq->n", i.attraction + i.trap[None, :, :] / n, one)
            return share * common + own + i.nuclear * jnp.sum(state**2)

        return jax.vmap(energies, in_axes=1)(coefficients)


def _at_least_zero(name, value) -> tuple[Array, bool]:
    """A parameter and whether it is there at all: zero turns it off; one that is traced is taken to be positive."""
    array = jnp.asarray(value, float)
    must(array.ndim == 0, name, "be a number", f"its shape is {array.shape}")
    if isinstance(array, Tracer):
        return array, True
    number = float(array)
    must(0 <= number < math.inf, name, "be finite and not negative", f"it is {number}")
    return array, number > 0
