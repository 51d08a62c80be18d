"""Bad arguments from Python, by users whose shapes nothing else checks: each gives one sentence."""

import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import jaxmd_iz as iz
from jaxmd_iz.apart import must_be_apart
from jaxmd_iz.checks import InputError
from jaxmd_iz.fit.constitutive import fit_constitutive
from jaxmd_iz.fit.forces import Snapshots as Data
from jaxmd_iz.fit.targets import Target
from jaxmd_iz.tiles import RegularGrid

KEY = jax.random.key(0)
X = 1.3 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1.0]])
CELL = [6.0, 6.0, 6.0]
NAN = np.where(X == 0, np.nan, X)
LJ = {"epsilon": 1.0, "sigma": 1.0, "cutoff": 2.5}
ETA = {"epsilon": 1.0}


def system(potential=None, space=None, masses=None, **options):
    given = np.ones(4) if masses is None else masses
    return iz.System(potential or iz.LennardJones(**LJ), space or iz.Periodic(CELL), given, **options)


def grid(y=X, mollifier=None, **options):
    return iz.Grid(jnp.asarray(y), mollifier or iz.Polynomial(**ETA), **options)


def simulate(x=X, p=None, grids=None, which=None, temperature=1.0, **options):
    grids = [grid()] if grids is None else grids
    p = None if p is None else jnp.asarray(p)
    return iz.simulate(which or system(), iz.Canonical(temperature), grids, jnp.asarray(x), p=p, key=KEY, **options)


def trajectory(**options):
    given = {"integrator": iz.VelocityVerlet(0.01), "force": lambda x: -x, "masses": jnp.ones(4), "steps": 3}
    return iz.trajectory(**given | {"x": jnp.asarray(X), "p": jnp.zeros_like(X)} | options)


def points(**options):
    one = np.ones(2)
    return iz.StatePoints(**{k: one for k in ("density", "temperature", "pressure", "energy")}
                          | {"covariance": np.stack([np.eye(2)] * 2)} | options)  # fmt: skip


def state(rho=(8,), momentum=(8, 3), energy=(8,)):
    return iz.State1D(*(jnp.ones(shape) for shape in (rho, momentum, energy)))


def solve(times=(0.0, 0.1), given=None, **options):
    return iz.solve(given or state(), np.array(times), iz.IdealGas(), **{"dx": 1.0, "steps": 1} | options)


def green_kubo(which=None, **options):
    given = {"integrator": iz.VelocityVerlet(0.01), "steps": 20, "sampling": iz.Sampling(2, 0)}
    return iz.green_kubo(which or system(), iz.Canonical(1.0), jnp.asarray(X), key=KEY, **given | options)


def match(free=lambda s: s.potential.epsilon, data=None, **options):
    return iz.match_forces(system(), data or Data(X[None], X[None]), free, **options)


def recover(**options):
    target = Target(jnp.ones(2), jnp.eye(2))
    given = {"observe": None, "key": KEY, "target": target, "start": jnp.ones(1)}
    return iz.recover(lambda a: (system(), iz.Canonical(1.0)), x=jnp.asarray(X), **given | options)


def skew(x):
    return jnp.broadcast_to(jnp.array([[0.0, 1.0], [0.5, 1.0]]), (x.shape[0], 2, 2))


