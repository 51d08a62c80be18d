"""Potentials against LAMMPS, NIST, plain sums and finite differences."""

import itertools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmd_iz.checks import InputError
from jaxmd_iz.neighbours import neighbour_list
from jaxmd_iz.potentials.base import AbstractPairPotential
from jaxmd_iz.potentials.diabatic import Gaussian, TwoStateFluid
from jaxmd_iz.potentials.external import HarmonicTrap, QuarticTrap, UniformForce, Walls, external_gradient
from jaxmd_iz.potentials.many_body import HarmonicBonds, StillingerWeber, read_sw
from jaxmd_iz.potentials.pair import WCA, LennardJones, Morse, SoftSphere
from jaxmd_iz.space import Free, Periodic, pull_back

DATA = Path(__file__).parent / "data"
N = 12
BOX = Periodic([5.3, 5.6, 5.9])
X = np.array(list(itertools.product([0.5, 2.2, 3.9], [0.4, 2.3], [0.3, 1.9])))
X = jnp.asarray(X + np.random.default_rng(7).uniform(-0.35, 0.35, X.shape))
SPECIES = jnp.asarray(np.arange(N) % 2)
TABLE = np.array([[1.0, 0.8], [0.8, 0.6]])


def sw_tables():
    """Two species: parameters by triplet, equal where the order of the species has no meaning."""
    values = {"epsilon": 1.2, "sigma": 1.28, "a": 1.85, "lam": 3.0, "gamma": 1.1, "cos0": -0.3}
    values |= {"A": 2.0, "B": 0.6, "p": 4.0, "q": 0.5}
    tables = np.random.default_rng(1).uniform(0.95, 1.05, (10, 2, 2, 2))
    tables = (tables + tables.swapaxes(2, 3)) / 2
    tables = {name: value * table for (name, value), table in zip(values.items(), tables, strict=True)}
    for name in set(values) - {"lam", "gamma", "cos0"}:
        tables[name][1, 0, 0] = tables[name][0, 1, 1]
    return tables


SW = sw_tables()
TWO_STATE = (Gaussian(0.7, 0.4, 1.6), Gaussian(-0.5, 0.5, 1.9), 0.8, N)
POTENTIALS = {
    "lj cut": LennardJones(1.1, 0.95, 2.5),
    "lj shift": LennardJones.mixed([1.0, 0.6], [1.0, 1.2], 2.4, "shift"),
    "lj force shift": LennardJones(TABLE, 1.1 * TABLE, 2.4, "force_shift"),
    "wca": WCA(TABLE, 1.7 * TABLE, cutoff=2.5),
    "morse": Morse(TABLE, 1.4, 1.5, 2.5, "force_shift"),
    "soft": SoftSphere(TABLE, TABLE, 9, 2.5, "force_shift"),
    "bonds": HarmonicBonds([[0, 1], [1, 3], [3, 2], [2, 7], [0, 9]], np.arange(1.0, 6.0), 1.4, cutoff=2.6),
    "sw central": StillingerWeber(**SW, share="central"),
    "sw thirds": StillingerWeber(**SW, share="thirds"),
    "two-state lj": TwoStateFluid(LennardJones(1.1, 0.95, 2.4, "shift"), *TWO_STATE),
    "two-state morse": TwoStateFluid(Morse(1.1, 1.3, 1.5, 2.5, "force_shift"), *TWO_STATE),
}
PAIRS = {k: v for k, v in POTENTIALS.items() if isinstance(v, AbstractPairPotential)}
every = pytest.mark.parametrize("potential", POTENTIALS.values(), ids=list(POTENTIALS))
every_pair = pytest.mark.parametrize("potential", PAIRS.values(), ids=list(PAIRS))
WEIGHT = {1: 1.0, 2: np.array([[0.6, 0.7], [0.7, -1.3]])}  # of the entries of V in a total


