"""The dual of the maximum-entropy problem (6.2) on sampled positions, with momenta and states summed out exactly.

Φ(θ) = log Z(θ) − θ·data is convex in θ = (β, βu, ν) at K points (section 8), with gradient ⟨v(−E, m, ρ)⟩ − data and the
covariance of v(−E, m, ρ) as Hessian. From samples xₛ of g_ref averages at θ are those with weights
wₛ ∝ g(xₛ; θ)/g_ref(xₛ), log g = log Σ_j ∫ f_j dp: on fixed samples Φ is convex too. θ has rows β_k, βu_k, ν_k.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxmd_iz import surfaces
from jaxmd_iz.local_gibbs import Cells, Natural, at_particles, log_marginals
from jaxmd_iz.neighbours import Neighbours
from jaxmd_iz.pieces import each
from jaxmd_iz.system import System

#: Residuals below this share of the thermal spread of one configuration count as 0.
FLOOR = 1e-4


class Configurations(eqx.Module):
    """What matching needs to know of S sampled positions.

    Args:
        shares: (S, n, K) a_k(xⁿ), dimensionless.
        levels: (S, d, n) λ̄_jⁿ, energy.
        alive: (S, n) 1 for particles and 0 for empty slots; None means all 1.
    """

    shares: Float[Array, "S n K"]
    levels: Float[Array, "S d n"]
    alive: Float[Array, "S n"] | None = None


class Estimate(eqx.Module):
    """Averages over the weighted samples at one θ, P = K(D + 2) natural parameters in the order of the rows of θ."""

    log_ratio: Float[Array, ""]  # log Z(θ)/Z(θ_ref)
    mean: Float[Array, " P"]  # ∇ log Z
    covariance: Float[Array, "P P"]  # of ∇ log g over x: what is left to sampling
    hessian: Float[Array, "P P"]  # ∇² log Z: with momenta and states
    effective: Float[Array, ""]  # (Σw)²/Σw²
    slopes: Float[Array, "S P"]  # ∇ log g of each sample


class Descent(eqx.Module):
    """Where Newton's method arrived on fixed samples."""

    theta: Float[Array, "K c"]
    steps: Int[Array, ""]
    decrement: Float[Array, ""]  # √rᵀH⁺r before the last step
    effective: Float[Array, ""]


class Assessment(eqx.Module):
    """What S samples of the density of θ itself say about it."""

    residual: Float[Array, "K c"]  # averages − target
    error: Float[Array, "K c"]  # Monte Carlo standard errors of the averages
    theta_error: Float[Array, "K c"]  # √diag H⁺ΣH⁺/S
    chi2: Float[Array, ""]
    dof: Float[Array, ""]  # number of directions with Monte Carlo noise
    lost: Float[Array, ""]  # largest residual in the null directions, in thermal spreads of its kind
    growth: Float[Array, " K"]  # Newton's step of β over β
    high: Float[Array, " K"]  # largest v ρ of the samples
    low: Float[Array, " K"]  # lowest Σ_n a_k λ̄_jⁿ/Σ_n a_k M_n of the samples and states


def configurations(
    system: System, cells: Cells, x: Float[Array, "S n D"], neighbours: Neighbours | None = None
) -> Configurations:
    """a_k(xⁿ) and λ̄_jⁿ of every sample.

    Args:
        system, cells: the system and macroscopic points.
        x: (S, n, D) positions.
        neighbours: lists with leading axis S, or None for all pairs.
    """
    return Configurations(*each(_configurations, system, cells)(x, neighbours))


def _configurations(system, cells, *items):
    def one(item):
        e, m = system.edges(*item), system.masses
        return cells.shares(system.space, e.x), surfaces.partition(system.potential, e, m, system.correction)

    return lax.map(one, items, batch_size=min(items[0].shape[0], 64))


def pack(theta: Natural) -> Float[Array, "K c"]:
    """θ as (K, D + 2)."""
    return jnp.concatenate([theta.beta[:, None], theta.beta_u, theta.nu[:, None]], axis=1)


def unpack(rows: Float[Array, "K c"]) -> Natural:
    """The inverse of `pack`."""
    return Natural(rows[:, 0], rows[:, 1:-1], rows[:, -1])


