"""Embedded atoms against ASE's calculator and the formulas behind the tables, files, and the balance laws.

ASE's splines of F and ρ are ours: cubic, not-a-knot. It interpolates φ and we r φ: with a step h both are off by at
most 5/384 h⁴ max|f⁗| (h = 2.5e-3 Å and f⁗ ≲ 300 eV/Å⁴: 1e-10 eV), and their slopes by 1/24 h³ max|f⁗| (2e-7 eV/Å).
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.eam import EAM

from jaxmd_iz import build, surfaces
from jaxmd_iz.balance import balance_terms, relative_residual
from jaxmd_iz.checks import InputError
from jaxmd_iz.config import loads
from jaxmd_iz.mollifiers import Polynomial
from jaxmd_iz.neighbours import neighbour_list
from jaxmd_iz.potentials.embedded import EmbeddedAtom, read_setfl
from jaxmd_iz.space import Free, Periodic
from jaxmd_iz.system import System
from jaxmd_iz.units import convert

SIZE, CUTOFF = 2000, 4.9
SC = {"Cu": (0.012382, 3.61, 9, 39.432), "Ag": (0.0025415, 4.09, 12, 144.41)}  # ε, a, n, c of Sutton and Chen; m = 6


def smooth(r):
    """1 below 3.4 Å, 0 from the cutoff on, with two continuous derivatives."""
    t = np.clip((CUTOFF - r) / (CUTOFF - 3.4), 0.0, 1.0)
    return t**3 * (10 - 15 * t + 6 * t**2)


def phi(one, other):
    """ε (a/r)ⁿ, the geometric mean of the two elements, with a core that is finite at r = 0."""
    (e, a, n, _), (f, b, m, _) = SC[one], SC[other]
    return lambda r: np.sqrt(e * f) * (a**n * b**m) ** 0.5 * (r**2 + 0.64) ** (-(n + m) / 4) * smooth(r)


def rho(one, felt=1.0):
    return lambda r: felt * SC[one][1] ** 6 * (r**2 + 0.64) ** -3.0 * smooth(r)


def embedding(one):
    """−ε c √ρ̄, with a root that is smooth at 0."""
    e, _, _, c = SC[one]
    return lambda s: -e * c * (np.sqrt(s + 1.0) - 1.0)


def write(path, elements):
    """ASE writes the file; with `.fs` ρ depends on who feels it."""
    form, several = path.suffix[1:], range(len(elements))
    if form == "fs":
        density = [[rho(a, 1.0 + 0.3 * (i != j)) for j in several] for i, a in enumerate(elements)]
    else:
        density = [rho(a) for a in elements]
    writer = EAM(
        elements=list(elements), embedded_energy=np.array([embedding(a) for a in elements]),
        electron_density=np.array(density), phi=np.array([[phi(a, b) for b in elements] for a in elements]),
        nr=SIZE, nrho=SIZE, dr=CUTOFF / SIZE, drho=400.0 / SIZE, cutoff=CUTOFF, form=form,
        Z=[29] * len(elements), mass=[63.5] * len(elements), a=[3.61] * len(elements), lattice=["fcc"] * len(elements),
        header=["Sutton–Chen\n", "\n", "\n"],
    )  # fmt: skip
    writer.Nelements = len(elements)  # which it knows only when it has read a file
    writer.write_potential(str(path), nc=4)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("setfl")
    return {kind: write(folder / f"CuAg.{kind}", ["Cu", "Ag"]) for kind in ("alloy", "fs")}


CELL = Periodic(3 * np.array([[3.7, 0.0, 0.0], [0.15, 3.7, 0.0], [-0.1, 0.1, 3.8]]))
N = 103


def crystal(mixed):
    """fcc, 27 cells, five vacancies, atoms off their sites."""
    rng = np.random.default_rng(3)
    basis = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
    sites = np.concatenate([basis + shift for shift in itertools.product(range(3), repeat=3)]) / 3
    x = sites[np.sort(rng.permutation(108)[:N])] @ CELL.matrix + rng.uniform(-0.25, 0.25, (N, 3))
    return jnp.asarray(x), jnp.asarray(rng.integers(0, 2, N) if mixed else np.zeros(N, int))


@eqx.filter_jit
def measure(potential, e):
    """λⁿ, the gradient and ∂λ/∂strain."""
    surface = surfaces.surface(potential, e, jnp.ones(e.x.shape[0]), 0, "none")
    return surface.energy, surface.gradient, surfaces.virial(potential, e, jnp.ones(e.x.shape[0]), 0, "none")


def on_list(x, species, skin=0.3):
    return neighbour_list(CELL, x, CUTOFF, skin=skin, capacity=100).edges(CELL, x, species)


def error(value, expected):
    value, expected = np.asarray(value), np.asarray(expected)
    return float(np.max(np.abs(value - expected)) / np.max(np.abs(expected)))


@pytest.fixture(scope="module")
def measured(files):
    found = {}
    for kind, form in (("Cu", "alloy"), ("alloy", "alloy"), ("fs", "fs")):
        x, species = crystal(kind != "Cu")
        potential = EmbeddedAtom.from_file(files[form], ["Cu", "Ag"])
        found[kind] = potential, x, species, measure(potential, on_list(x, species))
    return found


@pytest.mark.parametrize("kind", ["Cu", "alloy", "fs"])
def test_energies_forces_and_stress_are_those_of_ase(files, measured, kind):
    _, x, species, (energy, gradient, virial) = measured[kind]
    ase = EAM(potential=str(files["fs" if kind == "fs" else "alloy"]))
    atoms = Atoms(np.array(["Cu", "Ag"])[species], np.asarray(x), cell=CELL.matrix, pbc=True, calculator=ase)
    forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
    # bounds for the shortest bonds, beside energies of 3 eV an atom and forces of 1 eV/Å; seen are 3e-12 and 1e-8
    print(
        "ERR",
        error(energy.sum(), atoms.get_potential_energy()),
        error(-gradient, forces),
        error(virial / CELL.volume, stress),
    )
    assert error(energy.sum(), atoms.get_potential_energy()) < 1e-10
    assert error(-gradient, forces) < 1e-7 and error(virial / CELL.volume, stress) < 1e-7
    d = np.asarray(CELL.displacement(x[:, None] - x[None]))
    r = np.linalg.norm(d, axis=2) + 99 * np.eye(N)
    pairs = [
        sum(ase.phi[a, species[m]](r[n, m]) / 2 for m in np.flatnonzero(r[n] < CUTOFF)) for n, a in enumerate(species)
    ]
    each = np.array(pairs) + [ase.embedded_energy[a](s) for a, s in zip(species, ase.total_density, strict=True)]
    assert error(energy, each) < 1e-10
    assert np.abs(forces).max() > 0.3 and np.ptp(each) > 0.1  # eV/Å, eV: there is something to compare


def test_tables_follow_the_formulas_they_were_made_of(measured):
    """Splines are off by h⁴, so the energies of a table are those of Sutton and Chen's formulas."""
    _, x, species, (energy, _, _) = measured["fs"]
    names = np.array(["Cu", "Ag"])[species]
    r = np.linalg.norm(np.asarray(CELL.displacement(x[:, None] - x[None])), axis=2) + 99 * np.eye(N)
    expected = np.zeros(N)
    for n in range(N):
        felt = [
            rho(b, 1.0 + 0.3 * (a != b))(r[n, m]) for m, (a, b) in enumerate(zip([names[n]] * N, names, strict=True))
        ]
        expected[n] = embedding(names[n])(sum(felt)) + sum(phi(names[n], b)(r[n, m]) / 2 for m, b in enumerate(names))
    assert error(energy, expected) < 1e-10


