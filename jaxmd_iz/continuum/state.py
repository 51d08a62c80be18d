"""States on a line of cells, their primitive variables, and the cells beyond the ends."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmd_iz.checks import must, one_of
from jaxmd_iz.equation_of_state.base import AbstractEquationOfState, Values

BOUNDARIES = ("periodic", "wall", "outflow")
GHOSTS = 2  # cells beyond each end that a reconstruction on both sides of a face needs


class State1D(eqx.Module):
    """Cell means of the conserved densities, on N cells along x; leading axes are allowed in what `solve` returns.

    Args:
        rho: (N,) ρ, mass/lengthᴰ.
        momentum: (N, C) ρu, C = 1, 2 or 3 components, x first.
        energy: (N,) E = ρ(e + |u|²/2), energy/lengthᴰ.

    Raises:
        InputError: shapes that do not fit.
    """

    rho: Float[Array, "*t N"]
    momentum: Float[Array, "*t N C"]
    energy: Float[Array, "*t N"]

    def __check_init__(self):
        shape = getattr(self.rho, "shape", None)
        if shape is None or getattr(self.momentum, "shape", None) is None:
            return  # a tree of something else, as transformations make them
        m = self.momentum.shape
        must(len(m) == len(shape) + 1 and m[:-1] == shape and 1 <= m[-1] <= 3, "momentum",
             f"have shape {(*shape, 'C')} with C = 1, 2 or 3", f"it is {m}")  # fmt: skip
        must(self.energy.shape == shape, "energy", f"have shape {shape}", f"it is {self.energy.shape}")

    @classmethod
    def from_primitive(cls, rho, velocity, temperature, eos: AbstractEquationOfState) -> "State1D":
        """The state with ρ (N,), u (N, C) and T (N,), of one fluid."""
        rho, velocity, temperature = (jnp.asarray(a) for a in (rho, velocity, temperature))
        energy = rho * (eos.energy(rho, temperature) + 0.5 * jnp.sum(velocity**2, axis=-1))
        return cls(rho, rho[..., None] * velocity, energy)

    @property
    def velocity(self) -> Float[Array, "*t N C"]:
        """u = m/ρ."""
        return self.momentum / self.rho[..., None]

    def temperature(self, eos: AbstractEquationOfState, guess: Values = 1.0) -> Float[Array, "*t N"]:
        """T with e(ρ, T) = E/ρ − |u|²/2; `guess` as in the equation of state."""
        kinetic = 0.5 * jnp.sum(self.velocity**2, axis=-1)
        return eos.temperature(self.rho, self.energy / self.rho - kinetic, guess)


class Primitive(NamedTuple):
    """ρ, u and T at cells or at one side of faces."""

    rho: Float[Array, " N"]
    u: Float[Array, "N C"]
    t: Float[Array, " N"]


def boundaries(boundary: str | tuple[str, str]) -> tuple[str, str]:
    """The conditions at the left and the right end.

    Raises:
        InputError: an unknown name, or `periodic` at one end only.
    """
    pair = (boundary, boundary) if isinstance(boundary, str) else tuple(boundary)
    must(len(pair) == 2, "boundary", "be one name or two", f"it holds {len(pair)}")
    left, right = (one_of(b, "boundary", BOUNDARIES) for b in pair)
    both = (left == "periodic") == (right == "periodic")
    must(both, "boundary", "be `periodic` at both ends or at none", f"it is `{left}` and `{right}`")
    return left, right


def extended(cells: Primitive, ends: tuple[str, str]) -> Primitive:
    """The cells with `GHOSTS` more at each end: the other end, a mirror image with u_x reversed, or copies of the last.

    A wall is impermeable, adiabatic and without friction.
    """
    if ends[0] == "periodic":
        return Primitive(*(jnp.concatenate([a[-GHOSTS:], a, a[:GHOSTS]]) for a in cells))

    def beyond(end: str, near: Primitive) -> Primitive:
        """Ghosts from the inside out, of cells from the end inwards."""
        if end == "outflow":
            return Primitive(*(jnp.repeat(a[:1], GHOSTS, axis=0) for a in near))
        return near._replace(u=near.u.at[:, 0].multiply(-1))

    left = beyond(ends[0], Primitive(*(a[:GHOSTS] for a in cells)))
    right = beyond(ends[1], Primitive(*(a[::-1][:GHOSTS] for a in cells)))
    return Primitive(*(jnp.concatenate([l[::-1], a, r]) for l, a, r in zip(left, cells, right, strict=True)))
