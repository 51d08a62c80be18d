"""How much a sample is worth: autocorrelation times, effective sample sizes, R̂, and weights that few samples carry.

Traces are (chains, draws, …quantities). Ranks, folding and splitting follow Vehtari, Gelman, Simpson, Carpenter &
Bürkner, Bayesian Analysis 16 (2021) 667; sums of autocorrelations Geyer, Statist. Sci. 7 (1992) 473. Summaries for
the host: float64 NumPy, whatever the type of the trace. Weights w_j and q_j* = ⟨w_j⟩ are those of (5.22).
"""

import numpy as np
from jaxtyping import Array, Float

from jaxmd_iz.checks import must

Trace = Float[Array, "chains draws *quantities"] | Float[np.ndarray, "chains draws *quantities"]
Weights = Float[Array, "samples d"] | Float[np.ndarray, "samples d"]
PerQuantity = Float[np.ndarray, "*quantities"]


def autocorrelation_time(trace: Trace) -> PerQuantity:
    """Integrated autocorrelation time, in draws: how many draws are worth one independent draw.

    τ = 1 + 2 Σ_{t>0} ρ_t = −1 + 2 Σ_k P_k, P_k = ρ_{2k} + ρ_{2k+1}, with ρ_t of all halves of chains together and the
    P_k kept while positive and made monotone. Not below 1/log₁₀(draws in all).

    Args:
        trace: one or more chains of at least 8 draws.

    Returns:
        τ of each quantity, 1 if it never changes.

    Raises:
        InputError: a trace that is too short or not finite.
    """
    return _time_and_variance(_halves(trace))[0]


def effective_sample_size(trace: Trace, rank: bool = True) -> PerQuantity:
    """How many independent draws the trace is worth: draws in all divided by τ.

    Args:
        trace: one or more chains of at least 8 draws.
        rank: of the normal scores of the ranks (bulk size, fit for heavy tails); False: of the values, as their
            mean needs it.

    Returns:
        Size for each quantity, the number of draws if it never changes.

    Raises:
        InputError: a trace that is too short or not finite.
    """
    z = _halves(trace)
    z = _normal_scores(z) if rank else z
    return np.asarray(z.shape[0] * z.shape[1] / _time_and_variance(z)[0])


def split_r_hat(trace: Trace) -> PerQuantity:
    """Whether chains agree in place and width: R̂ of halves of chains, the larger of that of ranks and of folded ranks.

    R̂² = (N − 1)/N + B/W with N draws in a half, B the variance of the means of the halves and W the mean of their
    variances. Good values are below 1.01.

    Args:
        trace: one or more chains of at least 8 draws.

    Returns:
        R̂ of each quantity: 1 if it never changes, infinite if it changes between halves alone.

    Raises:
        InputError: a trace that is too short or not finite.
    """
    halves = _halves(trace)
    folded = np.abs(halves - np.median(halves, axis=(0, 1)))
    return np.asarray(np.maximum(_r_hat(_normal_scores(halves)), _r_hat(_normal_scores(folded))))


def standard_error(trace: Trace) -> PerQuantity:
    """Standard error of the mean of all draws, autocorrelation included: √(σ²τ/draws).

    σ² = W(N − 1)/N + B as in R̂, without ranks. ±1.96 of it hold the mean of an AR(1) process 92.5, 93.6, 94.3 % of the
    time for one chain of 26, 51, 102 τ draws; several chains do better.

    Args:
        trace: one or more chains of at least 8 draws.

    Returns:
        Error of the mean of each quantity, 0 if it never changes.

    Raises:
        InputError: a trace that is too short or not finite.
    """
    halves = _halves(trace)
    tau, variance = _time_and_variance(halves)
    return np.asarray(np.sqrt(variance * tau / (halves.shape[0] * halves.shape[1])))


def weight_sizes(w: Weights) -> Float[np.ndarray, " d"]:
    """How many samples carry each state's weight: Kish's (Σw_j)²/Σw_j².

    The relative error of q_j* is √(1/size − 1/samples) for independent samples.

    Args:
        w: (samples, d) importance weights w_j(z₀) = f̄_jj/g.

    Returns:
        Size for each state, 0 if no sample has weight on it.

    Raises:
        InputError: no samples, or weights that are negative or not finite.
    """
    w = np.asarray(w, np.float64)
    must(w.shape[0] > 0, "w", "hold samples", "it is empty")
    must(bool(np.all(np.isfinite(w) & (w >= 0))), "w", "be finite and not negative", "some weights are not")
    largest = np.max(w, axis=0)
    scaled = w / np.where(largest > 0, largest, 1.0)  # squares of tiny weights would vanish
    square = np.sum(scaled**2, axis=0)
    return np.sum(scaled, axis=0) ** 2 / np.where(square > 0, square, 1.0)


