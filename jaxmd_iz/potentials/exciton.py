"""The Frenkel exciton fluid of section 11: n particles in D dimensions, one of which is excited, d = n states."""

import math
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmd_iz.checks import must, must_be_number
from jaxmd_iz.potentials.base import AbstractDistancePotential, AbstractPairPotential, rows
from jaxmd_iz.shapes import Scalar

ONSET = 0.8  # of the cutoff: where the window begins to close


def _real(value) -> Float[Array, "..."]:
    return jnp.asarray(value, float)


class Dipolar(eqx.Module):
    """Coupling of two transition dipoles, finite at contact: J(r) = J₀ (1 + r²/r₀²)^{−3/2} → J₀ (r₀/r)³.

    Args:
        amplitude: J₀, an energy in any coherent units, of either sign.
        length: r₀, a length: about the size of a particle.

    Raises:
        InputError: parameters that are not finite numbers, or a length that is not positive.
    """

    amplitude: Scalar = eqx.field(converter=_real)
    length: Scalar = eqx.field(converter=_real)

    def __check_init__(self):
        must_be_number("amplitude", self.amplitude)
        must_be_number("length", self.length, positive=True)

    def __call__(self, r: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """J(r), in the dtype of r."""
        u = r / self.length.astype(r.dtype)
        return self.amplitude.astype(r.dtype) * (1.0 + u * u) ** -1.5


def _window(r2: Float[Array, "*b"], cutoff: float) -> Float[Array, "*b"]:
    """1 below 0.8 r_c and 0 from r_c on, with two continuous derivatives: (1 − t)³(1 + 3t + 6t²), t linear in r²."""
    if math.isinf(cutoff):
        return jnp.ones_like(r2)
    t = jnp.clip((r2 / cutoff**2 - ONSET**2) / (1.0 - ONSET**2), 0.0, 1.0)
    return (1.0 - t) ** 3 * (1.0 + 3.0 * t + 6.0 * t * t)


class ExcitonFluid(AbstractDistancePotential):
    """Frenkel excitons in a fluid: V_nm = (E₀ + Σ_pairs φ(r) + Σ_l S(r_nl)) δ_nm + J(r_nm).

    In state n particle n is excited. Each particle takes half of its bonds: Vⁿ = ½ Σ_m φ I + E₀ e_n e_nᵀ
    + ½ Σ_m [S(r_nm)(e_n e_nᵀ + e_m e_mᵀ) + J(r_nm)(e_n e_mᵀ + e_m e_nᵀ)], so Vⁿ has its entries on the
    diagonal, in row n and in column n. J and S close smoothly at the cutoff.

    Source: J. Frenkel, Phys. Rev. 37, 17 (1931); this fluid is section 11's.

    Args:
        base: φ of the ground state, a pair potential of one state, such as `LennardJones`.
        coupling: J, a function of r such as `Dipolar` or `Gaussian`.
        site_energy: E₀, an energy in any coherent units.
        particles: n, the number of particles and of states.
        shift: S, what a neighbour adds to the excitation energy, such as `Gaussian`; none if left out.
        cutoff: range of J and S, a length; that of `base` if left out.

    Raises:
        InputError: a base of several states, a site energy that is not a finite number, fewer than two
            particles, or a cutoff that is not positive; at the first use, another number of particles.
    """

    base: AbstractPairPotential
    coupling: Callable[[Array], Array]
    site_energy: Scalar
    shift: Callable[[Array], Array] | None
    particles: int = eqx.field(static=True)
    exciton_cutoff: float = eqx.field(static=True)
    own_bonds: ClassVar[bool] = True
    invariant: ClassVar[bool] = True
    complex: ClassVar[bool] = False
    triangles: ClassVar[bool] = False

    def __init__(
        self,
        base: AbstractPairPotential,
        coupling: Callable[[Array], Array],
        site_energy,
        particles: int,
        shift: Callable[[Array], Array] | None = None,
        cutoff: float | None = None,
    ):
        must(base.states == 1, "base", "have one state", f"it has {base.states}")
        must(particles > 1, "particles", "be at least 2", f"it is {particles}")
        self.base, self.coupling, self.shift = base, coupling, shift
        self.site_energy, self.particles = _real(site_energy), particles
        self.exciton_cutoff = float(base.cutoff if cutoff is None else cutoff)
        must(self.exciton_cutoff > 0, "cutoff", "be positive", f"it is {self.exciton_cutoff}")
        must_be_number("site_energy", self.site_energy)

    @property
    def cutoff(self):
        """The larger of the ranges of φ and of J and S."""
        return max(self.base.cutoff, self.exciton_cutoff)

    @property
    def states(self):
        """d = n."""
        return self.particles

    def partition(self, e):
        """Vⁿ, (n, n, n)."""
        n = e.x.shape[0]
        must(n == self.particles, "x", f"hold {self.particles} particles", f"it holds {n}")
        return jax.vmap(self.on_distances)(rows(e, self.triangles))

    def on_distances(self, row):
        """Vⁿ of one particle, (n, n)."""
        r2, n = row.r2, self.particles
        r = jnp.sqrt(jnp.maximum(r2, jnp.finfo(r2.dtype).tiny ** 0.5))
        half = jnp.where(row.mask, 0.5 * _window(r2, self.exciton_cutoff), 0.0)
        hop = half * self.coupling(r)
        site = jnp.zeros_like(r) if self.shift is None else half * self.shift(r)
        # ½ J to column m of row n, ½ S to the diagonal at m; as a product, since the derivative of a scatter that meets
        # that of `eigh` is miscompiled by the CPU backend of jaxlib 0.10.1 (5e-4 in ∇λ at n = 32)
        ends = (row.to[:, None] == jnp.arange(n)[None, :]).astype(r.dtype)
        j, s = hop @ ends, site @ ends
        here = (jnp.arange(n) == row.index).astype(r.dtype)
        ground = self.base.on_distances(row).astype(r.dtype)
        diagonal = ground + s + here * (self.site_energy.astype(r.dtype) + jnp.sum(site))
        return jnp.diag(diagonal) + here[:, None] * j[None, :] + j[:, None] * here[None, :]
