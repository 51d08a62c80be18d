"""The local Gibbs density that has given macroscopic fields: matching (6.2) with samples of its own chains."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxmd_iz.checks import must
from jaxmd_iz.chunks import ListKeeper, progress_bar, wants_list
from jaxmd_iz.distributed import everywhere
from jaxmd_iz.dual import configurations
from jaxmd_iz.local_gibbs import Cells, LocalGibbs, Natural, natural
from jaxmd_iz.matching import Data, Matched, match
from jaxmd_iz.pieces import on_all_devices
from jaxmd_iz.sampled import relaxation, run_chains
from jaxmd_iz.sampling import Sampling
from jaxmd_iz.system import System


class Initial(NamedTuple):
    """A density with the fields that were asked for, how well it has them, and samples of it."""

    density: LocalGibbs
    matched: Matched
    x: Float[Array, "chains n D"]
    r_hat: float | None  # of Φ over the second half of the last round's proposals


def first_guess(data: Data, beta_0) -> Natural:
    """θ of the ideal gas without correlations: β from T or β₀, u from m/ρ, and ν of constant density."""
    count = data.rho.shape[0]
    temperature = jnp.full(count, 1 / beta_0, data.rho.dtype) if data.temperature is None else data.temperature
    u = data.momentum / data.rho[:, None]
    guess = natural(temperature, u, jnp.zeros(count, data.rho.dtype))
    return Natural(guess.beta, guess.beta_u, guess.nu - jnp.mean(guess.nu))


@on_all_devices
def matched_density(
    system: System,
    cells: Cells,
    data: Data,
    x: Float[Array, "*chains n D"],
    *,
    temperature: float | Float[Array, ""],
    key: PRNGKeyArray,
    sampling: Sampling | None = None,
    start: Natural | None = None,
    neighbours: str = "auto",
    progress: bool = False,
    pulse: Callable[[], Any] = lambda: None,
    **options: Any,
) -> Initial:
    """The local Gibbs density with ⟨(E, m, ρ)⟩ = data at every point, to Monte Carlo error.

    Args:
        system: potential, space, masses, surfaces.
        cells: macroscopic points.
        data: ρ, m and E or T there, densities per volume.
        x: (n, D) start of every chain, or (chains, n, D).
        temperature: T₀ = 1/β₀ of V_b and where no point reaches, energy.
        key: PRNG key.
        sampling: `samples` chains with `burn_in` proposals in each round; 128 and 60 of 16 steps by default. Every
            round goes on from the positions of the last one.
        start: first θ; by default that of an ideal gas.
        neighbours: `auto`, `dense` or `list`.
        progress: show a progress bar.
        pulse: called between two chunks of proposals; what it raises ends the matching.
        options: of `matching.match`, such as `tolerance` and `rounds`.

    Returns:
        Initial; look at `matched.converged`, and at `r_hat`: chains that move little can agree by chance.

    Raises:
        InputError: data that no density has, and what `match` refuses.
    """
    sampling = Sampling(128, 60, leapfrog=16) if sampling is None else sampling
    must(sampling.burn_in >= 1, "sampling", "have a `burn_in` of 1 or more", f"it is {sampling.burn_in}")
    must(sampling.states == "together", "sampling", "have `states = together`", f"it has `{sampling.states}`")
    beta_0 = 1 / jnp.asarray(temperature, x.dtype)
    lists = ListKeeper(system, wants_list(system, x.shape[-2], neighbours), 0.3 * system.potential.cutoff)
    now: dict[str, Any] = {
        "x": jnp.broadcast_to(x, (sampling.samples, *x.shape[-2:])),
        "step": jnp.asarray(sampling.step, x.dtype),
    }
    bar = progress_bar(progress, sampling.burn_in)

    def draw(theta, number):
        density = LocalGibbs(cells, theta, beta_0)
        using = _with_step(sampling, now["step"])
        mine = jax.random.fold_in(key, number)
        chains, now["trace"] = run_chains(system, density, using, now["x"], mine, lists, bar, keep=lambda _: pulse())
        now["x"], now["step"] = chains.x, jnp.median(chains.step)
        return everywhere(configurations(system, cells, chains.x, lists.build(chains.x)))

    first = first_guess(data, beta_0) if start is None else start
    try:
        found = match(data, cells, beta_0, system.masses, draw, first, **options)
    finally:
        bar.close()
    return Initial(LocalGibbs(cells, found.theta, beta_0), found, now["x"], relaxation(now["trace"])["r_hat"])


def _with_step(sampling: Sampling, step) -> Sampling:
    numbers = jax.tree.map(lambda a: jnp.asarray(a, step.dtype), sampling)
    return eqx.tree_at(lambda s: s.step, numbers, step)