def test_gradients_are_finite_differences_in_positions_and_tables(files, measured):
    """Coefficients are linear in the tables: the derivative goes through the construction."""
    tables = read_setfl(files["fs"], ["Cu", "Ag"])
    values = {k: jnp.asarray(tables.pop(k)) for k in ("embedding", "density", "pair")}
    _, x, species, _ = measured["fs"]
    near = neighbour_list(CELL, x, CUTOFF, skin=0.3, capacity=100)
    rng = np.random.default_rng(1)
    # a smooth change of the tables: one of every point by itself would have kinks of the third derivative everywhere
    wave = {k: np.cos(np.arange(SIZE) / 200 + i) for i, k in enumerate(values)}
    way = {k: v * jnp.asarray(wave[k] * 0.1).reshape((1,) * (v.ndim - 1) + (-1,)) for k, v in values.items()}
    way = way, jnp.asarray(rng.uniform(-1, 1, x.shape))

    @jax.jit
    def energy(s):
        moved, at = jax.tree.map(lambda a, b: a + s * b, (values, x), way)
        return jnp.sum(EmbeddedAtom(**moved, **tables).partition(near.edges(CELL, at, species)))

    slope, h = jax.jit(jax.grad(energy))(0.0), 2e-4
    # fourth order in h; a step moves atoms by less than the table's step, so the splines' third derivatives hardly jump
    found = (8 * (energy(h) - energy(-h)) - (energy(2 * h) - energy(-2 * h))) / (12 * h)
    assert error(found, slope) < 1e-8