@eqx.filter_jit
def measure(potential, e):
    """The partition, the gradient in x of a total (of every entry for matrices), that in the parameters."""

    def total(varied):
        parts = eqx.combine(varied[0], rest).partition(eqx.tree_at(lambda t: t.d, e, varied[1]))
        return jnp.sum(jnp.sum(parts, axis=0) * WEIGHT[potential.states]), parts

    numbers, rest = eqx.partition(potential, eqx.is_inexact_array)
    (_, parts), (slopes, own) = jax.value_and_grad(total, has_aux=True)((numbers, e.d))
    return parts, pull_back(e, own), slopes, own


dense = eqx.filter_jit(lambda x, species=SPECIES, space=BOX: space.edges(x, species))


def sparse(space, x, species, cutoff, **options):
    return eqx.filter_jit(neighbour_list(space, x, cutoff, **options).edges)(space, x, species)


def error(value, expected):
    value, expected = np.asarray(value), np.asarray(expected)
    return float(np.max(np.abs(value - expected)) / np.max(np.abs(expected)))


def test_lennard_jones_is_that_of_lammps():
    ref = np.load(DATA / "lj500_cut_shift.npz")
    e = dense(jnp.asarray(ref["x"]), jnp.zeros(500, int), Periodic(ref["box"]))
    energy, gradient, _, own = measure(LennardJones(1, 1, 2.5, "shift"), e)
    virial, volume = np.einsum("nka,nkb->nab", e.d, own)[:, [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]], np.prod(ref["box"])
    assert error(energy, ref["pe_atom"]) < 1e-10 and error(energy.sum(), ref["pe"]) < 1e-10
    assert error(-gradient, ref["f"]) < 1e-10 and error(virial, ref["stress_atom_virial"]) < 1e-10
    assert error(-virial.sum(axis=0) / volume, ref["p_virial"]) < 1e-10
    assert error((2 * ref["ke"] - virial[:, :3].sum()) / (3 * volume), ref["press"]) < 1e-10


NIST = [(3.0, "cut", -16.790, -46.249, -0.54517), (4.0, "cut", -17.060, -47.869, -0.23008)]
NIST += [(3.0, "force_shift", -15.001, -43.096, None)]


@pytest.mark.parametrize(("cutoff", "truncation", "energy", "virial", "tail"), NIST)
def test_lennard_jones_is_that_of_nist(reference, cutoff, truncation, energy, virial, tail):
    """Sample configuration 4; its figures have five digits, the virial is −Σ r φ′."""
    x = np.loadtxt(reference / "nist" / "lj_config4.xyz", skiprows=2)[:, 1:4]
    lj, e = LennardJones(1, 1, cutoff, truncation), dense(jnp.asarray(x), jnp.zeros(30, int), Periodic([8.0] * 3))
    parts, _, _, own = measure(lj, e)
    assert abs(float(parts.sum()) - energy) < 0.5e-3 and abs(-float(jnp.sum(e.d * own)) - virial) < 0.5e-3
    assert tail is None or abs(float(lj.tail_energy([30], 512.0)) - tail) < 0.5e-5


def test_tail_is_the_integral_beyond_the_cutoff():
    lj, counts, volume = LennardJones.mixed([1.0, 0.5], [1.0, 1.2], 2.5, tail=True), np.array([20, 30]), 90.0
    u, weight = np.polynomial.legendre.leggauss(60)
    r = 2 * 2.5 / (1 - u)  # from r_c to ∞, dr = r²/2r_c du
    s = (np.asarray(lj.sigma)[..., None] / r) ** 6
    four = 4 * np.asarray(lj.epsilon)[..., None] * (counts[:, None] * counts)[..., None] * weight * r**4 / 5
    assert error(lj.tail_energy(counts, volume), 2 * np.pi / volume * np.sum(four * (s * s - s))) < 1e-12
    pressure = -2 * np.pi / (3 * volume**2) * np.sum(four * (6 * s - 12 * s * s))
    assert error(lj.tail_pressure(counts, volume), pressure) < 1e-12


