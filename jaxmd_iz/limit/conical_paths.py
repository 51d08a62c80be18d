"""Molecular dynamics of the E×e Jahn–Teller model, V = ½ρ² I + k[[x, y],[y, −x]], close to its conical intersection.

λ_± = ½ρ² ± kρ and |∇α|² = 1/ρ², so λ̄_± = λ_± + κ/(4Mρ²) (5.28), and everything depends on ρ, p_r and p_φ alone:
correlations start at (ρ, 0) with momentum (p_r, p_φ), p_φ > 0. The term κ/(4Mρ²) is a centrifugal one: with it ρ(τ)
is that of the trajectory on λ_± with p_φ² + κ/(2Mρ²) in place of p_φ² at τ = 0, and the angle is shorter by the ratio
of the two momenta. So all trajectories are run on λ_±, whose force is finite at the tip.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxmd_iz.checks import fail, one_of
from jaxmd_iz.limit.classical import CORRECTIONS
from jaxmd_iz.nonlinear import KAPPA
from jaxmd_iz.quantum.panels import panels

BATCH = 4096  # trajectories run together
NEAR, TIP = 0.2, 2e-3  # no step is longer than this share of ρ; the least ρ that counts
# Omelyan, Mryglod, Folk, Comput. Phys. Commun. 146, 188 (2002): fourth order, four forces a step
XI, LAMBDA, CHI = 0.1786178958448091, -0.2123418310626054, -0.06626458266981849


def levels(
    rho: Float[np.ndarray, " R"], coupling: float = 1.0, kappa_over_mass: float = 0.0
) -> Float[np.ndarray, "2 R"]:
    """λ̄_∓ = ½ρ² ∓ kρ + κ/(4Mρ²) (5.28), stacked in front, the lower one first.

    Args:
        rho: distances ρ > 0 from the intersection.
        coupling: k.
        kappa_over_mass: κ/M.
    """
    common = rho**2 / 2
    if kappa_over_mass:
        common = common + kappa_over_mass / (4 * rho**2)
    return np.stack([common - coupling * rho, common + coupling * rho])


def farthest(temperature: float, coupling: float, tolerance: float) -> float:
    """ρ beyond which e^{−β(λ_− + ½k²)} is below the tolerance."""
    return coupling + math.sqrt(-2 * temperature * math.log(tolerance))


class Points(NamedTuple):
    """Trajectories of one quadrature: where they are, and what each of them counts."""

    x: Float[Array, "B 2"]
    p: Float[Array, "B 2"]
    angle: Float[Array, " B"]  # turned since τ = 0
    slope: Float[Array, " B"]  # ±k, of λ_± = ½ρ² ± kρ
    start: Float[Array, " B"]  # ρ at τ = 0
    share: Float[Array, " B"]  # p_φ over the momentum run with
    weight: Float[Array, " B"]


def start(
    mass: float, temperature: float, correction: str, coupling: float = 1.0, points: int = 48, tolerance: float = 1e-9
) -> Points:
    """Quadrature points (ρ, p_r, p_φ) on every surface, with the weights of (5.17)–(5.18).

    Args:
        mass, temperature, correction, coupling: as in `statics`; not `second_order`, which has no dynamics.
        points: Gauss–Legendre points for √(−2T log tolerance) of p_r; the whole of p_r has twice as many, ρ half as
            many in that length, p_φ a third. 48 leave about 1e-5 at τ = 4: velocities have a kink at the tip.
        tolerance: relative weight of what is left out.

    Raises:
        InputError: `second_order`, or a name that is not known.
    """
    one_of(correction, "correction", CORRECTIONS)
    if correction == "second_order":
        fail("correction", "have surfaces to run on", "it is `second_order`, a weight for functions of x at τ = 0")
    t, k = temperature, coupling
    kappa = KAPPA.get(correction, 0.0)
    reach = math.sqrt(-2 * t * math.log(tolerance))
    first = 0.3 * math.sqrt(kappa / (mass * t)) if kappa else reach / 2  # λ̄ rises steeply towards the tip
    rho, d_rho = panels(first, k + reach, reach / 2, points // 4)
    out, d_out = panels(reach, reach, reach, points)
    radial, d_radial = np.concatenate([-out, out]), np.concatenate([d_out, d_out])
    u, d_u = panels(1.0, 1.0, 1.0, points // 3)
    across, d_across = reach * u**3, 3 * reach * u**2 * d_u  # close to 0, where trajectories graze the tip
    each = np.exp(-(levels(rho, k, kappa / mass) + k**2 / 2) / t) * rho * d_rho
    if correction == "mean_field":
        each = each.sum(axis=0, keepdims=True)
    elif correction == "ground":
        each = each[:1]
    gauss = np.exp(-(radial[:, None] ** 2 + across[None, :] ** 2) / (2 * t))
    size = each[:, :, None, None] / (rho * d_rho)[:, None, None] * gauss
    s, i, j, m = np.nonzero(size > tolerance * size.max())
    weight = each[s, i] * d_radial[j] * d_across[m] * gauss[j, m]
    run = np.sqrt(across[m] ** 2 + kappa / (2 * mass * rho[i] ** 2))
    zero = np.zeros(len(s))
    return Points(
        jnp.asarray(np.stack([rho[i], zero], axis=1)),
        jnp.asarray(np.stack([radial[j], run], axis=1)),
        jnp.asarray(zero),
        jnp.asarray(np.where(s == 0, -k, k)),
        jnp.asarray(rho[i]),
        jnp.asarray(across[m] / run),
        jnp.asarray(weight / weight.sum()),
    )


def advance(of: Points, time: float, mean_field_beta: float | None = None, step: float = 0.1) -> Points:
    """The points a time τ later, by a fourth-order symplectic scheme with steps in proportion to ρ near the tip.

    Args:
        of: the points; β of a mean field if they run on one.
        time: τ ≥ 0.
        mean_field_beta: β for λ_* = Σ_j λ_j e^{−βλ_j}/Σ_j e^{−βλ_j} = ½ρ² − kρ tanh βkρ.
        step: the longest step.
    """
    if time == 0:
        return of
    count = of.weight.shape[0]
    groups = -(-count // BATCH)
    padding = groups * BATCH - count
    moving = jax.tree.map(
        lambda a: jnp.concatenate([a, jnp.repeat(a[:1], padding, axis=0)]).reshape(groups, BATCH, *a.shape[1:]),
        (of.x, of.p, of.angle, of.slope),
    )
    beta = jnp.asarray(0.0 if mean_field_beta is None else mean_field_beta)
    x, p, angle = _run(moving, jnp.asarray(time), jnp.asarray(step), beta, mean_field_beta is not None)
    x, p, angle = (a.reshape(-1, *a.shape[2:])[:count] for a in (x, p, angle))
    return of._replace(x=x, p=p, angle=angle)


def _force(x: Float[Array, "B 2"], slope: Float[Array, " B"], beta: Float[Array, ""], mean_field: bool) -> Array:
    """−∇λ = −(ρ + slope) x/ρ; on the mean field with y = βkρ, slope −k(tanh y + y/cosh² y)."""
    rho = jnp.sqrt(jnp.maximum(jnp.sum(x**2, axis=1), 1e-300))
    if mean_field:
        y = beta * jnp.abs(slope) * rho
        slope = -jnp.abs(slope) * (jnp.tanh(y) + y / jnp.cosh(jnp.minimum(y, 300.0)) ** 2)
    return -x * (1 + slope / rho)[:, None]


@functools.partial(jax.jit, static_argnames="mean_field")
def _run(moving, time: Float[Array, ""], step: Float[Array, ""], beta: Float[Array, ""], mean_field: bool):
    """Places, momenta and angles of all groups after a time."""

    def of_group(group):
        x, p, angle, slope = group

        def one_step(state):
            x, p, angle, t = state
            rho, speed = jnp.sqrt(jnp.sum(x**2, axis=1)), jnp.sqrt(jnp.sum(p**2, axis=1))
            near = NEAR * jnp.maximum(rho, TIP) / jnp.maximum(speed, 1e-3)
            h = step if mean_field else jnp.minimum(step, near)
            h = jnp.minimum(h, time - t)
            now = x + (XI * h)[:, None] * p
            for kick, drift in ((0.5 - LAMBDA, CHI), (LAMBDA, 1 - 2 * (CHI + XI)), (LAMBDA, CHI), (0.5 - LAMBDA, XI)):
                p = p + (kick * h)[:, None] * _force(now, slope, beta, mean_field)
                now = now + (drift * h)[:, None] * p
            cross = x[:, 0] * now[:, 1] - x[:, 1] * now[:, 0]
            angle = angle + jnp.arctan2(cross, jnp.sum(x * now, axis=1))
            return now, p, angle, jnp.where(h < time - t, t + h, time)

        still = (x, p, angle, jnp.zeros_like(angle))
        return lax.while_loop(lambda state: jnp.any(state[3] < time), one_step, still)[:3]

    return lax.map(of_group, moving)


def correlation(of: Points) -> float:
    """⟨x(τ)·x(0)⟩ = ⟨ρ(τ) ρ(0) cos of the angle turned⟩, with the angle of the true momentum p_φ."""
    rho = jnp.sqrt(jnp.sum(of.x**2, axis=1))
    return float(jnp.sum(of.weight * of.start * rho * jnp.cos(of.share * of.angle)))