def test_list_skin_order_and_precision_do_not_matter(measured):
    potential, x, species, whole = measured["fs"]
    dense = measure(potential, CELL.edges(x, species))
    assert max(map(error, dense, whole)) < 1e-12
    order = np.random.default_rng(5).permutation(N)
    moved = measure(potential, on_list(x[order] + jnp.asarray([[3.0, -20.0, 1.0]]), species[order]))
    assert error(moved[0], whole[0][order]) < 1e-12 and error(moved[1], whole[1][order]) < 1e-11
    single = measure(potential, on_list(x.astype(jnp.float32), species))
    assert all(v.dtype == jnp.float32 for v in single)
    assert error(single[0], whole[0]) < 1e-5 and error(single[1], whole[1]) < 1e-4


def test_ends_of_the_tables():
    """Tables of polynomials, which splines keep: beyond the cutoff, in the core, outside of F, far apart."""
    r, s = 0.5 * np.arange(9), 0.25 * np.arange(7)
    potential = EmbeddedAtom((s**3 - s)[None], (5 - r)[None], (r * (2 - r**2))[None, None], 0.25, 0.5, 4.2)

    @jax.jit
    def energy(r):
        x = jnp.zeros((2, 1)).at[1, 0].set(r)
        return jnp.sum(potential.partition(Free(1).edges(x, jnp.zeros(2, int))))

    value, slope = jax.vmap(jax.value_and_grad(energy))(jnp.asarray([4.19, 4.21, 3.7, 1.0, 0.2, 0.0]))
    f = lambda q: q**3 - q if q < 1.5 else 1.5**3 - 1.5 + (q - 1.5) * (3 * 1.5**2 - 1)  # noqa: E731
    at = np.array([4.19, np.inf, 3.7, 1.0, 0.5, 0.5])
    expected = [0.0 if np.isinf(q) else 2 * f(5 - q) + 2 - q**2 for q in at]
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12)
    df = [0.0 if np.isinf(q) else (3 * min(5 - q, 1.5) ** 2 - 1) for q in at]
    inside = np.array([1, 0, 1, 1, 0, 0])  # constant in the core
    np.testing.assert_allclose(
        slope, inside * (-2 * np.array(df) - 2 * np.where(inside, at, 0)), rtol=1e-11, atol=1e-11
    )


def cluster(files):
    """Ten atoms of two elements in a plane, most of them in range of each other, with momenta."""
    rng, x = np.random.default_rng(8), np.zeros((0, 2))
    while len(x) < 10:
        trial = rng.uniform(0.0, 9.0, 2)
        if not len(x) or np.linalg.norm(x - trial, axis=1).min() > 2.2:
            x = np.concatenate([x, trial[None]])
    p = jnp.asarray(rng.normal(size=x.shape) * 5)
    return EmbeddedAtom.from_file(files["fs"], ["Cu", "Ag"]), jnp.asarray(x), p, jnp.asarray([0, 1] * 5)


def test_balance_laws_of_every_split(files):
    """On a list with empty slots and bonds out of range; `min_norm` on all pairs."""
    potential, x, p, species = cluster(files)
    near = neighbour_list(Free(2), x, CUTOFF, skin=0.3, capacity=10)
    systems = [
        System(potential, Free(2), np.linspace(60.0, 110.0, 10), species, split=split)
        for split in ("energy", "distance", "min_norm")
    ]
    y = jnp.asarray(np.random.default_rng(4).uniform(2, 7, (3, 2)))

    @eqx.filter_jit
    def look(systems, y, x, p):
        w = jnp.sum(p, axis=0) / jnp.sum(systems[0].masses)
        residuals = [
            relative_residual(balance_terms(s, y, x, p, 0, w, Polynomial(3.0, 2), lists))
            for s, lists in zip(systems[1:], (near, None), strict=True)
        ]
        return residuals, [s.bonds(x, p, 0, near)[1] for s in systems[:2]]

    residuals, (energy, distance) = look(systems, y, x, p)
    for r in residuals:
        assert max(r.mass, r.momentum, r.energy) < 1e-12, r  # rounding, relative to the sum of the terms' norms
    # ∂λᵐ/∂xⁿ has the direction of the bond: as for pairs `energy` and `distance` are one split, and R = −S
    for one, other in ((energy.f, distance.f), (energy.r, distance.r), (energy.g, distance.g), (energy.r, -energy.f)):
        assert error(one, other) < 1e-13


CONFIG = """
units.system = "{}"
potential = {{ kind = "eam", file = "{}", elements = {{ A = "Ag" }} }}
species = {{ Cu = 63.546, A = 107.9 }}
density = {{ number = 256, number_density = {}, temperature = 300 }}
mollifier = {{ epsilon = 3.0 }}
grid = {{ profile = 8 }}
"""