CASES = {
    "masses zero": (lambda: system(masses=np.array([1, 1, 1, 0.0])), "`masses` must be positive, but the smallest"),
    "masses negative": (lambda: system(masses=-np.ones(4)), "`masses` must be positive"),
    "masses nan": (lambda: system(masses=np.full(4, np.nan)), "`masses` must be"),
    "masses infinite": (lambda: system(masses=np.full(4, np.inf)), "`masses` must be"),
    "masses empty": (lambda: system(masses=np.ones(0)), "`masses` must have shape (n,)"),
    "masses in rows": (lambda: system(masses=np.ones((4, 1))), "`masses` must have shape (n,)"),
    "masses words": (lambda: system(masses=["a", "b"]), "`masses` must be"),
    "species short": (lambda: system(species=np.zeros(3, int)), "`species` must have shape"),
    "species negative": (lambda: system(species=np.array([0, 0, 0, -1])), "`species` must hold whole numbers from 0"),
    "species fractions": (lambda: system(species=np.full(4, 0.5)), "`species` must hold whole numbers from 0"),
    "species beyond tables": (
        lambda: system(iz.LennardJones(np.ones((2, 2)), 1.0, 2.5), species=np.arange(4)), "`species` must number"
    ),
    "correction": (lambda: system(correction="papr"), "Did you mean `paper`?"),
    "split": (lambda: system(split="energies"), "Did you mean `energy`?"),
    "cutoff beyond the cell": (lambda: system(space=iz.Periodic([4.0] * 3)), "leave room for the cutoff 2.5"),
    "cell singular": (lambda: iz.Periodic([[6, 0, 0], [6, 0, 0], [0, 0, 6]]), "`cell` must have a volume"),
    "cell zero": (lambda: iz.Periodic([6.0, 0.0, 6.0]), "`cell` must have edges of positive length"),
    "cell negative": (lambda: iz.Periodic([6.0, -6.0, 6.0]), "`cell` must have edges of positive length"),
    "cell nan": (lambda: iz.Periodic([6.0, math.nan, 6.0]), "`cell` must be finite"),
    "cell infinite": (lambda: iz.Periodic([6.0, math.inf, 6.0]), "`cell` must be finite"),
    "cell flat": (lambda: iz.Periodic(np.ones((2, 3))), "`cell` must be D edge lengths"),
    "cell of four": (lambda: iz.Periodic(np.ones(4)), "`cell` must be D edge lengths"),
    "cell empty": (lambda: iz.Periodic([]), "`cell` must be D edge lengths"),
    "cell number": (lambda: iz.Periodic(6.0), "`cell` must be D edge lengths"),
    "cell words": (lambda: iz.Periodic("large"), "`cell` must be"),
    "cell ragged": (lambda: iz.Periodic([[6, 0], [0]]), "`cell` must be"),
    "dimensions": (lambda: iz.Free(4), "`dimensions` must be 1, 2 or 3"),
    "temperature zero": (lambda: iz.Canonical(0.0), "`temperature` must be positive"),
    "temperature negative": (lambda: iz.Canonical(-1.0), "`temperature` must be positive"),
    "temperature nan": (lambda: iz.Canonical(math.nan), "`temperature` must be positive"),
    "temperature infinite": (lambda: iz.Canonical(math.inf), "`temperature` must be"),
    "samples": (lambda: iz.Sampling(samples=0), "`samples` must be 1 or more"),
    "burn_in": (lambda: iz.Sampling(burn_in=-1), "`burn_in` must be 0 or more"),
    "sampler": (lambda: iz.Sampling(sampler="hmv"), "Did you mean `hmc`?"),
    "sampling step": (lambda: iz.Sampling(step=0.0), "`step` must be above 0"),
    "sampling step nan": (lambda: iz.Sampling(step=math.nan), "`step` must be above 0"),
    "leapfrog": (lambda: iz.Sampling(leapfrog=0), "`leapfrog` must be 1 or more"),
    "rungs": (lambda: iz.Sampling(sampler="langevin", rungs=3), "`rungs` must be 1"),
    "hottest": (lambda: iz.Sampling(hottest=0.5), "`hottest` must be above 1"),
    "target": (lambda: iz.Sampling(target=1.5), "`target` must lie between 0 and 1"),
    "step zero": (lambda: iz.VelocityVerlet(0.0), "`step` must be"),
    "step infinite": (lambda: iz.ForestRuth(math.inf), "`step` must be"),
    "step nan": (lambda: iz.VelocityVerlet(math.nan), "`step` must be"),
    "friction": (lambda: iz.Baoab(0.01, -1.0, 1.0), "`friction` must be zero or more"),
    "bath": (lambda: iz.Baoab(0.01, 1.0, -1.0), "`temperature` must be zero or more"),
    "no key": (lambda: trajectory(integrator=iz.Baoab(0.01, 1.0, 1.0)), "`key` must be given"),
    "gradient": (lambda: trajectory(gradient="stor"), "Did you mean `store`?"),
    "reversible": (lambda: trajectory(gradient="reversible", integrator=iz.ForestRuth(0.1)), "`gradient` must be"),
    "negative steps": (lambda: trajectory(steps=-1), "`steps` must be"),
    "momenta of others": (lambda: trajectory(p=jnp.zeros((3, 3))), "`p` must have"),
    "masses of others": (lambda: trajectory(masses=jnp.ones(3)), "`masses` must have"),
    "x nan": (lambda: simulate(x=NAN), "`x` must be finite"),
    "x infinite": (lambda: simulate(x=np.where(X == 0, np.inf, X)), "`x` must be finite"),
    "p nan": (lambda: simulate(p=NAN), "`p` must be finite"),
    "p short": (lambda: simulate(p=X[:2]), "`p` must have the shape"),
    "x short": (lambda: simulate(x=X[:3]), "`x` must end in (4, 3)"),
    "x flat": (lambda: simulate(x=X[:, :2]), "`x` must end in (4, 3)"),
    "x whole": (lambda: simulate(x=np.zeros((4, 3), int)), "`x` must hold floating-point"),
    "on top": (lambda: simulate(x=np.zeros((4, 3)), p=X), "on top of each other"),
    "no grids": (lambda: simulate(grids=[]), "`grids` must hold at least one grid"),
    "twins": (lambda: simulate(grids=[grid(), grid()]), "`grids` must have different names"),
    "grid flat": (lambda: simulate(grids=[grid(X[:, :2])]), "`grids` must have points of 3 components"),
    "grid nan": (lambda: simulate(grids=[grid(NAN)]), "`grids` must have"),
    "grid empty": (lambda: simulate(grids=[grid(X[:0])]), "`grids` must have"),
    "grid of lines": (lambda: simulate(grids=[grid(mollifier=iz.Polynomial(1.0, 1))]), "mollifiers of 3 dimensions"),
    "grid irregular": (
        lambda: simulate(grids=[grid(regular=RegularGrid((4,), np.eye(3)[:1]))]), "points y of their `regular` grid"
    ),
    "steps": (lambda: simulate(steps=-1), "`steps` must be 0 or more"),
    "every": (lambda: simulate(steps=2, every=0, integrator=iz.VelocityVerlet(0.1)), "`every` must be 1 or more"),
    "no integrator": (lambda: simulate(steps=2), "`integrator` must be given"),
    "average": (lambda: simulate(average="times"), "Did you mean `time`?"),
    "neighbours": (lambda: simulate(neighbours="lists"), "Did you mean `list`?"),
    "keep": (lambda: simulate(keep=["position"]), "Did you mean `positions`?"),
    "poor": (lambda: simulate(poor="halt"), "`poor` must be one of"),
    "skin": (lambda: simulate(skin=0.0), "`skin` must be positive"),
    "residual_points": (lambda: simulate(residual_points=0), "`residual_points` must be"),
    "hermitian": (lambda: simulate(which=system(iz.FromFunction(skew, 2), correction="none"), p=X), "Hermitian"),
    "function shape": (lambda: system(iz.FromFunction(lambda x: x)).levels(jnp.asarray(X)), "`function` must return"),
    "epsilon": (lambda: iz.LennardJones(-1.0, 1.0, 2.5), "`epsilon` must"),
    "sigma": (lambda: iz.LennardJones(1.0, 0.0, 2.5), "`sigma` must"),
    "sigma nan": (lambda: iz.LennardJones(1.0, math.nan, 2.5), "`sigma` must be finite"),
    "cutoff": (lambda: iz.LennardJones(1.0, 1.0, 0.0), "`cutoff` must be positive"),
    "cutoff nan": (lambda: iz.LennardJones(1.0, 1.0, math.nan), "`cutoff` must be positive"),
    "truncation": (lambda: iz.LennardJones(**LJ, truncation="shft"), "Did you mean `shift`?"),
    "asymmetric": (lambda: iz.LennardJones(np.array([[1, 2], [3, 4.0]]), 1.0, 2.5), "`epsilon` must be symmetric"),
    "terms": (lambda: iz.Sum(()), "`terms` must hold"),
    "states": (lambda: iz.Lowest(iz.Tully1(), 3), "must be from 1 to 2"),
    "trap": (lambda: iz.HarmonicTrap(-1.0), "`stiffness` must not be negative"),
    "walls": (lambda: iz.Walls(2, 1.0, 0.0, 1.0), "`lower` must be below `upper`"),
    "bonds": (lambda: iz.HarmonicBonds(np.array([[0, 0]]), 1.0, 1.0), "`pairs` must join different particles"),
    "lvc": (lambda: iz.read_lvc("nowhere.template"), "`path` must"),
    **{f"epsilon of {m.__name__}": (lambda m=m, e=e: m(e), "`epsilon` must be a positive length")
       for m in (iz.Polynomial, iz.Bump, iz.Cubic, iz.Trapezoid) for e in (0.0,)},
    "mollifier dimensions": (lambda: iz.Cubic(1.0, 4), "`dimensions` must be 1, 2 or 3"),
    "mollifier nan": (lambda: iz.Cubic(math.nan), "`epsilon` must be a positive length"),
    "exponent": (lambda: iz.Polynomial(1.0, exponent=0), "`exponent` must be a whole number"),
    "modes": (lambda: iz.Fourier(CELL, 1.0, modes=-1), "`modes` must be zero or more"),
    "slab": (lambda: iz.slab(iz.Cubic(1.0), iz.Periodic(CELL), 0), "`profile` must have dimensions = 1"),
    "slab axis": (lambda: iz.slab(iz.Cubic(1.0, 1), iz.Periodic(CELL), 3), "`axis` must be below 3"),
    "slab area": (lambda: iz.slab(iz.Cubic(1.0, 1), iz.Free(3), 0), "`area` must be a positive area"),
    "list of nan": (lambda: iz.neighbour_list(iz.Periodic(CELL), NAN, 2.5), "`x` must be finite"),
    "list cutoff": (lambda: iz.neighbour_list(iz.Periodic(CELL), X, 3.5), "leave room for the cutoff"),
    "list endless": (lambda: iz.neighbour_list(iz.Periodic(CELL), X, math.inf), "`cutoff` must be finite"),
    "list zero": (lambda: iz.neighbour_list(iz.Periodic(CELL), X, 0.0), "`cutoff` must be"),
    "list skin": (lambda: iz.neighbour_list(iz.Periodic(CELL), X, 2.0, -0.1), "`skin` must be"),
    "list capacity": (lambda: iz.neighbour_list(iz.Periodic(CELL), X, 2.0, capacity=0), "`capacity` must be"),
    "list flat": (lambda: iz.neighbour_list(iz.Periodic(CELL), X[:, :2], 2.0), "`x` must have"),
    "viscosity": (lambda: iz.NewtonFourier(-1.0), "`viscosity` must be zero or more"),
    "conductivity": (lambda: iz.NewtonFourier(1.0, 0.0, math.nan), "`conductivity` must be zero or more"),
    "scales": (lambda: iz.LearnedClosure(key=KEY, density=0.0), "`density` must be positive"),
    "mass of a gas": (lambda: iz.IdealGas(mass=0.0), "`mass` must be positive"),
    "levels": (lambda: iz.ElectronicLevels(jnp.ones(3)), "`energies` must have shape"),
    "degeneracies": (lambda: iz.ElectronicLevels(jnp.ones((1, 1)), [1.0]), "`degeneracies` must hold 2"),
    "series": (lambda: iz.FreeEnergySeries(iz.IdealGas(), jnp.ones(2), ((1.0, 1.0, 0.0),)), "`terms` must be 2"),
    "points cold": (lambda: points(temperature=np.array([1, 0.0])), "`temperature` must be positive"),
    "points short": (lambda: points(pressure=np.ones(3)), "`pressure` must have shape"),
    "points sure": (lambda: points(covariance=np.zeros((2, 2, 2))), "`covariance` must be positive definite"),
    "points nan": (lambda: points(energy=np.array([1, np.nan])), "`energy` must be finite"),
    "fit of none": (lambda: iz.fit_equation_of_state(iz.IdealGas(), points()), "`model` must have arrays to fit"),
    "fit rounds": (lambda: iz.fit_equation_of_state(iz.IdealGas(), points(), rounds=0), "`rounds` must be 1"),
    "cells": (lambda: state(momentum=(7, 3)), "`momentum` must have shape"),
    "cell energy": (lambda: state(energy=(9,)), "`energy` must have shape"),
    "few cells": (lambda: solve(given=state((3,), (3, 3), (3,))), "`state` must have 4 cells"),
    "times fall": (lambda: solve((0.2, 0.1)), "`times` must rise from 0"),
    "times negative": (lambda: solve((-0.1, 0.1)), "`times` must rise from 0"),
    "times nan": (lambda: solve((0.0, math.nan)), "`times` must rise from 0"),
    "no times": (lambda: solve(()), "`times` must have shape"),
    "boundary": (lambda: solve(boundary="wal"), "Did you mean `wall`?"),
    "two boundaries": (lambda: solve(boundary=("wall", "periodic")), "`boundary` must be `periodic` at both"),
    "limiter": (lambda: solve(limiter="minmod"), "`limiter` must be one of"),
    "flux": (lambda: solve(flux="hll"), "Did you mean `hllc`?"),
    "solver steps": (lambda: solve(steps=0), "`steps` must be 1 or more"),
    "dx": (lambda: solve(dx=0.0), "`dx` must be positive"),
    "cfl": (lambda: iz.safe_step(state(), iz.IdealGas(), None, 1.0, cfl=2.0), "`cfl` must lie above 0"),
    "free transport": (lambda: green_kubo(system(space=iz.Free(3))), "`system` must have a periodic space"),
    "trapped transport": (lambda: green_kubo(system(external=iz.HarmonicTrap(1.0))), "no external potential"),
    "transport every": (lambda: green_kubo(every=0), "`every` must be 1 or more"),
    "transport steps": (lambda: green_kubo(steps=7), "`steps` must be a positive multiple of 5"),
    "data shape": (lambda: Data(X[None], X[None, :2]), "`forces` must have shape"),
    "data nan": (lambda: Data(X[None], NAN[None]), "`forces` must be finite"),
    "no data": (lambda: Data(X[None]), "`forces` must be given"),
    "nothing free": (lambda: match(lambda s: ()), "`free` must take arrays"),
    "errors named": (lambda: match(errors={"force": 1.0}), "`errors` must name forces"),
    "errors zero": (lambda: match(errors={"forces": 0.0}), "`errors[forces]` must be a positive number"),
    "fit state": (lambda: match(state=1), "`state` must be"),
    "target shape": (lambda: Target(jnp.ones(2), jnp.eye(3)), "`covariance` must have shape"),
    "draws": (lambda: recover(draws=0), "`draws` must be 1 or more"),
    "share": (lambda: recover(share=1.0), "`share` must lie between 0 and 1"),
    "too many": (lambda: recover(start=jnp.ones(3)), "`target` must hold 3 numbers or more"),
    "no flows": (lambda: fit_constitutive([], iz.NewtonFourier(1.0, 1.0, 1.0)), "`flows` must hold"),
}  # fmt: skip


