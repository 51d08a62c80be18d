"""The same work done by other codes, where they are installed, and by the shortest JAX that does it."""

import importlib.util

import jax
import jax.numpy as jnp


def installed() -> list[str]:
    """Peers that can be imported here."""
    return [name for name in ("jax_md",) if importlib.util.find_spec(name)]


def naive_force(edge: float, cutoff: float):
    """The gradient of a plain sum over all pairs, as one writes it first: Lennard-Jones, energy-shifted."""
    shift = 4 * (cutoff**-12 - cutoff**-6)

    def energy(x):
        d = x[:, None, :] - x[None, :, :]
        d = d - edge * jnp.round(d / edge)
        own = jnp.eye(x.shape[0], dtype=bool)
        r2 = jnp.where(own, 1.0, jnp.sum(d**2, axis=-1))
        s = 1.0 / r2**3
        return 0.5 * jnp.sum(jnp.where(own | (r2 > cutoff**2), 0.0, 4 * (s * s - s) - shift))

    return lambda x: -jax.grad(energy)(x)


def jax_md_force(edge: float, cutoff: float):
    """jax-md's Lennard-Jones on all pairs, or None if it is not installed."""
    if "jax_md" not in installed():
        return None
    from jax_md import energy, quantity, space

    displacement, _ = space.periodic(edge)
    return quantity.force(energy.lennard_jones_pair(displacement, r_onset=0.8 * cutoff, r_cutoff=cutoff))
