"""Canonical state points of two fluids: `python tests/fluid_points.py` writes the tables of `test_fluid_equations`.

Chains of hybrid Monte Carlo as in `test_physical_validation`, in single precision; U/N and P in double. Some 20 minutes
on one core. Columns: ρ, T, p, e and the covariance of (p, e) from the means of the chains; n, largest split R̂; q₁, the
population of the upper state, with its error. e is the internal energy per particle with 3T/2; mass, σ and ε are 1.
"""

import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxmd_iz as iz
from jaxmd_iz.build.lattice import scatter
from jaxmd_iz.diagnostics import split_r_hat
from jaxmd_iz.ensemble import advance_chains, start_chains
from jaxmd_iz.surfaces import virial

DATA = Path(__file__).parent / "data"
HEADER = "density,temperature,pressure,energy,var_p,cov_pe,var_e,n,r_hat,excited,excited_err"

# Lennard-Jones, r_c = 3 with long-range corrections; outside the binodal, which is ρ* 0.0142 and 0.752 at T* = 0.9,
# 0.0297 and 0.701 at 1.0; liquid a little beyond freezing does not freeze in such runs
LENNARD_JONES = [
    *((0.85, 0.7), (0.88, 0.7), (0.80, 0.8), (0.85, 0.8), (0.91, 0.8), (0.76, 0.9)),
    *((0.82, 0.9), (0.92, 0.9), (0.71, 1.0), (0.35, 1.5), (0.60, 1.3), (0.90, 1.0), (0.2, 1.5)),
    *((0.03, 1.0), (0.90, 0.9), (0.89, 0.85), (0.05, 1.15), (0.87, 0.9)),
]
LENNARD_JONES_PARTICLES = 216
# Two states: repulsive pairs, so that there is one phase, and few particles: the gap Δ is shared by all of them
TWO_STATE = [(rho, t) for rho in (0.3, 0.42, 0.55) for t in (0.35, 0.5, 0.7, 0.95, 1.35, 2.0)]
TWO_STATE_PARTICLES, GAP = 16, 1.6


def two_state_fluid(n: int = TWO_STATE_PARTICLES) -> iz.TwoStateFluid:
    """r⁻¹² pairs, whose free energy is T F(ρT^{−1/4}); Δ = 1.6; δ raises the upper state with the density."""
    pairs = iz.SoftSphere(1.0, 1.0, 12, cutoff=1.5, truncation="shift")
    return iz.TwoStateFluid(pairs, iz.Gaussian(0.1, 0.25, 1.2), iz.Gaussian(0.25, 0.25, 1.1), GAP, n, cutoff=1.45)


def lennard_jones() -> iz.LennardJones:
    """Lennard-Jones cut at 3 with long-range corrections, as in the NIST tables."""
    return iz.LennardJones(1.0, 1.0, cutoff=3.0, truncation="cut", tail=True)


@eqx.filter_jit
def look(double, canonical, x):
    """Σ_j w_j λ_j, Σ_j w_j tr ∂λ_j/∂strain and w of the last state, of every configuration."""

    def one(x):
        e = double.edges(x)
        w = canonical.weights(double, x)
        strain = [jnp.trace(virial(double.potential, e, double.masses, k, "none")) for k in range(double.states)]
        return jnp.stack([jnp.sum(w * double.levels(x)), jnp.sum(w * jnp.stack(strain)), w[-1]])

    return jax.lax.map(one, x.astype(jnp.float64), batch_size=4)


def measured(potential, n: int, density: float, temperature: float, sampling, draws: int, every: int, seed: int):
    """A row of the table: chains measured `draws` times every `every` proposals after the burn-in."""
    space = iz.Periodic([(n / density) ** (1 / 3)] * 3)
    kinds = {"correction": "none"} if potential.states > 1 else {}
    single, double = (iz.System(potential, space, jnp.ones(n, t), **kinds) for t in (jnp.float32, jnp.float64))
    canonical, exact = (iz.Canonical(jnp.asarray(temperature, t)) for t in (jnp.float32, jnp.float64))
    rng = np.random.default_rng(seed)
    starts = np.stack([scatter(space.matrix, n, rng) for _ in range(sampling.samples)])

    first = jnp.asarray(starts, jnp.float32)
    chains, keys = start_chains(single, canonical, sampling, first, jax.random.key(seed), None)
    seen = []
    for at in range(0, sampling.burn_in + every * draws, every):
        chains, _, _ = advance_chains(single, canonical, sampling, chains, keys, jnp.asarray(at), every, None)
        if at >= sampling.burn_in:
            seen.append(np.asarray(look(double, exact, chains.x)))
    u, w, excited = np.moveaxis(np.stack(seen, axis=1), -1, 0)
    tail_u = tail_p = 0.0
    if potential.states == 1:
        tail_u, tail_p = (
            float(f(jnp.array([n]), space.volume)) for f in (potential.tail_energy, potential.tail_pressure)
        )
    energies = 1.5 * temperature + (u + tail_u) / n
    pressures = density * temperature - w / (3 * space.volume) + tail_p
    trace = np.stack([pressures, energies, excited], axis=-1)
    mean, cov = trace.mean(axis=(0, 1)), np.cov(trace.mean(axis=1).T) / len(trace)
    r_hat = float(np.max(split_r_hat(trace[..., :2])))
    return [density, temperature, *mean[:2], cov[0, 0], cov[0, 1], cov[1, 1], n, r_hat, mean[2], cov[2, 2] ** 0.5]


def table(name: str, points, row) -> None:
    """Writes data/`name`.csv, a line as soon as a point is done; one that is begun already is continued."""
    file = DATA / f"{name}.csv"
    done = len(file.read_text().splitlines()) - 1 if file.exists() else -1
    with file.open("a") as out:
        if done < 0:
            out.write(HEADER + "\n")
        for k, (density, temperature) in enumerate(points):
            if k >= done:
                out.write(",".join(f"{v:.8g}" for v in row(k, density, temperature)) + "\n")
                out.flush()


def lennard_jones_row(k: int, density: float, temperature: float, draws: int = 120):
    """A state point of Lennard-Jones."""
    sampling = iz.Sampling(16, burn_in=120, leapfrog=20, step=0.02)
    return measured(lennard_jones(), LENNARD_JONES_PARTICLES, density, temperature, sampling, draws, 3, k + 1)


def two_state_row(k: int, density: float, temperature: float, draws: int = 800):
    """A state point of the two-state fluid."""
    sampling = iz.Sampling(96, burn_in=200, leapfrog=12, step=0.02)
    return measured(two_state_fluid(), TWO_STATE_PARTICLES, density, temperature, sampling, draws, 2, k + 1)


def main() -> None:
    """Both tables, or those named in the command line."""
    tables = {
        "two_state_points": (TWO_STATE, two_state_row),
        "lennard_jones_points": (LENNARD_JONES, lennard_jones_row),
    }
    for name in sys.argv[1:] or tables:
        table(name, *tables[name])


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    sys.exit(main())