@pytest.fixture
def unchecked():
    """As for users: no shapes are checked on the way in."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("name", CASES)
def test_an_argument_is_refused_in_one_sentence(name, unchecked):
    call, words = CASES[name]
    with pytest.raises(InputError) as caught:
        call()
    said = str(caught.value)
    assert said.startswith("Argument `") and " must " in said and ", but " in said and "\n" not in said
    assert words in said


@pytest.mark.parametrize("corner", [(0, 0, 0), (1, 0, 0), (0, 1, 1), (1, 1, 1), (-1, 1, -1)])
def test_particles_on_top_of_each_other_are_found_across_faces_of_any_cell(corner):
    cell = np.array([[6, 0, 0], [1.5, 6, 0], [-1, 0.5, 7.0]])
    space, lj = iz.Periodic(cell), iz.LennardJones(**LJ)
    x = np.array([[1, 1, 1], [0.001, 0.001, 0.001], [-0.003, 0.002, -0.001] + np.array(corner) @ cell])
    with pytest.raises(InputError, match=r"`x` must hold particles at least 0\.01 apart, but 1 and 2 are on top"):
        must_be_apart(lj, space, x[None], "x")
    must_be_apart(lj, space, np.where(np.arange(3)[:, None] == 2, x + 0.02, x)[None], "x")
    must_be_apart(iz.FromFunction(lambda x: x[:, 0]), space, np.zeros((1, 3, 3)), "x")  # has no core
