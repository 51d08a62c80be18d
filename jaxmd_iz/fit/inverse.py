"""Inverse design: parameters of a system from measured profiles, by sampling, reweighting and Gauss–Newton steps.

A round draws fresh samples at the parameters a, and from them the values v(a) and slopes J = ∂v/∂a (`reweighting`);
the step is δ = A(t − v), A = (JᵀWJ)⁻¹JᵀW, W = 1/diag C, and its covariance A C Aᵀ, where C is that of the target t and
of the Monte Carlo noise of v. Further steps are made on the same samples while their weights allow.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from jaxmd_iz.checks import must
from jaxmd_iz.chunks import ListKeeper, progress_bar, wants_list
from jaxmd_iz.compiled import seldom
from jaxmd_iz.distributed import everywhere
from jaxmd_iz.fit.targets import Target, covariance_of, with_sums
from jaxmd_iz.gibbs import AbstractDensity
from jaxmd_iz.reweighting import actions, sensitivity
from jaxmd_iz.sampled import relaxation, run_chains
from jaxmd_iz.sampling import Sampling
from jaxmd_iz.system import System


class History(NamedTuple):
    """What each of R rounds found, of P parameters."""

    parameters: Float[np.ndarray, "R P"]  # where its samples are from
    step: Float[np.ndarray, "R P"]  # the first Gauss–Newton step from there
    error: Float[np.ndarray, "R P"]  # and its standard error
    chi2: Float[np.ndarray, " R"]  # Σ (v − t)²/C_ii of the fresh samples
    effective: Float[np.ndarray, " R"]  # share of equal samples left where the round ended


class Recovered(NamedTuple):
    """Parameters that meet a target."""

    parameters: Any  # like the first guess
    covariance: Float[Array, "P P"]  # in the order of `ravel_pytree`; errors of the target and Monte Carlo noise
    chi2: Float[Array, ""]  # Σ (v − t)²/C_ii of the final samples, after the last step
    expected: tuple[Float[Array, ""], Float[Array, ""]]  # mean and standard deviation of χ² if the model is right
    converged: bool
    history: History
    x: Float[Array, "chains n D"]  # where the chains stand
    r_hat: float | None  # of Φ in the last burn-in


@seldom
def gauss_newton(
    miss: Float[Array, " N"], slope: Float[Array, "P N"], covariance: Float[Array, "N N"]
) -> tuple[Float[Array, " P"], Float[Array, "P P"]]:
    """δ = A(t − v) and A C Aᵀ with A = (JᵀWJ)⁻¹JᵀW, W = 1/diag C; entries without an error are left out.

    Args:
        miss: t − v.
        slope: ∂v/∂a, parameters first.
        covariance: C of `miss`.
    """
    root = jnp.sqrt(_weights(covariance))
    q, upper = jnp.linalg.qr((slope * root[None, :]).T)
    a = jax.scipy.linalg.solve_triangular(upper, q.T) * root[None, :]
    return a @ miss, a @ covariance @ a.T


def recover(
    at: Callable[[Any], tuple[System, AbstractDensity]],
    start: Any,
    target: Target,
    x: Float[Array, "*chains n D"],
    *,
    observe: Callable,
    estimate: Callable = lambda averages: averages,
    key: PRNGKeyArray,
    sampling: Sampling | None = None,
    draws: int = 4,
    rounds: int = 20,
    final: int = 8,
    share: float = 0.3,
    neighbours: str = "auto",
    batch: int = 16,
) -> Recovered:
    """Parameters with which averages of a density meet a target, with their covariance.

    Rounds end when the step is below two standard errors in every parameter. Then `final` times as many samples of the
    last parameters, in as many blocks of different chains, make the last step, its error, and χ², which is as expected
    if it is below its mean plus three standard deviations. For positive parameters let `at` take logarithms.

    Errors are to first order in the noise, and slopes are noisy too: over twelve targets of four Lennard-Jones
    particles ε and σ were off by −0.1 ± 0.2 and 0.2 ± 0.4 of the errors given in the mean, and scattered by 0.7 and
    1.4 of them.

    Args:
        at: parameters ↦ system and density; only arrays may depend on the parameters.
        start: first guess, a pytree of P numbers.
        target: what to meet.
        x: (n, D) start of every chain, or (chains, n, D).
        observe, estimate, batch: as in `reweighting.average`; `estimate` gives what `target.value` is.
        key: PRNG key.
        sampling: `samples` chains with `burn_in` proposals before each draw; 64 and 30 by default. Multiples of 16
            chains keep the groups of the errors apart.
        draws: samples that each chain gives in a round; they should be a correlation time apart or more.
        rounds: at most so many.
        final: rounds' worth of samples for the last step. With less than 4 the errors come out too small.
        share: steps on the same samples end where fewer than this part of them carries the weight.
        neighbours: `auto`, `dense` or `list`.

    Returns:
        Recovered; look at `converged` and `r_hat`.

    Raises:
        InputError: numbers out of range, a target of another shape than the averages, more parameters than data.
    """
    sampling = Sampling(64, 30) if sampling is None else sampling
    must(sampling.burn_in >= 2, "sampling", "have a `burn_in` of 2 or more", f"it is {sampling.burn_in}")
    must(sampling.states == "together", "sampling", "have `states = together`", f"it has `{sampling.states}`")
    least = min(draws, rounds, final)
    must(least >= 1, "draws", "be 1 or more, as `rounds` and `final`", f"they are {draws}, {rounds} and {final}")
    must(0 < share < 1, "share", "lie between 0 and 1", f"it is {share:g}")
    numbers, back = ravel_pytree(jax.tree.map(lambda a: jnp.asarray(a, x.dtype), start))
    aim, _ = ravel_pytree(target.value)
    must(numbers.size <= aim.size, "target", f"hold {numbers.size} numbers or more", f"it holds {aim.size}")
    system, _ = at(back(numbers))
    lists = ListKeeper(system, wants_list(system, x.shape[-2], neighbours), 0.3 * system.potential.cutoff)
    chains = _Chains(sampling, jnp.broadcast_to(x, (sampling.samples, *x.shape[-2:])), lists, draws)
    potential, linear = _programs(at, back, observe, estimate, batch)
    chains.draw(*at(back(numbers)), jax.random.fold_in(key, 2 * rounds))  # to forget the start

    def look(numbers, key):
        """Fresh samples at some parameters, what they tell there, and what tells them elsewhere."""
        mine, momenta = jax.random.split(key)
        return tell(numbers, chains.draw(*at(back(numbers)), mine), momenta)

    def tell(numbers, seen, momenta):
        near = lists.build(seen)
        reference = potential(numbers, seen, near)

        def elsewhere(trial):
            """None where fewer than `share` of the samples carry the weight."""
            left = _effective(potential(trial, seen, near), reference) / seen.shape[0]
            return (linear(trial, seen, momenta, reference, near), left) if left >= share else None

        return linear(numbers, seen, momenta, reference, near), elsewhere

    told: list[tuple] = []
    for number in range(rounds):
        now, elsewhere = look(numbers, jax.random.fold_in(key, 2 * number))
        fits = now.value.shape == aim.shape
        must(fits, "target", f"hold {now.value.size} numbers, as the averages", f"it holds {aim.size}")
        total = target.covariance + now.covariance
        first, spread = gauss_newton(aim - now.value, now.slope, total)
        error = jnp.sqrt(jnp.diag(spread))
        here, left = _walk(numbers, now, elsewhere, aim, total, 0.1 * error)
        told.append((numbers, first, error, _chi2(aim - now.value, total), left))
        numbers = here
        if bool(jnp.all(jnp.abs(first) < 2 * error)):
            again = jax.random.fold_in(key, 2 * number + 1)
            keys = [jax.random.split(jax.random.fold_in(again, k)) for k in range(final)]
            seen = [chains.draw(*at(back(numbers)), mine) for mine, _ in keys]
            blocks = _by_chains(seen, sampling.samples)
            every = [tell(numbers, part, momenta)[0] for part, (_, momenta) in zip(blocks, keys, strict=True)]
            pooled, last, covariance, total = _last(every, aim, target.covariance)
            chi2 = _chi2(aim - pooled.value - last @ pooled.slope, total)
            expected = _expected(total, pooled.slope)
            numbers = numbers + last
            if bool(jnp.all(jnp.abs(last) < 3 * error)):
                done = bool(chi2 <= expected[0] + 3 * expected[1])
                return Recovered(back(numbers), covariance, chi2, expected, done, _stacked(told), *chains.end)
    expected = _expected(total, now.slope)
    return Recovered(back(numbers), spread, told[-1][3], expected, False, _stacked(told), *chains.end)


def _stacked(told):
    return History(*(np.stack([np.asarray(row[i]) for row in told]) for i in range(5)))


def _by_chains(rounds, chains):
    """As many blocks of as many samples as there are rounds, of other chains each, which know nothing of each other."""
    split = jnp.stack([a.reshape(chains, -1, *a.shape[1:]) for a in rounds], axis=1)
    return split.reshape(len(rounds), *rounds[0].shape)


def _last(every: "list[_Linear]", aim, of_target):
    """All blocks of the last samples: their mean, the step, its covariance, and that of the misses."""
    count = len(every)
    pooled: _Linear = jax.tree.map(lambda *a: sum(a) / count, *every)
    total = of_target + pooled.covariance / count
    step, covariance = gauss_newton(aim - pooled.value, pooled.slope, total)
    return pooled, step, covariance, total


def _walk(here, now, elsewhere, aim, total, least):
    """Gauss–Newton steps on the same samples, shortened until their weights allow them and χ² does not rise."""
    share = 1.0
    for _ in range(4):
        step, _ = gauss_newton(aim - now.value, now.slope, total)
        if bool(jnp.all(jnp.abs(step) < least)):
            break
        for halvings in range(10):
            trial = here + step / 2**halvings
            found = elsewhere(trial)
            if found is not None and _chi2(aim - found[0].value, total) <= _chi2(aim - now.value, total):
                break
        else:
            break
        here, (now, share) = trial, found
        if halvings > 0:
            break
    return here, share


class _Linear(NamedTuple):
    """Values, the covariance of their noise, and slopes."""

    value: Float[Array, " N"]
    covariance: Float[Array, "N N"]
    slope: Float[Array, "P N"]


def _programs(at, back, observe, estimate, batch):
    """Φ of samples at some parameters; and the averages there with their slopes."""

    @eqx.filter_jit
    def potential(numbers, x, near):
        return -jax.nn.logsumexp(-actions(*at(back(numbers)), x, near, batch), axis=1)

    @eqx.filter_jit
    def linear(numbers, x, key, reference, near):
        found = sensitivity(
            observe, lambda a: at(back(a)), numbers, x,
            key=key, reference=reference, estimate=with_sums(estimate), neighbours=near, batch=batch,
        )  # fmt: skip
        return _Linear(ravel_pytree(found.mean[0])[0], covariance_of(found.error[1]), found.slope[2])

    return potential, linear


class _Chains:
    """Chains that go on from where they stand."""

    def __init__(self, sampling: Sampling, x, lists: ListKeeper, draws: int):
        self.sampling = jax.tree.map(lambda a: jnp.asarray(a, x.dtype), sampling)
        self.x, self.lists, self.draws, self.r_hat = x, lists, draws, None

    def draw(self, system, density, key):
        """(chains · draws, n, D), those of a chain next to each other."""
        kept, traces = [], []
        for number in range(self.draws):
            mine = jax.random.fold_in(key, number)
            bar = progress_bar(False, 0)
            chains, trace = run_chains(system, density, self.sampling, self.x, mine, self.lists, bar)
            self.x = chains.x
            self.sampling = eqx.tree_at(lambda s: s.step, self.sampling, jnp.median(chains.step))
            kept.append(everywhere(chains.x))
            traces.append(trace)
        self.r_hat = relaxation(np.concatenate(traces, axis=1))["r_hat"]
        return jnp.stack(kept, axis=1).reshape(-1, *self.x.shape[1:])

    @property
    def end(self):
        """Where they stand, and R̂ of the last draws."""
        return self.x, self.r_hat


def _weights(covariance):
    own = jnp.diag(covariance)
    return jnp.where(own > 0, 1 / jnp.where(own > 0, own, 1.0), 0.0)


@seldom
def _chi2(miss, covariance):
    return jnp.sum(_weights(covariance) * miss**2)


@seldom
def _expected(covariance, slope):
    """Mean tr WC′ and standard deviation √(2 tr (WC′)²) of Σ wᵢrᵢ² after the fit: r = (1 − JA)(t − v), C′ that of r."""
    w = _weights(covariance)
    root = jnp.sqrt(w)
    q, _ = jnp.linalg.qr((slope * root[None, :]).T)
    left = root[:, None] * covariance * root[None, :]
    left = left - q @ (q.T @ left)
    left = left - (left @ q) @ q.T
    return jnp.trace(left), jnp.sqrt(2 * jnp.sum(left**2))


@seldom
def _effective(potential, reference):
    w = jax.nn.softmax(reference - potential)
    return 1 / jnp.sum(w**2)