def log_densities(
    theta: Float[Array, "K c"], samples: Configurations, beta_0, masses: Float[Array, " n"]
) -> Float[Array, " S"]:
    """log g = log Σ_j ∫ f_j dp of each sample, without V_b, (S,).

    Args:
        theta: (K, D + 2), as of `pack`.
        samples: S sampled positions.
        beta_0: β₀, 1/energy.
        masses: (n,) M_n.
    """
    return jax.vmap(lambda s: _log_density(theta, s, beta_0, masses))(samples)


@eqx.filter_jit
def mean_slope(
    theta: Float[Array, "K c"],
    samples: Configurations,
    beta_0,
    masses: Float[Array, " n"],
    reference: Float[Array, " S"],
) -> tuple[Float[Array, " P"], Float[Array, "S P"], Float[Array, " S"], Float[Array, ""]]:
    """∇ log Z at θ, differentiable in everything: the mean, ∇ log g of each sample, the weights and log Z(θ)/Z(θ_ref).

    Arguments as in `log_densities`, and `reference` (S,): log g_ref of the density that the samples were drawn from.
    """

    def one(sample):
        value, slope = jax.value_and_grad(_log_density)(theta, sample, beta_0, masses)
        return value, slope.ravel()

    log_g, slopes = jax.vmap(one)(samples)
    weights = jax.nn.softmax(log_g - reference)
    count = jnp.asarray(log_g.shape[0], log_g.dtype)
    return weights @ slopes, slopes, weights, jax.nn.logsumexp(log_g - reference) - jnp.log(count)


@eqx.filter_jit
def estimate(
    theta: Float[Array, "K c"],
    samples: Configurations,
    beta_0,
    masses: Float[Array, " n"],
    reference: Float[Array, " S"],
) -> Estimate:
    """log Z, its gradient and its Hessian at θ from weighted samples; arguments as in `mean_slope`."""
    mean, slopes, weights, log_ratio = mean_slope(theta, samples, beta_0, masses, reference)
    centred = slopes - mean[None, :]
    covariance = (centred * weights[:, None]).T @ centred

    def add(total, item):
        weight, sample = item
        return total + weight * _curvature(theta, sample, beta_0, masses), None

    inner, _ = lax.scan(add, jnp.zeros((*theta.shape, *theta.shape), mean.dtype), (weights, samples))
    hessian = covariance + inner.reshape(covariance.shape)
    return Estimate(log_ratio, mean, covariance, hessian, 1 / jnp.sum(weights**2), slopes)


def whitening(hessian: Float[Array, "P P"], columns: int, cut: Float[Array, ""]) -> Float[Array, "P P"]:
    """W with WWᵀ = H⁺, the pseudo-inverse, and WᵀHW = 1 or 0 on the diagonal; zero columns are the null directions.

    Each of the `columns` kinds of parameter has one scale, the root of its mean variance, so that units do not matter
    and the null direction of a fixed number of particles stays a constant shift of ν: steps keep the mean of ν.
    Eigenvalues below the share `cut` of the largest count as 0, `columns` is D + 2.
    """
    size, scale = hessian.shape[0], _spread(hessian, columns)
    found, vectors = jnp.linalg.eigh(hessian / (scale[:, None] * scale[None, :]))
    least = jnp.maximum(cut, 10 * size * jnp.finfo(hessian.dtype).eps) * found[-1]
    kept = found > least
    root = jnp.where(kept, 1 / jnp.sqrt(jnp.where(kept, found, 1.0)), 0.0)
    return vectors * root[None, :] / scale[:, None]


