"""A run gives the same numbers on one device, on several and on several processes; what it says of bad settings."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxmd_iz import distributed
from jaxmd_iz.checks import InputError
from jaxmd_iz.pieces import over_devices

SCRIPT = Path(__file__).with_name("one_of_many.py")


def _run(file: Path, processes: int, devices: int, *asked: str) -> dict[str, np.ndarray]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    # programs that are run once: compiled without optimisation
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    shared = os.environ | {"XLA_FLAGS": flags, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    shared |= {"JAXMD_IZ_COORDINATOR": f"localhost:{port}", "JAXMD_IZ_PROCESSES": str(processes)}
    shared.pop("JAX_NUM_CPU_DEVICES", None)
    together = ["together"] if processes > 1 else []
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(file), *together, *asked],
            env=shared | {"JAXMD_IZ_PROCESS": str(k)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in range(processes)
    ]
    said = [p.communicate(timeout=300)[1] for p in started]
    assert all(p.returncode == 0 for p in started), said
    with np.load(file) as found:
        assert found["devices"] == processes * devices
        return dict(found)


@pytest.fixture(scope="module")
def cut(tmp_path_factory) -> dict[int, dict[str, np.ndarray]]:
    """The same run in four pieces on 4, 4 and 1 devices of 2, 4 and 1 processes; the last goes on for the first too,
    and is made in one piece as well."""
    folder = tmp_path_factory.mktemp("cut")
    runs = (2, 2, "again"), (4, 1), (1, 1, "left")
    return {run[0]: _run(folder / f"{run[0]}.npz", *run) for run in runs}


NAMES = ("sigma", "q", "error", "q_star", "residuals")


@pytest.mark.parametrize("processes", [4, 1])
def test_the_same_bits_on_any_number_of_devices(cut, processes):
    for name in NAMES:  # 6 samples do not divide by 4: the last pieces repeat the last one
        np.testing.assert_array_equal(cut[processes][name], cut[2][name], err_msg=name)


@pytest.mark.parametrize("stage", ["sampling", "steps"])
@pytest.mark.parametrize("processes", [2, 1])
def test_an_interrupted_run_goes_on_bit_for_bit_on_any_number_of_devices(cut, processes, stage):
    for name in NAMES:
        np.testing.assert_array_equal(cut[processes][f"{name}_{stage}"], cut[2][name], err_msg=name)


def test_the_result_does_not_depend_on_how_it_is_cut(cut):
    for name in NAMES:
        whole = cut[1][f"{name}_whole"]
        scale = np.max(np.abs(whole)) if name != "residuals" else 1.0
        # the same keys for each sample; sums in another order, and rounding that six steps of dynamics carry along
        np.testing.assert_allclose(cut[2][name], whole, rtol=0, atol=1e-12 * scale, err_msg=name)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "JAXMD_IZ_COORDINATOR, JAXMD_IZ_PROCESSES, JAXMD_IZ_PROCESS is not set"),
        ({"COORDINATOR": "a:1", "PROCESSES": "two", "PROCESS": "0"}, "must be a whole number, but it is 'two'"),
        ({"COORDINATOR": "a:1", "PROCESSES": "2", "PROCESS": "2"}, "must be below the number of processes, 2"),
    ],
)
def test_bad_settings_are_named(monkeypatch, given, said):
    for name in ("COORDINATOR", "PROCESSES", "PROCESS"):
        monkeypatch.delenv(f"JAXMD_IZ_{name}", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(f"JAXMD_IZ_{name}", value)
    with pytest.raises(InputError, match=said):
        distributed.start()


def test_more_devices_than_there_are_is_refused():
    with pytest.raises(InputError, match="between 1 and 1, the number of devices, but it is 2"):
        over_devices(2)
    with pytest.raises(InputError, match="Argument `pieces` must be 1 or more, but it is 0"):
        over_devices(pieces=0)


@pytest.mark.parametrize(
    ("code", "text", "returned"),
    [
        (0, "[Gloo] Rank 0 is connected to 1 peer ranks.\n", 0),
        (2, "jaxmd-iz: Argument `x` must be finite.\n", 2),
        (1, "[Gloo] Rank 0 is connected to 1 peer ranks.\nKeyError: 'x'\n", 1),  # a defect keeps its traceback
        (1, "[Gloo] Rank 0 is connected.\nValueError: Gloo all-reduce failed: connection closed by peer\n", 3),
        (-6, "[Gloo] Rank 0 is connected.\nFatal Python error: Aborted\n", 3),
    ],
)
def test_only_a_lost_process_is_called_lost(monkeypatch, capsys, code, text, returned):
    def run(command, said):
        said.write(text)
        return code

    monkeypatch.setattr(distributed, "_passing_signals_on", run)
    assert distributed.watched(["run"], lambda: "Go on with `--resume`.") == returned
    said = capsys.readouterr().err
    assert ("was lost" in said) == ("Go on with `--resume`." in said) == (returned == 3)
    assert returned == 3 or said == text


def test_signals_reach_the_process_that_is_watched(tmp_path):
    ask = "import os, signal, time\nsignal.signal(15, lambda *_: os._exit(143))\n"
    ask += "os.kill(os.getppid(), 15)\ntime.sleep(60)"
    with open(tmp_path / "said", "w+") as said:
        assert distributed._passing_signals_on([sys.executable, "-c", ask], said) == 143