def test_configuration_builds_it_in_the_units_of_the_system(files):
    metal, atomic = (
        build.potentials.potential_of(loads(CONFIG.format(u, files["alloy"], rho)), ("Cu", "A"), 256)
        for u, rho in (("metal", 0.08), ("atomic", 0.01))
    )
    assert metal.cutoff == CUTOFF and atomic.cutoff == pytest.approx(CUTOFF / 0.529177210544, rel=1e-9)
    energy, length = convert(1.0, "energy", "metal", "atomic"), convert(1.0, "length", "metal", "atomic")
    assert error(atomic.embedding, energy * metal.embedding) < 1e-12
    assert error(atomic.pair, energy * length * metal.pair) < 1e-12 and error(atomic.density, metal.density) < 1e-12
    both = read_setfl(files["alloy"], ["Ag", "Cu", "Ag"])
    assert both["pair"].shape == (3, 3, SIZE) and np.array_equal(both["pair"][0, 1], both["pair"][1, 2])
    with pytest.raises(InputError, match=r"`potential.file` must be converted to `lj` units"):
        build.potentials.potential_of(loads(CONFIG.format("lj", files["alloy"], 0.08)), ("Cu", "A"), 256)
    with pytest.raises(InputError, match=r"`potential.elements` must be in .* Zn are not"):
        build.potentials.potential_of(loads(CONFIG.format("metal", files["alloy"], 0.08)), ("Zn", "A"), 256)
    with pytest.raises(InputError, match=r"`potential.elements` must be `Cu`, but it is `A`"):
        build.potentials.potential_of(loads(CONFIG.format("metal", files["alloy"], 0.08)), ("Cu",), 256)
    with pytest.raises(InputError, match=r"`potential.file` must be given for kind `eam`"):
        loads(CONFIG.format("metal", "x", 0.08), ["potential.file="])


F, R, V = "\n".join(["0 -1 -2 -3 -4"]), "5 4 3 2 1 0", "0 5 4 3 2 0"
SETFL = f"a\nb\nc\n1 Cu\n5 0.1 6 0.5 2.5\n29 63.5 3.6 fcc\n{F}\n{R}\n{V}\n"
FILES = [
    (lambda s: s[:-5], "hold 21 words after line 5, but .* holds 19: it is cut or not setfl"),
    (lambda s: s + "1\n", "holds 22: it is cut or not setfl"),
    (lambda s: "\n".join(s.split("\n")[:4]), "give the number R of values of F in line 5"),
    (lambda s: "\n".join(s.split("\n")[:5])[:-4], "give R, drho, N, dr and the cutoff in line 5"),
    (lambda s: s[:5], "give the number of elements in line 4 as a whole number above 0, but in .* it is `missing`"),
    (lambda s: s.replace("1 Cu", "0 Cu"), "it is `0`"),
    (lambda s: s.replace("5 0.1", "5.0 0.1"), "it is `5.0`"),
    (lambda s: s.replace("-3", "nan"), "hold finite numbers, but .* has `nan` among them"),
    (lambda s: s.replace("-3", "three"), "hold finite numbers, but .* has `three` among them"),
    (lambda s: s.replace(" 2.5", " 3.5"), "`cutoff` must be at most a step beyond the tables, but it is 3.5"),
    (lambda s: s.replace("5 0.1", "5 -0.1"), "`drho` must be positive and finite"),
    (lambda s: s.replace("1 Cu", "1 Ag"), "`elements` must be in .* .Ag., but Cu are not"),
    (lambda s: b"\x00\xff\xfe" + s.encode(), "be a readable text file"),
    (lambda s: s.replace("\n", "\x00"), "give the number of elements"),
]


@pytest.mark.parametrize(("change", "sentence"), FILES)
def test_broken_files_are_refused_in_a_sentence(tmp_path, change, sentence):
    text = change(SETFL)
    (tmp_path / "x.alloy").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=sentence):
        EmbeddedAtom.from_file(tmp_path / "x.alloy", ["Cu"])


def test_a_small_file_is_read_and_wrong_tables_are_refused(tmp_path):
    (tmp_path / "x.alloy").write_text(SETFL)
    assert EmbeddedAtom.from_file(tmp_path / "x.alloy", ["Cu"]).pair.shape == (1, 1, 8)
    with pytest.raises(InputError, match="be a readable text file"):
        read_setfl(tmp_path, ["Cu"])
    table = np.zeros((2, 2, 6))
    with pytest.raises(InputError, match="`pair` must be symmetric in the species"):
        EmbeddedAtom(np.zeros((2, 6)), table, table + np.arange(4).reshape(2, 2, 1), 1.0, 1.0, 5.0)
    with pytest.raises(InputError, match=r"must be .S, R., .S, N. or .S, S, N."):
        EmbeddedAtom(np.zeros((2, 6)), table[0, 0], table, 1.0, 1.0, 5.0)
    with pytest.raises(InputError, match="have 5 points or more"):
        EmbeddedAtom(np.zeros((2, 4)), table, table, 1.0, 1.0, 5.0)