def test_lorentz_berthelot_mixing():
    lj = LennardJones.mixed([1.0, 0.25], [1.0, 3.0], 5.0)
    assert error(lj.epsilon, [[1, 0.5], [0.5, 0.25]]) < 1e-15 and error(lj.sigma, [[1, 2], [2, 3]]) < 1e-15
    slope = jax.grad(lambda eps: jnp.sum(LennardJones.mixed(eps, [1.0, 3.0], 5.0).epsilon))
    assert np.isfinite(slope(jnp.asarray([1.0, 0.0]))).all()


@pytest.mark.parametrize(("share", "energies"), [("central", "U_centre"), ("thirds", "pe_atom_lammps")])
def test_silicon_is_that_of_lammps(share, energies):
    ref = np.load(DATA / "sw_si216.npz")
    sw, space, x = StillingerWeber.silicon(share), Periodic(ref["box"]), jnp.asarray(ref["x"])
    e = sparse(space, x, jnp.zeros(216, int), sw.cutoff, skin=0.3, capacity=20)  # bonds out of range, empty slots
    energy, gradient, _, _ = measure(sw, e)
    assert error(-gradient, ref["f_lammps"]) < 1e-9
    assert error(energy, ref[energies]) < 1e-9 and error(energy.sum(), ref["pe_atom_lammps"].sum()) < 1e-12


def test_silicon_crystal_has_its_cohesive_energy():
    sw, a = StillingerWeber.silicon(), 5.43095
    basis = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0], [1, 1, 1], [1, 3, 3], [3, 1, 3], [3, 3, 1]]) / 4
    x = jnp.asarray(a * np.concatenate([basis + shift for shift in np.ndindex(2, 2, 2)]))
    energy, gradient, _, _ = measure(sw, sparse(Periodic([2 * a] * 3), x, jnp.zeros(64, int), sw.cutoff))
    assert np.abs(np.asarray(energy) + 4.33660).max() < 5e-6 and np.abs(gradient).max() < 1e-11


def test_stillinger_weber_of_two_species_is_the_sum_over_triplets():
    s = np.asarray(SPECIES)
    bond = {name: t[s[:, None], s[None], s[None]] for name, t in SW.items()}  # i j j
    triplet = {name: t[s[:, None, None], s[None, :, None], s[None, None]] for name, t in SW.items()}
    d = np.asarray(BOX.displacement(X[:, None] - X[None]))
    r, edge = np.linalg.norm(d, axis=-1) + 9 * np.eye(N), bond["a"] * bond["sigma"]
    screen = np.where(r < edge, np.exp(np.minimum(bond["sigma"] / (r - edge), 0)), 0)
    u = bond["sigma"] / r
    two = bond["A"] * bond["epsilon"] * (bond["B"] * u ** bond["p"] - u ** bond["q"]) * screen
    cos = np.einsum("ija,ika->ijk", d, d) / (r[:, :, None] * r[:, None, :])
    g = screen ** bond["gamma"]
    three = triplet["lam"] * triplet["epsilon"] * (cos - triplet["cos0"]) ** 2 * g[:, :, None] * g[:, None, :]
    three *= 0.5 * (1 - np.eye(N))
    central = two.sum(axis=1) / 2 + three.sum(axis=(1, 2))
    thirds = two.sum(axis=1) / 2 + sum(three.sum(axis=axes) for axes in ((1, 2), (0, 2), (0, 1))) / 3
    assert np.abs(central - thirds).max() > 0.01 * np.abs(central).max()
    by_centre, by_thirds = (measure(POTENTIALS[f"sw {share}"], dense(X)) for share in ("central", "thirds"))
    assert error(by_centre[0], central) < 1e-12 and error(by_thirds[0], thirds) < 1e-12
    assert error(by_thirds[1], by_centre[1]) < 1e-12


