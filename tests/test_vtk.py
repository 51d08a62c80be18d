"""VTK files hold the numbers of the dataset where they belong: read back from the XML, and by VTK where it is there."""

import base64
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import xarray

from jaxmd_iz.checks import InputError
from jaxmd_iz.store import read_fields, write_netcdf
from jaxmd_iz.vtk import write_vtk

TYPES = {"Float64": "<f8", "Float32": "<f4", "Int64": "<i8", "UInt8": "<u1"}
AXES = [1 + np.arange(3) * 0.5, np.arange(4) * 0.25, -3 + np.arange(2) * 1.5]
BENT = np.array([[1.0, 0.0, 0.0], [0.3, 1.0, 0.0], [0.2, 0.1, 1.0]])


def lattice(*axes):
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))


def fields(points, shape=None, times=1, line=False):
    """Random fields with their units, as `to_xarray` lays them out."""
    (n, dim), rng = points.shape, np.random.default_rng(0)
    along = ("time", "y")
    data = {
        "rho": (along, rng.random((times, n)), {"units": "amu/Å³"}),
        "rho_err": (along, np.full((times, n), np.nan)),
        "number_density": ((*along, "species"), rng.random((times, n, 2))),
        "u": ((*along, "i"), rng.random((times, n, dim)).astype(np.float32)),
        "sigma": ((*along, "i", "j"), rng.random((times, n, dim, dim))),
        "valid": (along, rng.random((times, n)) > 0.5),
        "moment_rho": (("time", "group", "y"), rng.random((times, 4, n))),
    }
    places = {f"y_{a}": ("y", points[:, k]) for k, a in enumerate("xyz"[:dim])}
    if line:
        places["s"] = ("y", points[:, -1])
    attributes = {} if shape is None else {"grid_shape": list(shape)}
    return xarray.Dataset(data, {"time": np.arange(times) * 0.5, "species": ["A", "<&"], **places}, attributes)


def decode(element):
    """The numbers of a DataArray, (N,) or (N, components)."""
    raw = base64.b64decode(element.text.strip())
    assert int.from_bytes(raw[:8], "little") == len(raw) - 8
    columns = int(element.get("NumberOfComponents"))
    values = np.frombuffer(raw[8:], TYPES[element.get("type")])
    return values.reshape(-1, columns) if columns > 1 else values


def read(path):
    """Kind, points (N, 3), arrays of the points, and the time of a file."""
    root = ElementTree.parse(path).getroot()
    kind = root.get("type")
    data = root.find(kind)
    piece = data.find("Piece")
    arrays = {a.get("Name"): decode(a) for a in piece.find("PointData")}
    if kind == "ImageData":
        low_high = np.array(data.get("WholeExtent").split(), int).reshape(3, 2)
        assert piece.get("Extent") == data.get("WholeExtent")
        origin, spacing = (np.array(data.get(k).split(), float) for k in ("Origin", "Spacing"))
        z, y, x = np.meshgrid(*[np.arange(a, b + 1) for a, b in low_high[::-1]], indexing="ij")
        points = origin + np.stack([x, y, z], -1).reshape(-1, 3) * spacing
    else:
        points = decode(piece.find("Points")[0])
    return kind, points, arrays, decode(data.find("FieldData")[0])[0]


def same(points, arrays, dataset, t=0):
    """At each point of the file the values that the dataset has there."""
    now = dataset.isel(time=t)
    dim = now.sizes["i"]
    own = np.pad(np.stack([now[f"y_{a}"] for a in "xyz"[:dim]], -1), ((0, 0), (0, 3 - dim)))
    distance = np.linalg.norm(points[:, None] - own[None], axis=-1)
    at = distance.argmin(axis=1)
    assert len(points) == len(own) == len(set(at)) and distance.min(axis=1).max() < 1e-12
    assert set(arrays) == {"rho", "rho_err", "u", "sigma", "valid", "number_density_A", "number_density_<&"}
    np.testing.assert_array_equal(arrays["rho"], now.rho.values[at])
    assert np.isnan(arrays["rho_err"]).all()
    np.testing.assert_array_equal(arrays["number_density_<&"], now.number_density.values[at, 1])
    np.testing.assert_array_equal(arrays["u"][:, :dim], now.u.values[at])
    sigma = arrays["sigma"].reshape(-1, 3, 3)
    np.testing.assert_array_equal(sigma[:, :dim, :dim], now.sigma.values[at])
    assert not arrays["u"][:, dim:].any() and not sigma[:, dim:].any() and not sigma[:, :, dim:].any()
    np.testing.assert_array_equal(arrays["valid"], now.valid.values[at])


