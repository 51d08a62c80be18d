"""Two real states with a conical intersection: the LEPS surfaces of H + H₂ of section 11, V = Σ_pairs [Q I + J H]."""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from jaxmd_iz.checks import must
from jaxmd_iz.potentials.base import AbstractDistancePotential, rows
from jaxmd_iz.shapes import Scalar
from jaxmd_iz.units import convert

ELECTRONVOLT = convert(1.0, "energy", "metal", "atomic")  # in hartree
ANGSTROM = convert(1.0, "length", "metal", "atomic")  # in bohr
# (cos, sin) of the direction of H in the plane of [[1, 0], [0, −1]] and [[0, 1], [1, 0]], by the atom that a pair
# leaves out: BC +120°, AC −120°, AB 0°
DIRECTIONS = np.array([[-0.5, math.sqrt(0.75)], [-0.5, -math.sqrt(0.75)], [1.0, 0.0]])


def _real(value) -> Float[Array, "..."]:
    return jnp.asarray(value, float)


class LepsH3(AbstractDistancePotential):
    """LEPS surfaces of three atoms A, B, C: V = Σ_pairs [Q(r) I + J(r) H], conical intersection at equal distances.

    Q, J = (¹E ± ³E)/2 with ¹E = D(z² − 2z), ³E = ½D (1 − S)/(1 + S) (z² + 2z), z = e^{−α(r − r₀)}.
    H_AB = [[1, 0], [0, −1]]; H_BC and H_AC are [[−½, ±√3/2], [±√3/2, ½]]: λ_± = ΣQ ± r with
    r² = ½[(J_AB − J_BC)² + (J_BC − J_AC)² + (J_AC − J_AB)²], the formula of London. Vⁿ takes half of each pair of n.
    Another order of the atoms turns the electron basis; λ_k and λ_kⁿ move with the atoms.
    S. Sato, J. Chem. Phys. 23, 592 (1955). The default values are H₃ in atomic units, with a collinear barrier of
    0.4157 eV on the lower surface.

    Args:
        depth: D, an energy in any coherent units.
        steepness: α, 1/length.
        distance: r₀, a length.
        sato: S, a number between −1 and 1.

    Raises:
        InputError: parameters that are not numbers in their range, other than three particles, a periodic space.
    """

    depth: Scalar = eqx.field(converter=_real, default=4.746 * ELECTRONVOLT)
    steepness: Scalar = eqx.field(converter=_real, default=1.942 / ANGSTROM)
    distance: Scalar = eqx.field(converter=_real, default=0.742 * ANGSTROM)
    sato: Scalar = eqx.field(converter=_real, default=0.136)
    cutoff: ClassVar[float] = math.inf
    states: ClassVar[int] = 2
    own_bonds: ClassVar[bool] = True
    invariant: ClassVar[bool] = True
    complex: ClassVar[bool] = False
    triangles: ClassVar[bool] = False

    def __check_init__(self):
        for name in ("depth", "steepness", "distance", "sato"):
            value = getattr(self, name)
            must(value.ndim == 0, name, "be a number", f"its shape is {value.shape}")
            if isinstance(value, Tracer):
                continue
            number = float(value)
            if name == "sato":
                must(-1 < number < 1, name, "lie between −1 and 1", f"it is {number:g}")
            else:
                must(math.isfinite(number) and number > 0, name, "be positive and finite", f"it is {number:g}")

    def integrals(self, r: Float[Array, "*b"]) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
        """Coulomb and exchange integrals Q and J of one pair.

        Args:
            r: distances.

        Returns:
            Q = (¹E + ³E)/2 and J = (¹E − ³E)/2, energies, like r.
        """
        depth, steepness, distance, sato = (
            p.astype(r.dtype) for p in (self.depth, self.steepness, self.distance, self.sato)
        )
        z = jnp.exp(-steepness * (r - distance))
        singlet = depth * (z * z - 2.0 * z)
        triplet = 0.5 * depth * (1.0 - sato) / (1.0 + sato) * (z * z + 2.0 * z)
        return (singlet + triplet) / 2, (singlet - triplet) / 2

    def on_distances(self, row):
        """Vⁿ = ½ Σ_m [Q(r_nm) I + J(r_nm) H_nm], (2, 2)."""
        least = 1e-12 * jax.lax.stop_gradient(self.distance.astype(row.r2.dtype)) ** 2
        q, j = self.integrals(jnp.sqrt(jnp.maximum(row.r2, least)))
        third = jnp.where(row.mask, 3 - row.index - row.to, 0)  # the atom that the pair leaves out
        turn = jnp.asarray(DIRECTIONS, q.dtype)[third]
        mean, a, b = (0.5 * jnp.sum(jnp.where(row.mask, t, 0.0)) for t in (q, j * turn[:, 0], j * turn[:, 1]))
        return jnp.array([[mean + a, b], [b, mean - a]])

    def partition(self, e):
        """Vⁿ, (3, 2, 2)."""
        n = e.x.shape[0]
        must(n == 3, "x", "hold three particles for `LepsH3`", f"it holds {n}")
        must(math.isinf(e.reach), "space", "be free for `LepsH3`, whose range is infinite", "it is periodic")
        return jax.vmap(self.on_distances)(rows(e, self.triangles))