@every
def test_gradients_are_finite_differences_in_positions_and_parameters(potential):
    rng, (numbers, rest) = np.random.default_rng(3), eqx.partition(potential, eqx.is_inexact_array)
    way = jax.tree.map(lambda a: jnp.asarray(rng.uniform(-1, 1, a.shape)), (numbers, X))

    def total(s):
        moved, x = jax.tree.map(lambda a, b: a + s * b, (numbers, X), way)
        return np.sum(np.asarray(measure(eqx.combine(moved, rest), dense(x))[0]) * WEIGHT[potential.states])

    h = 1e-4  # fourth order
    slope = (8 * (total(h) - total(-h)) - (total(2 * h) - total(-2 * h))) / (12 * h)
    _, in_x, in_numbers, _ = measure(potential, dense(X))
    pairs = zip(jax.tree.leaves((in_numbers, in_x)), jax.tree.leaves(way), strict=True)
    assert error(slope, sum(float(jnp.sum(a * b)) for a, b in pairs)) < 1e-10


@every
def test_partition_and_gradients_do_not_depend_on_the_list_the_order_or_the_origin(potential):
    e, few = dense(X), sparse(BOX, X, SPECIES, potential.cutoff)
    assert few.to.shape[1] < N - 1
    whole = measure(potential, e)[:3]
    assert max(jax.tree.leaves(jax.tree.map(error, measure(potential, few)[:3], whole))) < 1e-12
    named = isinstance(potential, HarmonicBonds)  # its bonds name particles
    order = np.arange(N) if named else np.random.default_rng(5).permutation(N)
    moved = measure(potential, dense(X[order] + jnp.asarray([[3.0, -2.0, 1.0]]), SPECIES[order]))
    assert error(moved[0], whole[0][order]) < 1e-12 and error(moved[1], whole[1][order]) < 1e-12


@every
def test_float32_stays_float32(potential):
    expected = measure(potential, dense(X))[0]
    if potential.states == 2:  # the level has no distance to take its dtype from
        potential = jax.tree.map(lambda a: a.astype(jnp.float32) if eqx.is_inexact_array(a) else a, potential)
    value = eqx.filter_jit(lambda p, e: p.partition(e))(potential, dense(X.astype(jnp.float32)))
    assert value.dtype == jnp.float32 and error(value, expected) < 1e-4


@every_pair
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_pair_is_zero_beyond_the_cutoff_and_finite_everywhere(potential, dtype):
    edge, other = np.square(np.asarray(potential.cutoff, dtype)), jnp.asarray([0, 1] * 4)
    at = [0.0, 1e-30, 1e-6, 1.0, np.nextafter(edge, dtype(0)), edge, edge * dtype(1.1), 1e8]
    r2, up, (numbers, rest) = jnp.asarray(at, dtype), jnp.ones(8, dtype), eqx.partition(potential, eqx.is_inexact_array)

    def phi(numbers, r2):
        return eqx.combine(numbers, rest).pair(r2, jnp.zeros_like(other), other)

    def slope(r2):
        return jax.jvp(lambda s: phi(numbers, s), (r2,), (up,))

    def along(r2):  # φ, φ′, φ″ and a derivative in the parameters, NaN if any of its terms is
        (value, first), (_, second) = jax.jvp(slope, (r2,), (up,))
        return value, first, second, jax.grad(lambda m: jnp.sum(phi(m, r2)))(numbers)

    along_r2 = jax.jit(along)(r2)
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(along_r2))
    assert along_r2[0].dtype == dtype and not any(a[5:].any() for a in along_r2[:2])
    order = {"shift": 1, "force_shift": 2}.get(getattr(potential, "truncation", "cut"), 0)
    for left in along_r2[:order]:  # what truncation makes continuous
        assert np.abs(left[4]).max() < 30 * np.finfo(dtype).eps