@eqx.filter_jit
def descend(
    theta: Float[Array, "K c"],
    target: Float[Array, "K c"],
    samples: Configurations,
    beta_0: Float[Array, ""],
    masses: Float[Array, " n"],
    reference: Float[Array, " S"],
    first: Int[Array, ""],
    cut: Float[Array, ""],
    fraction: Float[Array, ""],
    steps: Int[Array, ""],
) -> Descent:
    """Newton's method for Φ on fixed samples, until it stands still, weights are uneven or a β_k has moved 16-fold.

    A step is at most what doubles a density ρ_k or changes a β_k fourfold; then it is halved until B > 0 at every
    particle of every sample and Φ has decreased.

    Args:
        theta: where to start.
        target: averages v_k(−E, m, ρ) to reach.
        samples, beta_0, masses, reference: as in `mean_slope`.
        first: 0, or 1 to keep β.
        cut: as in `whitening`.
        fraction: stop when the effective number of samples is below this share of S; 0 to go on in any case.
        steps: at most.
    """
    eps, origin, count = jnp.finfo(theta.dtype).eps, theta, samples.shares.shape[0]

    def attempt(theta, est, move, slope, t):
        new = theta + t * move
        change = new[:, 0] / theta[:, 0]
        big_b = beta_0 + samples.shares @ (new[:, 0] - beta_0)
        log_g = log_densities(new, samples, beta_0, masses)
        ratio = log_g - reference
        total = jax.nn.logsumexp(ratio)
        gain = total - jnp.log(jnp.asarray(count, ratio.dtype)) - est.log_ratio - t * jnp.sum(move * target)
        rounding = 8 * eps * jnp.max(jnp.abs(log_g))
        good = jnp.all((change >= 0.25) & (change <= 4)) & (jnp.min(big_b) > 0) & (gain <= 1e-4 * t * slope + rounding)
        return new, good, jnp.exp(2 * total - jax.nn.logsumexp(2 * ratio))

    def body(carry):
        at, _ = carry
        theta = at.theta
        est = estimate(theta, samples, beta_0, masses, reference)
        mean = est.mean.reshape(theta.shape)
        move, white, _ = newton(mean - target, est.hessian, first, cut)
        decrement = jnp.linalg.norm(white)
        rise = jnp.where(mean > 0, target / jnp.where(mean > 0, mean, 1.0), 0.0)[:, -1] - 1
        largest = 1 / jnp.maximum(1.0, jnp.max(rise))

        def halve(carry):
            t = carry[0] / 2
            return t, *attempt(theta, est, move, -(decrement**2), t)

        untried = (2 * largest, theta, jnp.zeros((), bool), decrement)
        _, new, good, effective = lax.while_loop(lambda c: ~c[2] & (c[0] > 1e-6), halve, untried)
        still = (decrement <= 1e4 * eps) | ~good
        new, effective = jnp.where(still, theta, new), jnp.where(still, est.effective, effective)
        arrived = Descent(new, at.steps + jnp.where(still, 0, 1), decrement, effective)
        left = jnp.max(jnp.abs(jnp.log(new[:, 0] / origin[:, 0]))) > jnp.log(16.0)
        return arrived, still | ((fraction > 0) & (left | (effective < fraction * count)))

    zero = jnp.zeros((), theta.dtype)
    start = Descent(theta, jnp.zeros((), int), zero + jnp.inf, zero)
    return lax.while_loop(lambda c: ~c[1] & (c[0].steps < steps), body, (start, jnp.zeros((), bool)))[0]


@eqx.filter_jit
def assess(
    theta: Float[Array, "K c"],
    target: Float[Array, "K c"],
    samples: Configurations,
    beta_0: Float[Array, ""],
    masses: Float[Array, " n"],
    first: Int[Array, ""],
    cut: Float[Array, ""],
) -> Assessment:
    """χ² = rᵀ(Σ/S)⁺r of samples of the density of θ, which are not fitted to it; arguments as in `descend`.

    With Hotelling's factor, so that its mean is dof at the exact θ; without noise `FLOOR` takes its place.
    """
    count, shape = samples.shares.shape[0], theta.shape
    est = estimate(theta, samples, beta_0, masses, log_densities(theta, samples, beta_0, masses))
    residual = est.mean.reshape(shape) - target
    step, white, w = newton(residual, est.hessian, first, cut)
    lost = (residual.ravel() - est.hessian @ (w @ white)) / _spread(est.hessian, shape[1])
    covariance = est.covariance / (count - 1)  # of the mean of the samples
    noise, turn = jnp.linalg.eigh(w.T @ covariance @ w)
    noise = jnp.maximum(noise, 0.0)
    dof = jnp.sum(noise / (noise + FLOOR**2))
    chi2 = jnp.sum((turn.T @ white) ** 2 / (noise + FLOOR**2)) * (count - dof - 2) / (count - 1)
    slopes = est.slopes.reshape(-1, *shape)
    levels = samples.levels if samples.alive is None else samples.levels * samples.alive[:, None, :]
    lowest = jax.vmap(lambda a, b: jnp.min(a @ b, axis=0))(levels, samples.shares)
    lowest = jnp.where(slopes[:, :, -1] > 0, lowest / jnp.maximum(slopes[:, :, -1], 1e-30), jnp.inf)
    return Assessment(
        residual=residual,
        error=jnp.sqrt(jnp.diagonal(covariance)).reshape(shape),
        theta_error=jnp.sqrt(jnp.sum((w @ turn) ** 2 * noise[None, :], axis=1)).reshape(shape),
        chi2=chi2,
        dof=dof,
        lost=jnp.max(jnp.abs(jnp.where(jnp.arange(shape[1])[None, :] >= first, lost.reshape(shape), 0.0))),
        growth=step[:, 0] / theta[:, 0],
        high=jnp.max(slopes[:, :, -1], axis=0),
        low=jnp.min(lowest, axis=0),
    )