def degenerate_states(w: Weights, least: float = 50.0, negligible: float = 1e-6) -> list[int]:
    """The states that matter and whose weight is carried by few samples: weight size below `least`.

    Measured for independent samples in 16 groups, 95 % bands of q_j* hold the truth 93 % of the time or more where the
    size is above 50; at 40 it can be 90 %, at 15 83 %.

    Args:
        w: (samples, d) importance weights w_j(z₀) = f̄_jj/g.
        least: samples that have to carry a state.
        negligible: states whose q_j*, as a share of Σ_k q_k*, is not above this change no average by more, and are
            left out.

    Returns:
        Their numbers, in order.

    Raises:
        InputError: no samples, or weights that are negative or not finite.
    """
    sizes = weight_sizes(w)
    q = np.mean(np.asarray(w, np.float64), axis=0)  # (5.22)
    return [int(j) for j in np.flatnonzero((sizes < least) & (q > negligible * np.sum(q)))]


def _halves(trace) -> np.ndarray:
    """(2 chains, draws/2, …) in float64; the last of an odd number of draws is left out."""
    x = np.asarray(trace, np.float64)
    must(x.shape[0] > 0 and x.shape[1] >= 8, "trace", "hold chains of 8 draws or more", f"its shape is {x.shape}")
    must(bool(np.all(np.isfinite(x))), "trace", "be finite", "it has NaN or infinite entries")
    half = x.shape[1] // 2
    return np.concatenate([x[:, :half], x[:, half : 2 * half]])


def _normal_scores(x: np.ndarray) -> np.ndarray:
    """Φ⁻¹((rank − 3/8)/(n + 1/4)) over all chains and draws together; ties share their mean rank."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    flat = x.reshape(x.shape[0] * x.shape[1], -1)
    return ndtri((rankdata(flat, axis=0) - 0.375) / (len(flat) + 0.25)).reshape(x.shape)


def _spread(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(W, B): mean variance within chains, variance of the means of chains."""
    moving = np.ptp(x, axis=1) > 0  # rounding in the mean gives a constant chain a variance
    within = np.mean(np.where(moving, np.var(x, axis=1, ddof=1), 0.0), axis=0)
    apart = np.ptp(x, axis=(0, 1)) > 0
    return np.asarray(within), np.where(apart, np.var(np.mean(x, axis=1), axis=0, ddof=1), 0.0)


def _r_hat(x: np.ndarray) -> np.ndarray:
    within, between = _spread(x)
    draws = x.shape[1]
    ratio = between / np.where(within > 0, within, 1.0)
    r_hat = np.sqrt((draws - 1) / draws + ratio)
    return np.where(within > 0, r_hat, np.where(between > 0, np.inf, 1.0))


def _time_and_variance(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """τ and the variance σ² of one draw, from (chains, draws, …) with at least two chains."""
    chains, draws = x.shape[:2]
    within, between = _spread(x)
    variance = within * (draws - 1) / draws + between
    spectrum = np.fft.rfft(x - np.mean(x, axis=1, keepdims=True), n=2 * draws, axis=1)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, n=2 * draws, axis=1)[:, :draws]
    covariance = np.mean(covariance, axis=0) / draws
    rho = 1 - (within - covariance) / np.where(variance > 0, variance, 1.0)
    rho[0] = 1.0
    even, odd = rho[0 : draws - 1 : 2], rho[1:draws:2]
    pair = even + odd
    kept = np.logical_and.accumulate(pair > 0, axis=0)
    monotone = np.minimum.accumulate(np.where(kept, pair, 0.0), axis=0)
    tau = -1 + 2 * np.sum(monotone, axis=0)
    # the first lag left out counts if it is positive: it helps where ρ_1 is negative
    end = np.minimum(np.sum(kept, axis=0), len(even) - 1)[None]
    tau = tau + np.where(np.all(kept, axis=0), 0.0, np.maximum(np.take_along_axis(even, end, axis=0)[0], 0.0))
    tau = np.maximum(tau, 1 / np.log10(chains * draws))
    return np.where(variance > 0, tau, 1.0), np.asarray(variance)