CASES = {
    "image": (lattice(*AXES), (3, 4, 2), False, "ImageData", "vti"),
    "triclinic": (lattice(*AXES) @ BENT, (3, 4, 2), False, "StructuredGrid", "vts"),
    "found": (lattice(*AXES) @ BENT, None, False, "StructuredGrid", "vts"),
    "plane": (lattice(*AXES[:2]), (3, 4), False, "ImageData", "vti"),
    "row": (AXES[1][:, None], (4,), False, "ImageData", "vti"),
    "line": (AXES[1][::-1, None] * [[0.1, 0.2, 1.0]], None, True, "PolyData", "vtp"),
    "points": (np.random.default_rng(1).normal(size=(5, 3)), None, False, "PolyData", "vtp"),
}


@pytest.mark.parametrize("case", CASES)
def test_numbers_stand_at_their_points(case, tmp_path):
    points, shape, line, kind, suffix = CASES[case]
    dataset = fields(points, shape, line=line)
    write_netcdf(dataset, tmp_path / "a.nc")
    path = write_vtk(read_fields(tmp_path / "a.nc"), tmp_path / "a")
    assert path == tmp_path / f"a.{suffix}"
    found, where, arrays, time = read(path)
    assert found == kind and time == 0
    same(where, arrays, dataset)
    piece = ElementTree.parse(path).getroot().find(kind).find("Piece")
    if line:
        assert piece.get("NumberOfLines") == "1"
        connectivity, offsets = map(decode, piece.find("Lines"))
        assert offsets == [4] and (np.diff(where[connectivity, 0]) < 0).all()
    if case == "points":
        assert piece.get("NumberOfVerts") == "5" and decode(piece.find("Verts")[1]).tolist() == [1, 2, 3, 4, 5]
    key = piece.find("PointData").find("DataArray[@Name='rho']/InformationKey")
    assert key.text == "amu/Å³"


def test_several_times_are_listed_in_a_collection(tmp_path):
    dataset = fields(lattice(*AXES), (3, 4, 2), times=11)
    path = write_vtk(dataset, tmp_path / "run.pvd")
    entries = ElementTree.parse(path).getroot().find("Collection")
    assert [float(e.get("timestep")) for e in entries] == [0.5 * t for t in range(11)]
    for t in (0, 10):
        _, points, arrays, time = read(tmp_path / entries[t].get("file"))
        assert time == 0.5 * t
        same(points, arrays, dataset, t)
    one = write_vtk(dataset.isel(time=3), tmp_path / "three", errors=False)
    _, _, arrays, time = read(one)
    assert time == 1.5 and "rho_err" not in arrays


def test_vtk_itself_reads_the_files(tmp_path):
    vtk = pytest.importorskip("vtk", reason="VTK, which no part of this package needs, is not installed")
    readers = {"vti": "ImageData", "vts": "StructuredGrid", "vtp": "PolyData"}
    for case, (points, shape, line, _, suffix) in CASES.items():
        dataset = fields(points, shape, line=line)
        reader = getattr(vtk, f"vtkXML{readers[suffix]}Reader")()
        reader.SetFileName(str(write_vtk(dataset, tmp_path / case)))
        reader.Update()
        data = reader.GetOutput()
        where = np.array([data.GetPoint(k) for k in range(data.GetNumberOfPoints())])
        table = data.GetPointData()
        arrays = {}
        for k in range(table.GetNumberOfArrays()):
            array = table.GetArray(k)
            rows = np.array([array.GetTuple(r) for r in range(array.GetNumberOfTuples())])
            arrays[array.GetName()] = rows[:, 0] if rows.shape[1] == 1 else rows
        same(where, arrays, dataset)
        assert data.GetNumberOfCells() > 0 and data.GetFieldData().GetArray("TimeValue").GetValue(0) == 0


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        (lambda d: "fields.nc", "a", "`dataset` must be an xarray.Dataset, but it is a str"),
        (lambda d: d.drop_vars(["y_x", "y_y", "y_z"]), "a", "have points `y`"),
        (lambda d: d.isel(y=slice(0)), "a", "have points `y`"),
        (lambda d: d[["moment_rho"]], "a", "hold fields, such as `rho`"),
        (lambda d: d.assign_coords(y_x=d.y_x * np.nan), "a", "have finite points"),
        (lambda d: d, "a.vtk", "`path` must end in `.vti`"),
        (lambda d: fields(lattice(*AXES), times=2), "a.vtp", "`path` must end in `.pvd`"),
        (lambda d: d, "no/such/folder/a", "a file that can be written"),
    ],
)
def test_bad_input_ends_in_one_sentence(change, path, says, tmp_path):
    with pytest.raises(InputError) as error:
        write_vtk(change(fields(lattice(*AXES), (3, 4, 2))), tmp_path / path)
    assert says in str(error.value) and "\n" not in str(error.value) and not list(tmp_path.iterdir())
