"""The finite-volume solver: exact solutions, linear theory, Sod's problem, conservation, gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from jaxmd_iz.checks import InputError
from jaxmd_iz.closures import LearnedClosure, NewtonFourier
from jaxmd_iz.continuum import State1D, rates, safe_step, solve
from jaxmd_iz.equation_of_state import FreeEnergySeries, IdealGas

GAS = IdealGas(dim=5)  # γ = 7/5
# attraction and repulsion to second virial order
FLUID = FreeEnergySeries(IdealGas(), jnp.array([1.2, -0.8]), ((1.0, 0.0, 0.0), (1.0, 1.0, 0.0)))
ETA, ZETA, KAPPA = 0.02, 0.01, 0.04
NEWTON = NewtonFourier(*map(jnp.asarray, (ETA, ZETA, KAPPA)))
N, STEPS = 32, 80  # of most tests, so that they share one program


def run(state: State1D, times) -> State1D:
    """Smooth flow of FLUID on a periodic line of length 1."""
    return solve(state, np.asarray(times), FLUID, NEWTON, dx=1 / N, limiter="none", steps=STEPS)


def centres(n: int):
    return (jnp.arange(n, dtype=float) + 0.5) / n


def wave(n: int, components: int = 3, size: float = 0.1) -> State1D:
    """A smooth periodic state, every field of which varies."""
    x = 2 * jnp.pi * centres(n)
    u = size * jnp.stack([jnp.sin(x), jnp.cos(x), jnp.sin(2 * x)][:components], axis=-1)
    return State1D.from_primitive(0.6 + size * jnp.cos(x + 1), u, 1.2 + size * jnp.sin(x), FLUID)


def modes(rho: float, t: float, k: float):
    """Linear theory: rates and shapes of (ρ, u_x, T) ∝ e^{ikx + λt} about rest, from the derivatives of FLUID.

    L. D. Landau, E. M. Lifshitz, Fluid Mechanics, 2nd ed. (1987), sections 49 and 79.
    """
    p_r, p_t = (float(a) for a in FLUID.pressure_slopes(rho, t))
    c_v = float(FLUID.heat_capacity_volume(rho, t))
    longitudinal = (4 / 3 * ETA + ZETA) / rho
    matrix = np.array([
        [0, -1j * k * rho, 0],
        [-1j * k * p_r / rho, -longitudinal * k**2, -1j * k * p_t / rho],
        [0, -1j * k * t * p_t / (rho * c_v), -KAPPA * k**2 / (rho * c_v)],
    ])  # fmt: skip
    values, shapes = np.linalg.eig(matrix)
    return values, shapes


def linear_state(rho: float, t: float, shape, size: float) -> State1D:
    """Re of a mode at amplitude `size`."""
    e = np.exp(2j * np.pi * np.asarray(centres(N)))
    d_rho, d_u, d_t = (jnp.asarray(np.real(size * s * e)) for s in shape)
    u = jnp.stack([d_u, 0 * d_u, 0 * d_u], axis=-1)
    return State1D.from_primitive(rho + d_rho, u, t + d_t, FLUID)


def amplitude(a):
    """2 ⟨a e^{−2πix}⟩, the complex amplitude of the longest wave."""
    return 2 * np.mean(np.asarray(a) * np.exp(-2j * np.pi * np.asarray(centres(a.shape[-1]))), axis=-1)


def test_order_is_two_by_manufactured_solutions():
    """A travelling wave in ρ, u and T, with a source from autodiff of the balance laws themselves."""
    rho0, omega = 0.6, 1.3

    def exact(x, t):
        s = 2 * jnp.pi * (x - omega * t)
        u = jnp.stack([0.3 + 0.1 * jnp.sin(s), 0.1 * jnp.cos(s), 0.1 * jnp.sin(s + 2)])
        return rho0 + 0.1 * jnp.sin(s + 1), u, 1.2 + 0.1 * jnp.cos(s)

    def conserved(x, t):
        rho, u, temp = exact(x, t)
        return jnp.concatenate([rho[None], rho * u, (rho * (FLUID.energy(rho, temp) + 0.5 * jnp.sum(u**2)))[None]])

    def flux(x, t):
        rho, u, temp = exact(x, t)
        _, du, dt = jax.jacfwd(exact)(x, t)
        grad_u, grad_t = jnp.zeros((3, 3)).at[0].set(du), jnp.zeros(3).at[0].set(dt)
        tau, q = NEWTON.fluxes(rho, temp, grad_u, grad_t)
        sigma = -FLUID.pressure(rho, temp) * jnp.eye(3)[0] + tau[0]
        moved = conserved(x, t) * u[0]
        return moved - jnp.concatenate([jnp.zeros(1), sigma, (sigma @ u - q[0])[None]])

    def source(t, x):
        def one(x):
            return jax.jacfwd(conserved, 1)(x, t) + jax.jacfwd(flux, 0)(x, t)

        s = jax.vmap(one)(x)
        return State1D(s[:, 0], s[:, 1:-1], s[:, -1])

    def error(n):
        q = jax.jit(jax.vmap(conserved, (0, None)))
        first, last = q(centres(n), 0.0), q(centres(n), 0.2)
        state = State1D(first[:, 0], first[:, 1:-1], first[:, -1])
        out = solve(state, np.array([0.2]), FLUID, NEWTON, dx=1 / n, steps=n * n // 20, source=source)
        got = jnp.concatenate([out.rho[0][:, None], out.momentum[0], out.energy[0][:, None]], axis=1)
        return np.asarray(jnp.mean(jnp.abs(got - last), axis=0))

    coarse, fine = error(24), error(48)
    orders = np.log2(coarse / fine)
    print("orders of ρ, ρu, E:", orders)
    assert np.all(orders > 1.85) and np.all(orders < 3.2), orders


def test_sound_travels_and_fades_as_linear_theory_says():
    rho, t, k = 0.6, 1.2, 2 * np.pi
    values, shapes = modes(rho, t, k)
    at = int(np.argmax(values.imag))
    rate = values[at]
    # to first order in k ν/c: the isentropic sound speed
    assert abs(rate.imag / k / float(FLUID.sound_speed(rho, t)) - 1) < 0.02
    period = 2 * np.pi / rate.imag
    state = linear_state(rho, t, shapes[:, at], 1e-4)
    out = run(state, [0.5 * period, period])
    for s in range(2):
        got = np.log(amplitude(out.rho[s]) / amplitude(state.rho))
        want = rate * period * (s + 1) / 2
        print("sound:", got.real / want.real - 1, np.angle(np.exp(1j * (got.imag - want.imag))) / want.imag)
        assert abs(got.real / want.real - 1) < 0.01
        assert abs(np.angle(np.exp(1j * (got.imag - want.imag)))) / want.imag < 0.004


def test_shear_and_heat_fade_as_linear_theory_says():
    rho, t, k, size = 0.6, 1.2, 2 * np.pi, 1e-4
    values, shapes = modes(rho, t, k)
    at = int(np.argmin(np.abs(values.imag)))  # the heat mode does not travel
    heat = values[at].real
    c_p, c_v = float(FLUID.heat_capacity_pressure(rho, t)), float(FLUID.heat_capacity_volume(rho, t))
    assert c_p > c_v and abs(heat / (-KAPPA / (rho * c_p) * k**2) - 1) < 0.05  # its form at small k
    shear = -ETA / rho * k**2
    state = linear_state(rho, t, shapes[:, at] / shapes[2, at], size)
    u = state.velocity.at[:, 1].set(size * jnp.cos(2 * jnp.pi * centres(N)))
    state = State1D(state.rho, state.rho[:, None] * u, state.energy)
    out = run(state, [0.25, 0.5])
    shear_got = np.log(abs(amplitude(out.velocity[-1, :, 1]) / amplitude(u[:, 1]))) / 0.5
    heat_got = np.log(abs(amplitude(out.temperature(FLUID)[-1]) / amplitude(state.temperature(FLUID)))) / 0.5
    print("shear:", shear_got / shear - 1, "heat:", heat_got / heat - 1)
    assert abs(shear_got / shear - 1) < 1e-2
    assert abs(heat_got / heat - 1) < 1e-2


def sod(x_over_t, gamma: float = 1.4):
    """ρ, u, p of the exact solution; E. F. Toro, Riemann Solvers, 3rd ed. (2009), chapter 4."""
    (rl, pl), (rr, pr) = (1.0, 1.0), (0.125, 0.1)
    cl, cr = np.sqrt(gamma * pl / rl), np.sqrt(gamma * pr / rr)

    def left(p):
        return 2 * cl / (gamma - 1) * (1 - (p / pl) ** ((gamma - 1) / (2 * gamma)))  # u behind the rarefaction

    def right(p):
        return (p - pr) * np.sqrt(2 / ((gamma + 1) * rr) / (p + (gamma - 1) / (gamma + 1) * pr))  # behind the shock

    p = brentq(lambda p: left(p) - right(p), pr, pl, xtol=1e-14)
    u, ratio = right(p), (gamma - 1) / (gamma + 1)
    shock = cr * np.sqrt((gamma + 1) / (2 * gamma) * p / pr + (gamma - 1) / (2 * gamma))
    inside_l = rl * (p / pl) ** (1 / gamma)
    inside_r = rr * (p / pr + ratio) / (ratio * p / pr + 1)
    tail = u - cl * (p / pl) ** ((gamma - 1) / (2 * gamma))
    s = np.asarray(x_over_t)
    c = 2 / (gamma + 1) * cl - ratio * s
    fan = [rl * (c / cl) ** (2 / (gamma - 1)), 2 / (gamma + 1) * (cl + s), pl * (c / cl) ** (2 * gamma / (gamma - 1))]
    where = [s < -cl, s < tail, s < u, s < shock]
    return [
        np.select(where, [a, f, b, d], e)
        for a, f, b, d, e in ((rl, fan[0], inside_l, inside_r, rr), (0, fan[1], u, u, 0), (pl, fan[2], p, p, pr))
    ]


def sod_errors(n: int, flux: str):
    x = np.asarray(centres(n)) - 0.5
    rho, p = np.where(x < 0, 1.0, 0.125), np.where(x < 0, 1.0, 0.1)
    state = State1D.from_primitive(rho, np.zeros((n, 1)), p / rho, GAS)
    out = solve(state, np.array([0.2]), GAS, dx=1 / n, boundary="outflow", steps=n, flux=flux)
    t = out.temperature(GAS)[0]
    got = [out.rho[0], out.velocity[0, :, 0], out.rho[0] * t]
    return [float(np.mean(np.abs(a - b))) for a, b in zip(got, sod(x / 0.2), strict=True)], np.asarray(out.rho[0])


def test_sod_shock_tube_meets_the_exact_solution():
    np.testing.assert_allclose([float(a[0]) for a in sod(np.array([0.5]))], [0.42632, 0.92745, 0.30313], atol=1e-5)
    (coarse, _), (fine, rho) = (sod_errors(n, "hllc") for n in (100, 200))
    blurred, _ = sod_errors(100, "rusanov")
    print("Sod, mean errors of ρ, u, p:", coarse, fine, blurred)
    assert fine[0] < 4e-3 and fine[1] < 7e-3 and fine[2] < 3e-3
    assert all(a / b > 1.5 for a, b in zip(coarse, fine, strict=True))  # towards order 1, with discontinuities
    assert coarse[0] < blurred[0] < 3 * coarse[0]
    assert rho.min() > 0.125 - 1e-3 and rho.max() < 1 + 1e-3  # no overshoot beyond the initial values


def test_a_periodic_line_conserves_to_rounding():
    state = wave(N)
    out = run(state, [0.25, 0.5])
    assert float(jnp.max(jnp.abs(out.rho[-1] - state.rho))) > 0.01
    for got, first in ((out.rho, state.rho), (out.momentum, state.momentum), (out.energy, state.energy)):
        lost = np.sum(np.asarray(got[-1]), axis=0) - np.sum(np.asarray(first), axis=0)
        scale = np.sum(np.abs(np.asarray(first)))
        print("lost:", np.max(np.abs(lost)) / scale)
        # each of 480 stages rounds each cell once: a walk of √(480 · 32) steps of 1e-16, relative to a cell
        assert np.max(np.abs(lost)) < 5e-14 * scale
    change, _ = jax.jit(lambda s: rates(s, FLUID, NEWTON, 1 / N, flux="rusanov"))(state)
    for a in jax.tree.leaves(change):
        assert jnp.max(jnp.abs(jnp.sum(a, axis=0))) < 1e-13 * jnp.sum(jnp.abs(a))


def test_walls_keep_mass_and_energy_and_are_the_mirror_of_a_periodic_line():
    n = N // 2
    x = jnp.pi * centres(n)
    u = jnp.stack([0.1 * jnp.sin(x), 0.1 * jnp.cos(x), 0 * x], axis=-1)
    half = State1D.from_primitive(0.6 + 0.1 * jnp.cos(x), u, 1.2 - 0.1 * jnp.cos(x), FLUID)
    mirrored = half.momentum[::-1] * jnp.array([[-1.0, 1.0, 1.0]])
    rho, energy = (jnp.concatenate([a, a[::-1]]) for a in (half.rho, half.energy))
    whole = run(State1D(rho, jnp.concatenate([half.momentum, mirrored]), energy), [0.25, 0.5])
    wall = solve(half, np.array([0.25, 0.5]), FLUID, NEWTON, dx=1 / N, limiter="none", steps=STEPS, boundary="wall")
    for got, want in zip(jax.tree.leaves(wall), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(got, want[:, :n], atol=1e-12)
    assert abs(float(jnp.sum(wall.rho[-1]) - jnp.sum(half.rho))) < 1e-12
    assert abs(float(jnp.sum(wall.energy[-1]) - jnp.sum(half.energy))) < 1e-12
    assert float(jnp.max(jnp.abs(wall.rho[-1] - half.rho))) > 0.01


def test_uniform_flow_is_kept_and_waves_ride_on_it():
    """Galilean invariance: on a moving fluid the same wave, one cell further for each dx/w of time."""
    w, rest = 1.0, wave(N, 3, 0.05)
    shift = w * rest.momentum[:, 0] + 0.5 * w**2 * rest.rho
    moving = State1D(rest.rho, rest.momentum.at[:, 0].add(w * rest.rho), rest.energy + shift)
    still, moved = (run(s, [0.125, 0.25]) for s in (rest, moving))
    change = float(jnp.max(jnp.abs(still.rho[1] - rest.rho)))
    gap = float(jnp.max(jnp.abs(jnp.roll(moved.rho[1], -N // 4) - still.rho[1])))
    print("Galilean:", gap / change)
    assert gap < 0.02 * change  # to the order of the scheme
    flat = State1D.from_primitive(jnp.full(8, 0.6), jnp.full((8, 2), 0.3), jnp.full(8, 1.2), FLUID)
    change, _ = jax.jit(lambda s: rates(s, FLUID, NEWTON, 0.1, "outflow"))(flat)
    assert max(float(jnp.max(jnp.abs(a))) for a in jax.tree.leaves(change)) < 1e-13


def test_gradients_meet_finite_differences():
    """Of a loss over two times, in η, κ, the initial temperature and velocity, and a coefficient of the fluid."""
    n = 12
    x = 2 * jnp.pi * centres(n)

    @jax.jit
    @jax.value_and_grad
    def loss(theta):
        eta, kappa, hot, fast, c = theta
        fluid = eqx.tree_at(lambda m: m.coefficients, FLUID, FLUID.coefficients.at[0].set(c))
        u = jnp.stack([fast * jnp.sin(x), 0.2 * jnp.cos(x)], axis=-1)
        state = State1D.from_primitive(0.6 + 0.1 * jnp.cos(x), u, 1.2 + hot * jnp.sin(x), fluid)
        out = solve(state, jnp.array([0.05, 0.15]), fluid, NewtonFourier(eta, 0.01, kappa), dx=1 / n, steps=4)
        return jnp.sum(out.energy**2) + jnp.sum(jnp.sin(3 * out.momentum)) + jnp.sum(out.rho**3)

    theta = jnp.array([0.03, 0.05, 0.1, 0.15, 1.2])
    _, got = loss(theta)
    h = 1e-5
    numeric = [(loss(theta.at[i].add(h))[0] - loss(theta.at[i].add(-h))[0]) / (2 * h) for i in range(5)]
    np.testing.assert_allclose(got, numeric, rtol=2e-6)
    assert np.min(np.abs(got)) > 1e-3


def test_learned_closure_makes_entropy():
    """d/dt Σ ρs of an isolated line, by `jvp` along `rates`: more with a learned closure than without any."""
    learned = LearnedClosure(key=jax.random.key(0), viscosity=0.03, conductivity=0.03)
    state = wave(N)

    def entropy(s):
        return jnp.sum(s.rho * FLUID.entropy(s.rho, s.temperature(FLUID))) / N

    @eqx.filter_jit
    def growth(closure):
        return jax.jvp(entropy, (state,), (rates(state, FLUID, closure, 1 / N, limiter="none")[0],))[1]

    ideal, real = float(growth(None)), float(growth(learned))
    assert real > 0.01 and abs(ideal) < 0.05 * real


def test_safe_step_bounds_both_waves_and_diffusion():
    state = wave(N)
    wave_only = safe_step(state, FLUID, None, 1 / N)
    fast = jnp.abs(state.velocity[:, 0]) + FLUID.sound_speed(state.rho, state.temperature(FLUID))
    np.testing.assert_allclose(wave_only, 0.4 / N / jnp.max(fast))
    thick = NewtonFourier(50.0)
    nu = (4 / 3 * 50.0) / jnp.min(state.rho)
    np.testing.assert_allclose(safe_step(state, FLUID, thick, 1 / N), 0.4 / (jnp.max(fast) * N + 2 * nu * N**2))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (dict(limiter="minmod"), "Argument `limiter` must be one of"),
        (dict(flux="roe"), "Argument `flux` must be one of"),
        (dict(boundary=("periodic", "wall")), "`periodic` at both ends or at none"),
        (dict(boundary="open"), "Argument `boundary` must be one of"),
        (dict(times=np.array([0.2, 0.1])), "Argument `times` must rise from 0 on"),
        (dict(steps=0), "Argument `steps` must be 1 or more"),
        (dict(cfl=2.0), "Argument `cfl` must lie above 0"),
    ],
)
def test_bad_input_is_named(change, says):
    arguments = dict(state=wave(8), times=np.array([0.1]), eos=FLUID, closure=NEWTON, dx=1 / 8) | change
    with pytest.raises(InputError, match=says):
        solve(**arguments)


def test_states_of_other_shapes_and_steps_that_are_too_long_are_refused():
    with pytest.raises(InputError, match="Argument `momentum` must have shape"):
        State1D(jnp.ones(8), jnp.ones((8, 4)), jnp.ones(8))
    with pytest.raises(InputError, match="Argument `steps` must be given inside `jit`"):
        jax.jit(lambda s: solve(s, np.array([0.1]), FLUID, None, dx=1 / 8))(wave(8))
    with pytest.raises(eqx.EquinoxRuntimeError, match="more `steps`"):
        run(wave(N), [1.0, 8.0])