@pytest.mark.parametrize("r", [0.0, 1e-9, 2.0, np.nextafter(2.0, 0.0), 2.5, 3.0])
@pytest.mark.parametrize("share", ["central", "thirds"])
def test_stillinger_weber_is_finite_at_any_distance(share, r):
    sw = StillingerWeber(1.0, 1.25, 1.6, 21.0, 1.2, -1 / 3, 7.0, 0.6, 4.0, 0.0, share)
    x = jnp.asarray([[0.0, 0, 0], [r, 0, 0], [0, 1.5, 0], [r, 4.0, 0]])
    found = measure(sw, dense(x, jnp.zeros(4, int), Free()))
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(found))
    assert r < 2.0 or not np.asarray(found[1])[1].any()


def test_kernels_are_their_formulas():
    r, zero = jnp.linspace(0.9, 2.2, 14), jnp.zeros(14, int)
    lj = 4 * 1.3 * ((1.1 / r) ** 12 - (1.1 / r) ** 6)
    for potential, expected in (
        (WCA(1.3, 1.1), jnp.where(r < 2 ** (1 / 6) * 1.1, lj + 1.3, 0.0)),
        (Morse(1.3, 1.4, 1.5, 2.5), 1.3 * (jnp.exp(-2.8 * (r - 1.5)) - 2 * jnp.exp(-1.4 * (r - 1.5)))),
        (SoftSphere(1.3, 1.1, 7, 2.5, "shift"), 1.3 * ((1.1 / r) ** 7 - (1.1 / 2.5) ** 7)),
    ):
        assert error(potential.pair(r * r, zero, zero), expected) < 1e-13


def test_bonds_share_their_energy_and_miss_none():
    bonds, x = HarmonicBonds([[0, 2], [2, 1]], [2.0, 3.0], [1.0, 0.5]), jnp.asarray([[0.0], [3.0], [1.5], [9.0]])
    e = dense(x, jnp.zeros(4, int), Free(1))
    np.testing.assert_allclose(measure(bonds, e)[0], [0.125, 0.75, 0.875, 0.0])
    step = jax.jit(jax.vmap(jax.grad(lambda d: jnp.sum(bonds.partition(eqx.tree_at(lambda t: t.d, e, d))))))
    assert np.isfinite(step(jnp.stack([e.d, e.d]))).all()
    with pytest.raises(eqx.EquinoxRuntimeError, match="harmonic bond has no edge"):
        jax.block_until_ready(measure(bonds, sparse(Free(1), x, jnp.zeros(4, int), 1.2, capacity=2)))


def test_two_state_fluid_is_the_sum_of_section_11():
    fluid, e = POTENTIALS["two-state morse"], dense(X)
    r = np.sqrt(np.asarray(e.r2))
    t = np.clip((r / 2.5 - 0.8) / 0.2, 0, 1)
    weight = np.asarray(e.mask) * (1 - 10 * t**3 + 15 * t**4 - 6 * t**5) / N / 2
    c = np.sum(0.7 * np.exp(-((r - 1.6) ** 2) / (2 * 0.4**2)) * weight)
    delta = np.sum(-0.5 * np.exp(-((r - 1.9) ** 2) / (2 * 0.5**2)) * weight)
    phi = measure(fluid.base, e)[0].sum()
    assert error(measure(fluid, e)[0].sum(axis=0), [[phi, c], [c, phi + delta + 0.8]]) < 1e-12


EXTERNALS = [
    (HarmonicTrap([1.0, 2.0, 3.0], 0.5), lambda x: (x - 0.5) * [1.0, 2.0, 3.0]),
    (QuarticTrap(2.0, [0.5] * 3), lambda x: 2 * np.sum((x - 0.5) ** 2, axis=1, keepdims=True) * (x - 0.5)),
    (UniformForce([0.1, 0.0, -2.0]), lambda x: x * 0 - [0.1, 0.0, -2.0]),
    (Walls(1, 1.0, 2.0, 3.0), lambda x: 3 * (x - np.clip(x, 1.0, 2.0)) * [0, 1, 0]),
    (None, lambda x: x * 0),
]


