"""Full configuration interaction: electron operators in antisymmetric determinants of one total spin.

A determinant is a string of α and one of β electrons over m orthonormal orbitals. H = Σ_pq h_pq E_pq +
½ Σ_pqrs (pq|rs)(E_pq E_rs − δ_qr E_ps), with E_pq = Σ_σ a†_pσ a_qσ, splits into matrices on strings of one spin and
cross terms. The constants E_pq on strings and the states of spin S are found once, in numpy.
"""

import functools
import itertools
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LARGEST = 2500  # determinants: H is a dense matrix


def excitations(orbitals: int, electrons: int) -> np.ndarray:
    """⟨I, a†_p a_q J⟩ on the strings of electrons of one spin, (m, m, s, s), entries 0 and ±1.

    Args:
        orbitals: m.
        electrons: number of electrons of that spin, 0 … m.
    """
    strings = list(itertools.combinations(range(orbitals), electrons))
    number = {s: i for i, s in enumerate(strings)}
    e = np.zeros((orbitals, orbitals, len(strings), len(strings)))
    for j, string in enumerate(strings):
        for q, p in itertools.product(string, range(orbitals)):
            rest = [o for o in string if o != q]
            if p in rest:
                continue
            passed = string.index(q) + sum(o < p for o in rest)
            e[p, q, number[tuple(sorted([*rest, p]))], j] = (-1.0) ** passed
    return e


@dataclass(frozen=True, eq=False)
class Configurations:
    """The space of `alpha` + `beta` electrons with S = M_s = (alpha − beta)/2 in m orbitals.

    Attributes:
        up: (m, m, a, a) E_pq on strings of α electrons.
        down: (m, m, b, b) E_pq on strings of β electrons.
        states: (a, b, N) an orthonormal basis of the states of that spin, by determinants.
    """

    up: np.ndarray
    down: np.ndarray
    states: np.ndarray

    @property
    def dimension(self) -> int:
        """N."""
        return self.states.shape[-1]

    def one_body(self, h: Float[Array, "m m"]) -> Float[Array, "N N"]:
        """Σ_pq h_pq E_pq, for any h, symmetric or not."""
        up, down, states = (jnp.asarray(c, h.dtype) for c in (self.up, self.down, self.states))
        alone_up = jnp.einsum("pq,pqIJ->IJ", h, up)
        alone_down = alone_up if self.down is self.up else jnp.einsum("pq,pqIJ->IJ", h, down)
        applied = jnp.einsum("IJ,JKn->IKn", alone_up, states) + jnp.einsum("KL,ILn->IKn", alone_down, states)
        return jnp.einsum("IKm,IKn->mn", states, applied)

    def hamiltonian(self, h: Float[Array, "m m"], g: Float[Array, "m m m m"]) -> Float[Array, "N N"]:
        """Σ_pq h_pq E_pq + ½ Σ_pqrs g_pqrs (E_pq E_rs − δ_qr E_ps).

        Args:
            h: one-electron integrals.
            g: two-electron integrals (pq|rs), with g_pqrs = g_rspq.

        Returns:
            (N, N).
        """
        h = h - 0.5 * jnp.einsum("pqrs,qr->ps", g, jnp.eye(h.shape[0], dtype=h.dtype))
        alone_up, with_up = self._same_spin(h, g, self.up)
        alone_down, with_down = (alone_up, with_up) if self.down is self.up else self._same_spin(h, g, self.down)
        # Σ_pqrs g_pqrs E^α_pq E^β_rs: the halves of α–β and β–α are equal
        whole = jnp.einsum("pqIJ,pqKL->IKJL", jnp.asarray(self.up, h.dtype), with_down)
        a, b = (jnp.eye(k.shape[0], dtype=h.dtype) for k in (alone_up, alone_down))
        whole = (
            whole
            + alone_up[:, None, :, None] * b[None, :, None, :]
            + a[:, None, :, None] * alone_down[None, :, None, :]
        )
        states = jnp.asarray(self.states.reshape(-1, self.dimension), h.dtype)
        return states.T @ (whole.reshape(states.shape[0], -1) @ states)

    def _same_spin(self, h, g, excitation):
        """Σ h_pq E_pq + ½ Σ g_pqrs E_pq E_rs on strings, (s, s), and Σ_rs g_pqrs E_rs, (m, m, s, s)."""
        e = jnp.asarray(excitation, h.dtype)
        unit = jnp.eye(e.shape[-1], dtype=h.dtype)
        partner = jnp.einsum("pqrs,rsIJ->pqIJ", g, e)
        return jnp.einsum("pqIM,pqMJ->IJ", e, h[:, :, None, None] * unit[None, None] + 0.5 * partner), partner

    def densities(
        self, left: Float[Array, " N"], right: Float[Array, " N"]
    ) -> tuple[Float[Array, "m m"], Float[Array, "m m m m"]]:
        """The one- and two-particle (transition) density matrices of two states.

        γ_pq = ⟨left, E_pq right⟩ and Γ_pqrs = ⟨left, (E_pq E_rs − δ_qr E_ps) right⟩, so that
        ⟨left, H right⟩ = Σ h_pq γ_pq + ½ Σ g_pqrs Γ_pqrs.

        Args:
            left: (N,) coefficients.
            right: (N,) coefficients.

        Returns:
            γ (m, m), Γ (m, m, m, m).
        """
        bra, ket = self._excited(left), self._excited(right)  # E_pq of each
        state = jnp.einsum("IKn,n->IK", jnp.asarray(self.states, left.dtype), left)
        one = jnp.einsum("IK,pqIK->pq", state, ket)
        two = jnp.einsum("qpIK,rsIK->pqrs", bra, ket)  # E_pq is the transpose of E_qp
        unit = jnp.eye(one.shape[0], dtype=one.dtype)
        return one, two - jnp.einsum("qr,ps->pqrs", unit, one)

    def _excited(self, state):
        """E_pq of a state by determinants, (m, m, a, b)."""
        up, down, states = (jnp.asarray(c, state.dtype) for c in (self.up, self.down, self.states))
        state = jnp.einsum("IKn,n->IK", states, state)
        return jnp.einsum("pqIJ,JK->pqIK", up, state) + jnp.einsum("pqKL,IL->pqIK", down, state)


@functools.lru_cache(maxsize=32)
def configurations(orbitals: int, alpha: int, beta: int) -> Configurations:
    """The configurations of `alpha` ≥ `beta` electrons in m orbitals, with S = M_s = (alpha − beta)/2.

    S² = S₋S₊ + M_s(M_s + 1), so these states are the null space of S₋S₊ = beta − Σ_pq E^α_pq ⊗ E^β_qp.

    Args:
        orbitals: m.
        alpha: electrons of spin up, at most m.
        beta: electrons of spin down, at most `alpha`.
    """
    up = excitations(orbitals, alpha)
    down = up if alpha == beta else excitations(orbitals, beta)
    a, b = up.shape[-1], down.shape[-1]
    square = np.einsum("pqIJ,qpKL->IKJL", up, down, optimize=True).reshape(a * b, a * b)
    values, vectors = np.linalg.eigh(beta * np.eye(a * b) - square)
    states = vectors[:, values < 0.5]  # the next eigenvalue is at least 2
    return Configurations(up, down, states.reshape(a, b, -1))
