"""The loop over slots against all pairs, its derivatives and what it stores; dynamics on lists against all pairs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz import chunks, ensemble
from jaxmd_iz.ensemble import Walkers, advance
from jaxmd_iz.integrators import Phase, VelocityVerlet, trajectory
from jaxmd_iz.list_loop import list_sums
from jaxmd_iz.neighbours import Ordered, build, neighbour_list
from jaxmd_iz.pair_loop import pair_sums
from jaxmd_iz.potentials.base import Sum
from jaxmd_iz.potentials.diabatic import Gaussian, TwoStateFluid
from jaxmd_iz.potentials.pair import LennardJones, Morse
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.system import System

N, CUTOFF = 20, 1.9
SPECIES = jnp.asarray(np.random.default_rng(1).integers(0, 2, N))
BASE = LennardJones(np.array([[1.0, 0.7], [0.7, 0.5]]), np.array([[0.9, 1.0], [1.0, 1.1]]), CUTOFF, "force_shift")
TWO = TwoStateFluid(BASE, Gaussian(0.9, 0.5, 1.1), Gaussian(0.5, 0.6, 1.3), 0.6, N)
TRICLINIC = Periodic([[4.2, 0.0, 0.0], [0.7, 4.4, 0.0], [-0.5, 0.6, 4.1]])


def batch(count, seed=0):
    """Positions on a loose lattice, some beyond the cell, and weights."""
    rng = np.random.default_rng(seed)
    lattice = np.stack(np.meshgrid(*[1.35 * np.arange(3)] * 3), -1).reshape(-1, 3)[:N]
    x = lattice + 0.1 * rng.normal(size=(count, N, 3)) + 4.0 * rng.integers(-1, 2, (count, 1, 3))
    return jnp.asarray(x), jnp.asarray(rng.uniform(0.5, 2.0, (count, N)))


def agree(found, expected, rounding):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=0, atol=rounding * float(np.max(np.abs(other))))


@pytest.mark.parametrize(
    ("space", "potential", "kind"), [(TRICLINIC, TWO, float), (Free(3), BASE, float), (TRICLINIC, BASE, np.float32)]
)
def test_loop_is_the_sum_over_all_pairs(space, potential, kind):
    """Of one list and of three by `vmap`: the same sums in another order, N rounding errors of the largest bond."""
    x, b = (a.astype(kind) for a in batch(3))
    potential = jax.tree.map(lambda a: a.astype(kind), potential)
    near = neighbour_list(space, x, CUTOFF, 0.1)
    assert N / 3 < near.slots.shape[-2] < N - 1

    def listed(at, c, slots):
        return list_sums(potential, space, at, SPECIES, c, slots)

    found, alone, expected = jax.jit(
        lambda x, b, slots: (
            jax.vmap(listed)(x, b, slots),
            listed(x[0], b[0], slots[0]),
            jax.lax.map(lambda item: pair_sums(potential, space, item[0], SPECIES, item[1]), (x, b)),
        )
    )(x, b, near.slots)
    rounding = 4 * N * float(jnp.finfo(kind).eps)
    agree(found, expected, rounding)
    agree(alone, jax.tree.map(lambda a: a[0], expected), rounding)


def test_forms_for_other_devices_are_those_for_a_cpu(monkeypatch):
    """Loops of one length for all systems, sums over whole arrays, and lists kept or rebuilt by selection."""
    x, b = batch(3)
    later = x.at[1, 4].add(0.2)

    def run(x, later, b):
        lists = jax.vmap(lambda a: Ordered.of(TRICLINIC, build(TRICLINIC, a, CUTOFF, 0.1, N - 1), True))(x)
        now = jax.vmap(lambda s, a: s.renewed(TRICLINIC, a).plain())(lists, later)
        sums = jax.vmap(lambda a, c, nl: list_sums(TWO, TRICLINIC, a, SPECIES, c, nl.slots))(later, b, now)
        return now, sums

    expected, sums = jax.jit(run)(x, later, b)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *several, default, **_: default(*several))
    lists, again = jax.jit(lambda *several: run(*several))(x, later, b)
    for one, other in zip(jax.tree.leaves(lists), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(lists.x[:, 4], jnp.stack([x[0, 4], later[1, 4], x[2, 4]]))  # one of three is rebuilt
    agree(again, sums, 1e-13)


def test_derivatives_are_those_of_the_sums():
    """By finite differences in the parameters and positions; of Σ b V by its sums; nothing is NaN at empty slots."""
    (x, b), space = (a[0] for a in batch(1)), TRICLINIC
    near = neighbour_list(space, x, CUTOFF, 0.2, N - 1)
    assert not np.all(near.mask)

    def energy(height, x, b):
        two = TwoStateFluid(BASE, Gaussian(height, 0.5, 1.1), Gaussian(0.5, 0.6, 1.3), 0.6, N)
        found = list_sums(two, space, x, SPECIES, b, near.slots)
        return jnp.sum(found.value @ b) + 0.1 * jnp.sum(found.slope**2), found

    @jax.jit
    def both(height, x, b):
        grads, found = jax.grad(energy, (0, 1, 2), has_aux=True)(height, x, b)
        by_bonds = jax.grad(lambda a: jnp.sum(energy(height, a, b)[1].value @ b))(x)
        return grads, by_bonds, jnp.sum(b[None, :, None] * found.slope + found.weighted, axis=0)

    grads, by_bonds, by_sums = both(jnp.asarray(0.9), x, b)
    agree(by_bonds, by_sums, 1e-13)
    rng, values = np.random.default_rng(2), jax.jit(lambda *of: energy(*of)[0])
    step = [rng.normal(), rng.normal(size=x.shape), rng.normal(size=b.shape)]
    move = lambda h: values(*(a + h * s for a, s in zip((jnp.asarray(0.9), x, b), step, strict=True)))  # noqa: E731
    by_differences = (8 * (move(1e-4) - move(-1e-4)) - (move(2e-4) - move(-2e-4))) / 12e-4
    along = sum(float(jnp.sum(g * s)) for g, s in zip(grads, step, strict=True))
    np.testing.assert_allclose(along, by_differences, rtol=1e-8)  # h⁴ = 1e-16 of a fifth derivative, rounding 1e-11


def liquid(n, seed=0):
    """Particles in the plane on a noisy square lattice, and momenta."""
    rng, side = np.random.default_rng(seed), int(np.ceil(np.sqrt(n)))
    x = 1.1 * np.stack(np.meshgrid(*[np.arange(side)] * 2), -1).reshape(-1, 2)[:n] + 0.03 * rng.normal(size=(n, 2))
    return jnp.asarray(x), jnp.asarray(rng.normal(size=(n, 2)))


def test_a_force_on_a_list_stores_nothing_of_n_by_n_or_of_k_by_three():
    """The compiled program holds the list and rows of n; the next list and positions run it again."""
    n, slots = 2000, 60
    space = Periodic([1.1 * 45] * 2)
    system = System(LennardJones(1.0, 1.0, 2.5, "shift"), space, np.ones(n))
    x, p = liquid(n)
    make = jax.jit(lambda a: build(space, a, 2.5, 0.5, slots))
    force = jax.jit(lambda a, near: system.force(a, 0, near))
    near = make(x)
    program = force.lower(x, near).compile()
    largest = 0
    for dims in (part.split("]")[0] for part in program.as_text().split("f64[")[1:]):
        sizes = [int(d) for d in dims.split(",") if d.strip().isdigit()]
        largest = max(largest, int(np.prod(sizes)) if sizes else 1)
    assert 2 * n <= largest <= 4 * n, largest
    assert program.memory_analysis().temp_size_in_bytes < 32 * 8 * n  # the list itself has 30 n of these
    later = x + 0.1 * p
    assert not np.allclose(force(x, near), force(later, make(later)))
    assert force._cache_size() == make._cache_size() == 1


BOX = Periodic([1.1 * 6] * 2)
# finite where particles meet, so that a fast one passes
SYSTEM = System(Morse(0.5, 2.0, 1.1, 2.0, "force_shift"), BOX, np.linspace(1.0, 2.0, 36))
SCHEME = VelocityVerlet(jnp.asarray(0.01))
START = [jnp.stack(a) for a in zip(*(liquid(36, seed) for seed in (0, 1)), strict=True)]
STEPS = 24


def lists_at(system, x):
    return chunks.ListKeeper(system, True, 0.3).build(x)


@jax.jit
def forces(system, x, lists):
    return jax.vmap(lambda a, nl: system.force(a, 0, nl))(x, lists)


def walkers(system, x, p):
    phase = Phase(x, p, forces(system, x, lists_at(system, x)))
    return Walkers(phase, jnp.zeros(2, int), jnp.arange(2), jnp.ones(2), jax.random.split(jax.random.key(0), 2))


@eqx.filter_jit
def on_all_pairs(system, x, p, steps=STEPS):
    """x and p of every walker."""
    return jax.lax.map(lambda z: trajectory(SCHEME, lambda y: system.force(y, 0), system.masses, *z, steps), (x, p))


def on_lists(system, start, capacity=0):
    """x and p after the steps, in chunks, and the keeper."""
    keeper = chunks.ListKeeper(system, True, 0.3)
    keeper.capacity = capacity

    def step(state, first, count, lists):
        return advance(system, SCHEME, state, first, count, lists)

    after = keeper.advance(step, start, lambda s: s.phase.x, STEPS, lambda _: None).phase
    return (after.x, after.p), keeper


@pytest.fixture(scope="module")
def fast():
    """Walkers of which one has a particle that passes the skin in each step."""
    p = START[1].at[0, 5].set(jnp.asarray([40.0, 23.0]))
    assert float(jnp.linalg.norm(p[0, 5]) / SYSTEM.masses[5]) * SCHEME.step > 0.3 / 2
    return walkers(SYSTEM, START[0], p)


def test_trajectories_on_lists_are_those_on_all_pairs(fast, monkeypatch):
    """Also where a particle leaves its list in one step; however the steps are cut and the particles are ordered.

    Rounding 1e-16 grows with the dynamics: measured 2e-15. On lists the same to the last digit, whether in one chunk
    or in three, of particles with numbers along the cells, and with a capacity that has to grow on the way.
    """
    whole, _ = on_lists(SYSTEM, fast)
    agree(whole, on_all_pairs(SYSTEM, fast.phase.x, fast.phase.p), 1e-13)
    monkeypatch.setattr(chunks, "CHUNK", STEPS // 3)
    monkeypatch.setattr(ensemble, "ORDERED", 0)
    few = int(jnp.max(lists_at(SYSTEM, fast.phase.x).most))
    parts, keeper = on_lists(SYSTEM, fast, few)
    assert keeper.last is not None and few < int(jnp.max(keeper.last.most)) <= keeper.capacity
    for one, other in zip(parts, whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_walker_does_not_feel_the_others(fast):
    """The second walker to the last digit the same, whether the first one has a fast particle or not."""
    lists = lists_at(SYSTEM, fast.phase.x)
    calm = fast._replace(phase=fast.phase._replace(p=START[1]))
    both = [advance(SYSTEM, SCHEME, s, jnp.asarray(0), STEPS, lists) for s in (fast, calm)]
    for one, other in zip(*(jax.tree.leaves((a.phase, nl)) for a, nl in both), strict=True):
        np.testing.assert_array_equal(one[1], other[1])
    assert not np.array_equal(both[0][1].x[0], both[1][1].x[0])


def test_energy_on_lists_is_conserved_to_the_order_of_the_step(fast):
    """By half the step the error is a quarter: nothing jumps where lists are rebuilt."""
    lists, calm = lists_at(SYSTEM, fast.phase.x), fast._replace(phase=fast.phase._replace(p=START[1]))

    @jax.jit
    def energy(phase):
        potential = jax.lax.map(lambda a: SYSTEM.levels(a)[0], phase.x)
        return potential + jnp.sum(phase.p**2 / SYSTEM.masses[None, :, None], axis=(1, 2)) / 2

    def error(step, runs):
        state, near = calm, lists
        for _ in range(runs):
            state, near = advance(SYSTEM, VelocityVerlet(jnp.asarray(step)), state, jnp.asarray(0), STEPS, near)
        return np.abs(energy(state.phase) - energy(calm.phase))

    coarse, fine = error(0.02, 1), error(0.01, 2)
    assert np.all(fine < 0.3 * coarse) and np.all(coarse < 1e-3 * 36)


def test_a_capacity_that_is_too_small_grows_until_all_are_neighbours():
    """Particles that fall into one point: chunks are redone until every list fits, and there is an end."""
    system, rounds = System(Morse(0.1, 2.0, 0.7, 1.2, "force_shift"), Free(2), np.ones(36)), []

    @eqx.filter_jit
    def fall(x, lists):
        x = 0.5 * x
        return x, jax.vmap(lambda nl, a: Ordered.of(Free(2), nl, False).renewed(Free(2), a).near)(lists, x)

    def step(x, first, count, lists):
        rounds.append(int(first))
        return fall(x, lists)

    keeper = chunks.ListKeeper(system, True, 0.3)
    keeper.capacity = 25
    assert keeper.build(0.8 * START[0]).slots.shape == (2, 25, 36)
    keeper.advance(step, 0.8 * START[0], lambda x: x, 500, lambda _: None)
    assert sorted(set(rounds)) == [0, 100, 200, 300, 400] and 5 < len(rounds) <= 8 and keeper.capacity >= 35
    assert np.all(np.sum(keeper.last.mask, axis=-1) == 35)


def test_a_potential_that_needs_opposite_bonds_has_them_at_every_rebuild():
    """A sum of potentials takes its forces by reverse passes over the bonds of lists that were rebuilt."""
    system = System(Sum((SYSTEM.potential, Morse(0.1, 2.0, 0.7, 1.2, "force_shift"))), BOX, SYSTEM.masses)
    start = walkers(system, START[0], 3 * START[1])
    found, keeper = on_lists(system, start)
    assert keeper.last is not None and keeper.last.opposite is not None
    assert not np.array_equal(keeper.last.x, start.phase.x)
    agree(found, on_all_pairs(system, start.phase.x, start.phase.p), 1e-12)


def test_steps_on_lists_can_be_differentiated(fast):
    """Through the rebuilds, which have no derivative: that of all pairs."""
    lists, steps = lists_at(SYSTEM, fast.phase.x), 4

    def of(depth):
        return eqx.tree_at(lambda s: s.potential.depth, SYSTEM, depth)

    def listed(depth):
        start = fast._replace(phase=fast.phase._replace(force=forces(of(depth), fast.phase.x, lists)))
        return jnp.sum(advance(of(depth), SCHEME, start, jnp.asarray(0), steps, lists)[0].phase.x ** 2)

    def dense(depth):
        return jnp.sum(on_all_pairs(of(depth), fast.phase.x, fast.phase.p, steps)[0] ** 2)

    depth = SYSTEM.potential.depth
    np.testing.assert_allclose(jax.grad(listed)(depth), jax.grad(dense)(depth), rtol=1e-10)