@pytest.mark.parametrize(("external", "expected"), EXTERNALS)
def test_external_gradient(external, expected):
    np.testing.assert_allclose(external_gradient(external, X, SPECIES), expected(np.asarray(X)), rtol=1e-12, atol=1e-14)
    assert external_gradient(external, X.astype(jnp.float32), SPECIES).dtype == jnp.float32


def write(folder, text):
    (folder / "x.sw").write_text(text)
    return folder / "x.sw"


def test_sw_file_of_several_elements(tmp_path):
    """Comments, entries over lines, elements that are not asked for, and an order of our own."""
    entry = "{} {:g} 2.0 1.8 # first line\n21 1.2 -0.333\n\n 7.0 0.6 4 0 0.0 # end\n"
    triplets = itertools.product(("Si", "C", "Ge"), repeat=3)
    path = write(tmp_path, "# SiC\n" + "".join(entry.format(" ".join(t), n) for n, t in enumerate(triplets)))
    tables = read_sw(path, ["C", "Si", "C"])
    assert list(tables) == list(SW) and tables["cos0"].shape == (3, 3, 3) and tables["cos0"][0, 1, 2] == -0.333
    assert tables["epsilon"][0, 1, 2] == tables["epsilon"][2, 1, 0] == 10  # C Si C


SI = "Si Si Si 2.1683 2.0951 1.80 21.0 1.20 -0.3333 7.05 0.602 4.0 0.0 0.0\n"
ODD = 1 + np.arange(8.0).reshape(2, 2, 2) / 100
REFUSALS = [
    (lambda _: LennardJones(1.0, -1.0, 2.5), "`sigma` must be positive"),
    (lambda _: LennardJones(-1.0, 1.0, 2.5), "`epsilon` must not be negative"),
    (lambda _: LennardJones(1.0, 1.0, np.inf, "shift"), "`cutoff` must be finite for truncation"),
    (lambda _: LennardJones(1.0, 1.0, 2.5, "shifted"), "`truncation` must be one of"),
    (lambda _: LennardJones(TABLE, 1.0, 2.5).tail_energy([1, 2, 3], 1.0), "`counts` must hold"),
    (lambda _: LennardJones([[1.0, 2.0], [3.0, 1.0]], 1.0, 2.5), "`epsilon` must be symmetric"),
    (lambda _: jax.jit(lambda s: WCA(1.0, s).sigma)(1.0), "`cutoff` must be given when `sigma` is traced"),
    (lambda _: HarmonicBonds([[0, 0]], 1.0, 1.0), "join different particles"),
    (lambda _: StillingerWeber(**{**SW, "cos0": ODD}), "agree in entries i j k and i k j"),
    (lambda _: StillingerWeber(**{**SW, "sigma": ODD}), "agree in entries i j j and j i i"),
    (lambda _: TwoStateFluid(POTENTIALS["two-state lj"], *TWO_STATE), "`base` must have one state"),
    (lambda _: Walls(0, 2.0, 1.0, 1.0), "`lower` must be below"),
    (lambda at: read_sw(write(at, SI), ("Si", "C")), "lacks C C C, C C Si, .*Si Si C"),
    (lambda at: read_sw(write(at, SI.replace("21.0", "x")), ("Si",)), "line 1 has `x` for a number"),
    (lambda at: read_sw(write(at, SI.replace(" 0.0\n", "\n") + SI), ("Si",)), "must give 14 words an entry"),
    (lambda at: read_sw(write(at, SI + SI), ("Si",)), "line 2 repeats it"),
    (lambda at: read_sw(at / "no.sw", ("Si",)), "be a readable text file"),
]


@pytest.mark.parametrize(("act", "sentence"), REFUSALS)
def test_wrong_input_is_refused_in_a_sentence(tmp_path, act, sentence):
    with pytest.raises(InputError, match=sentence):
        act(tmp_path)
