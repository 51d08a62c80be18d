"""Bad files as data: configurations, trajectories, parameters, points and fields."""

from pathlib import Path

XYZ = '2\nLattice="6 0 0 0 6 0 0 0 6" Properties=species:S:1:pos:R:3:velocities:R:3 pbc="T T T"\n'
GOOD = XYZ + "X 0 0 0 0.1 0.2 0.3\nX 1.5 0 0 -0.1 -0.2 -0.3\n"
DUMP = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n0 6\n0 6\n0 6\n"
ROWS = "ITEM: ATOMS id type x y z vx vy vz\n1 1 0 0 0 1 0 0\n2 1 1.5 0 0 -1 0 0\n"
LEAST = "[mollifier]\nepsilon = 1.5\n[grid]\nprofile = 8\n"
WAVE = "s,rho,T\n1,0.5,1\n3,0.5,1\n5,0.5,1\n"


def atoms(*rows: str, header: str = XYZ) -> str:
    """An extended XYZ file of these rows."""
    return header + "\n".join(rows) + "\n"


#: Files of the cases, by name.
FILES: dict[str, str | bytes] = {
    # configurations
    "empty.toml": "",
    "broken.toml": "[grid\nprofile = 8",
    "truncated.toml": LEAST + "[density]\ntemperature = ",
    "twice.toml": LEAST + "[grid]\nprofile = 9\n",
    "binary.toml": bytes(range(256)) * 64,
    "latin.toml": (LEAST + "# Größe").encode("latin-1"),
    "wide.toml": LEAST.encode("utf-16"),
    "zeros.toml": b"\0" * 4096,
    "deep.toml": "a = " + "[" * 20000 + "]" * 20000,
    "tables.toml": "[" + ".".join("a" * 3000) + "]\n",
    "digits.toml": LEAST + "[density]\nsamples = " + "9" * 5000,
    "long.toml": LEAST + f'[density]\nkind = "{"x" * 1_000_000}"',
    "good.toml": LEAST,
    # trajectories
    "good.xyz": GOOD,
    "empty.xyz": "",
    "blank.xyz": "\n\n\n",
    "binary.xyz": bytes(range(256)) * 64,
    "latin.xyz": GOOD.replace("X 0", "Ä 0").encode("latin-1"),
    "wide.xyz": GOOD.encode("utf-16"),
    "truncated.xyz": GOOD[:-30],
    "short.xyz": GOOD.replace("2\n", "3\n", 1),
    "claims.xyz": GOOD.replace("2\n", "99999999999999\n", 1),
    "minus.xyz": GOOD.replace("2\n", "-2\n", 1),
    "none.xyz": '0\nLattice="6 0 0 0 6 0 0 0 6" Properties=species:S:1:pos:R:3:velocities:R:3 pbc="T T T"\n',
    "letters.xyz": GOOD.replace("1.5", "one"),
    "nan_x.xyz": GOOD.replace("1.5", "nan"),
    "inf_x.xyz": GOOD.replace("1.5", "inf"),
    "nan_v.xyz": GOOD.replace("-0.1", "nan"),
    "inf_v.xyz": GOOD.replace("-0.1", "-inf"),
    "still.xyz": GOOD.replace(":velocities:R:3", "").replace(" 0.1 0.2 0.3", "").replace(" -0.1 -0.2 -0.3", ""),
    "on_top.xyz": GOOD.replace("1.5", "0"),
    "image.xyz": GOOD.replace("1.5", "6"),
    "near.xyz": GOOD.replace("1.5", "1e-200"),
    "flat.xyz": GOOD.replace("6 0 0 0 6 0 0 0 6", "6 0 0 6 0 0 0 0 6"),
    "no_cell.xyz": GOOD.replace('Lattice="6 0 0 0 6 0 0 0 6" ', "").replace("T T T", "F F F"),
    "small.xyz": GOOD.replace("6 0 0 0 6 0 0 0 6", "4 0 0 0 4 0 0 0 4"),
    "nan_cell.xyz": GOOD.replace("6 0 0 0 6 0 0 0 6", "6 0 0 0 nan 0 0 0 6"),
    "slab.xyz": GOOD.replace("T T T", "T T F"),
    "real.xyz": GOOD.replace("pbc", "units=real pbc"),
    "metal.xyz": GOOD.replace("pbc", "units=metal pbc"),
    "grows.xyz": GOOD + GOOD.replace("6 0 0 0 6 0 0 0 6", "7 0 0 0 7 0 0 0 7"),
    "loses.xyz": GOOD + atoms("X 0 0 0 0 0 0").replace("2\n", "1\n", 1),
    "swaps.xyz": GOOD.replace("X 1.5", "H 1.5") + GOOD.replace("X 0", "H 0"),
    "unnamed.xyz": GOOD,
    "massless.xyz": GOOD.replace(":velocities:R:3", ":momenta:R:3").replace("X ", "Xx "),
    "what.unheard": "this is no format of atoms",
    "good.dump": DUMP + ROWS,
    "head.dump": DUMP,
    "words.dump": "x y z\n",
    "cut.dump": DUMP + ROWS[:-20],
    "half.dump": (DUMP + ROWS)[: len(DUMP) - 9],
    "text.dump": (DUMP + ROWS).replace("1.5", "no"),
    "nan.dump": (DUMP + ROWS).replace("1.5", "nan"),
    "claims.dump": (DUMP + ROWS).replace("ATOMS\n2", "ATOMS\n999999999999"),
    "minus.dump": (DUMP + ROWS).replace("ATOMS\n2", "ATOMS\n-2"),
    "twelve.dump": (DUMP + ROWS).replace("ATOMS\n2", "ATOMS\ntwelve"),
    "boxless.dump": (DUMP + ROWS).replace("ITEM: BOX BOUNDS pp pp pp\n0 6\n0 6\n0 6\n", ""),
    "box.dump": (DUMP + ROWS).replace("0 6\n", "0 0\n", 1),
    "columns.dump": (DUMP + ROWS).replace("x y z vx", "fx fy fz vx"),
    "packed.dump.gz": b"this was never packed",
    "cut.dump.gz": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03abc",
    "fake.h5": b"\x89HDF\r\n\x1a\n" + b"\0" * 100,
    # parameters of potentials
    "empty.sw": "",
    "binary.sw": bytes(range(256)),
    "short.sw": "Si Si Si 2.1683 2.0951\n",
    "words.sw": "Si Si Si 2.1683 two 1.80 21.0 1.20 -0.3333 7.05 0.602 4.0 0.0 0.0\n",
    "other.sw": "Ge Ge Ge 1.93 2.181 1.80 31.0 1.20 -0.3333 7.05 0.602 4.0 0.0 0.0\n",
    "nan.sw": "Si Si Si nan 2.0951 1.80 21.0 1.20 -0.3333 7.05 0.602 4.0 0.0 0.0\n",
    "empty.setfl": "",
    "short.setfl": "a\nb\nc\n1 Al\n100 0.1 100 0.1 5\n",
    "binary.setfl": bytes(range(256)),
    "empty.lvc": "",
    "binary.lvc": bytes(range(256)),
    # points and macroscopic data
    "empty.txt": "",
    "binary.txt": bytes(range(256)),
    "words.txt": "1 2 three\n",
    "ragged.txt": "1 2 3\n1 2\n",
    "planar.txt": "1 2\n3 4\n",
    "nan.txt": "1 2 nan\n",
    "empty.csv": "",
    "binary.csv": bytes(range(256)),
    "ragged.csv": "s,rho,T\n1,2\n",
    "blind.csv": WAVE.replace("rho", "n"),
    "cold.csv": WAVE.replace("s,rho,T", "s,rho,t"),
    "nan.csv": WAVE.replace("3,0.5", "3,nan"),
    "brief.csv": "s,rho,T\n1,0.5,1\n",
    # fields
    "empty.nc": b"",
    "text.nc": "these are no fields",
    "binary.nc": bytes(range(256)) * 16,
}


def fields(folder: Path) -> None:
    """Writes files of fields that a fit cannot take, made of those that come with the package."""
    from importlib.resources import files

    import xarray as xr

    from jaxmd_iz.store import write_netcdf

    source = Path(str(files("jaxmd_iz") / "examples" / "lj_shear_wave.nc"))
    (folder / "cut.nc").write_bytes(source.read_bytes()[:20000])
    good = xr.load_dataset(source, engine="h5netcdf")
    units = {k: v for k, v in good.attrs.items() if k != "unit_system"}
    made = {
        "fields": good,
        "other": xr.Dataset({"wind": ("height", [1.0, 2.0])}),
        "bare": good[["rho"]],
        "unitless": good.drop_attrs().assign_attrs(units),
        "si": good.assign_attrs(unit_system="si"),
        "nan": good.assign(moment_k=good["moment_k"].where(good["moment_k"] > 0)),
        "few": good.isel(time=[0]),
        "brief": good.isel(y=slice(0, 5)),
        "lone": good.isel(group=[0]),
    }
    for name, dataset in made.items():
        write_netcdf(dataset, folder / f"{name}.nc")
