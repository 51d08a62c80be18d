"""What the classical limit is measured on: a model in the scaling of section 5, on the quantum and the classical side.

Ĥ = Σ p̂ⁿ²/2m_n + V(x) + V_b(x) with ħ = M^{−1/2}, m_n = M_n/M of order one and the time τ = M^{−1/2}t. The molecular
dynamics of (5.17) is run with the same numbers; only the terms κ/M_n see M.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Inexact

from jaxmd_iz.checks import must
from jaxmd_iz.potentials.base import AbstractMovingFrame, AbstractPotential, displaced, matrix_partition, matrix_total
from jaxmd_iz.potentials.external import AbstractExternal, external_gradient
from jaxmd_iz.quantum.grid import Grid, around
from jaxmd_iz.space import Edges, Free


class Problem(eqx.Module):
    """Particles with a potential in free space, nD ≤ 2 coordinates in all, and how they are set in motion.

    Args:
        potential: Vⁿ(x), in an electron basis that does not move.
        start: (n, D) a place near the minimum.
        masses: (n,) m_n = M_n/M; 1 by default.
        external: V_b, or None where V itself confines.
        push: (D,) a force on every particle before τ = 0: fields start from the Gibbs density of
            V + V_b + Σ_n (½ squeeze |xⁿ|² − push·xⁿ), at τ = 0 both are taken away.
        squeeze: stiffness of that trap, energy/length².

    Raises:
        InputError: more than two coordinates, an electron basis that moves, shapes that do not fit.
    """

    potential: AbstractPotential
    start: Float[Array, "n D"]
    masses: Float[Array, " n"]
    external: AbstractExternal | None
    push: Float[Array, " D"]
    squeeze: Float[Array, ""]

    def __init__(self, potential, start, masses=None, external=None, push=None, squeeze: float | Array = 0.0):
        start = jnp.asarray(start, float)
        must(start.ndim == 2, "start", "be (n, D)", f"its shape is {start.shape}")
        remedy = "Exact quantum mechanics on a grid goes no further."
        must(start.size <= 2, "start", "have one or two coordinates in all", f"there are {start.size}", remedy)
        moving = isinstance(potential, AbstractMovingFrame)
        but = "that of the lowest states of a larger problem moves"
        must(not moving, "potential", "have an electron basis that does not move", but, "Give the whole problem.")
        n, dim = start.shape
        self.potential, self.start, self.external = potential, start, external
        self.masses = jnp.ones(n) if masses is None else jnp.asarray(masses, float)
        self.push = jnp.zeros(dim) if push is None else jnp.broadcast_to(jnp.asarray(push, float), (dim,))
        self.squeeze = jnp.asarray(squeeze, float)
        must(self.masses.shape == (n,), "masses", f"have shape ({n},)", f"it is {self.masses.shape}")
        positive = isinstance(self.masses, Tracer) or bool(np.all(np.asarray(self.masses) > 0))
        must(positive, "masses", "be positive", f"they are {self.masses}")

    @property
    def space(self) -> Free:
        """Free space of D dimensions."""
        return Free(self.start.shape[1])

    @property
    def coordinate_masses(self) -> Float[Array, " C"]:
        """m of each of the C = nD coordinates."""
        return jnp.repeat(self.masses, self.start.shape[1])

    def edges(self, x: Float[Array, " C"]) -> Edges:
        """Bonds of a configuration."""
        return self.space.edges(x.reshape(self.start.shape), self.species)

    @property
    def species(self):
        """All of one kind."""
        return jnp.zeros(self.start.shape[0], int)

    def outside(self, x: Float[Array, " C"]) -> Float[Array, ""]:
        """V_b(x)."""
        if self.external is None:
            return jnp.zeros((), x.dtype)
        return jnp.sum(self.external.energy(x.reshape(self.start.shape), self.species))

    def pushed(self, x: Float[Array, " C"]) -> Float[Array, ""]:
        """Σ (½ squeeze |xⁿ|² − push·xⁿ), which is part of V_b before τ = 0."""
        return jnp.sum(x**2) * self.squeeze / 2 - jnp.sum(x.reshape(self.start.shape) * self.push[None, :])

    def matrix(self, x: Float[Array, " C"]) -> Inexact[Array, "d d"]:
        """V(x) + V_b(x) I."""
        v = matrix_total(self.potential, self.edges(x))
        return v + self.outside(x).astype(v.dtype) * jnp.eye(v.shape[0], dtype=v.dtype)

    def lowest(self, x: Float[Array, " C"]) -> Float[Array, ""]:
        """The lower of λ_0 + V_b before and after τ = 0."""
        return jnp.linalg.eigvalsh(self.matrix(x))[0] + jnp.minimum(self.pushed(x), 0.0)

    def partition(self, x: Float[Array, " C"]) -> tuple[Inexact[Array, "n d d"], Inexact[Array, "n C d d"]]:
        """Vⁿ and ∂Vⁿ/∂x_c."""
        e = self.edges(x)

        def value(u):
            return matrix_partition(self.potential, displaced(e, u.reshape(self.start.shape)))

        slope = jax.jacfwd(value)(jnp.zeros_like(x))
        return value(jnp.zeros_like(x)), jnp.moveaxis(slope, -1, 1)

    def reached(self, x: np.ndarray, allowed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Which points of a regular grid can be reached from the start: particles that cannot pass keep their order.

        Args:
            x: (N, C) points in C order.
            allowed: (N,) whether the lowest energy is below what counts.
            shape: points along each coordinate.

        Returns:
            (N,) of bool.
        """
        from scipy.ndimage import label

        parts = np.zeros(shape, int)
        label(allowed.reshape(shape), output=parts)
        parts = parts.reshape(-1)
        far = np.sum((x - np.asarray(self.start).reshape(-1)) ** 2, axis=1)
        return parts == parts[np.argmin(np.where(allowed, far, np.inf))]

    def confinement(self, x: Float[Array, " C"]) -> Float[Array, " C"]:
        """∂V_b/∂x_c."""
        return external_gradient(self.external, x.reshape(self.start.shape), self.species).reshape(-1)

    def grid(self, mass: float, temperature: float, tolerance: float) -> Grid:
        """The Fourier grid for one M, good up to one temperature.

        Args:
            mass: M.
            temperature: the highest T.
            tolerance: relative weight e^{−(E − E_min)/T} of what is left out.
        """
        start = np.asarray(self.start).reshape(-1)
        return around(self.lowest, start, temperature, mass**-0.5, np.asarray(self.coordinate_masses), tolerance)