@eqx.filter_jit
def newton(
    residual: Float[Array, "K c"], hessian: Float[Array, "P P"], first: Int[Array, ""], cut: Float[Array, ""]
) -> tuple[Float[Array, "K c"], Float[Array, " P"], Float[Array, "P P"]]:
    """The step −H⁺r, Wᵀr and W of `whitening`, with the columns of θ before `first` held."""
    shape = residual.shape
    free = jnp.broadcast_to(jnp.arange(shape[1])[None, :] >= first, shape).ravel().astype(residual.dtype)
    w = whitening(hessian * free[:, None] * free[None, :], shape[1], cut) * free[:, None]
    white = w.T @ residual.ravel()
    return -(w @ white).reshape(shape), white, w


def _spread(hessian, columns):
    """Root of the mean variance of each kind of moment, for all P of them."""
    variance = jnp.mean(jnp.diagonal(hessian).reshape(-1, columns), axis=0)
    return jnp.tile(jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), hessian.shape[0] // columns)


def _log_density(theta, sample, beta_0, masses):
    each = log_marginals(unpack(theta), beta_0, sample.shares, sample.levels, masses, sample.alive)
    return jax.nn.logsumexp(each)


def _curvature(theta, sample, beta_0, masses):
    """∇² log g of one sample, (K, c, K, c): covariance of the momenta and, along β, of the states."""
    fields, shares = unpack(theta), sample.shares
    big_b, big_u, _ = at_particles(fields, beta_0, shares)
    alive = jnp.ones_like(big_b) if sample.alive is None else sample.alive
    dim = big_u.shape[1]
    # second derivatives of M|U|²/2B − (D/2) log B in (B, U)
    over = alive * masses / big_b
    corner = over * jnp.sum(big_u**2, axis=1) / big_b**2 + alive * dim / (2 * big_b**2)
    edge = -over[:, None] * big_u / big_b[:, None]
    block = over[:, None, None] * jnp.eye(dim, dtype=big_b.dtype)[None]
    top = jnp.concatenate([corner[:, None, None], edge[:, None, :]], axis=2)
    each = jnp.concatenate([top, jnp.concatenate([edge[:, :, None], block], axis=2)], axis=1)  # (n, 1 + D, 1 + D)
    left = shares[:, :, None, None] * each[:, None, :, :]
    inner = jnp.einsum("nkab,nl->kalb", left, shares)
    # (β, β) of the states: Σ_j w_j q_j q_j − (Σ_j w_j q_j)², q_jk = −Σ_n a_k λ̄_jⁿ
    of_state = jax.nn.softmax(log_marginals(fields, beta_0, shares, sample.levels, masses, sample.alive))
    q = -(sample.levels * alive[None, :]) @ shares
    q = q - (of_state @ q)[None, :]
    inner = inner.at[:, 0, :, 0].add((q * of_state[:, None]).T @ q)
    return jnp.pad(inner, ((0, 0), (0, 1), (0, 0), (0, 1)))
