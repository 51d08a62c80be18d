"""Several processes that make one run together, and what one of them knows that all need. Knows no physics."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxmd_iz.checks import fail, must

TOGETHER = "JAXMD_IZ_"  # COORDINATOR, PROCESSES, PROCESS of the environment, where no SLURM tells them
WATCHED = TOGETHER + "WATCHED"  # set in the process that another one watches
BLOCK = 2**26  # bytes that are sent at once
SILENCE = 60  # seconds after which a process that does not answer is lost


def start() -> None:
    """Join the processes of one run: SLURM's, else those of JAXMD_IZ_COORDINATOR, …_PROCESSES and …_PROCESS.

    Call it once in each process, before anything is computed.

    Raises:
        InputError: neither SLURM nor the three variables are there, a number that is none, a coordinator that does
            not answer.
    """
    given = {name: os.environ.get(TOGETHER + name) for name in ("COORDINATOR", "PROCESSES", "PROCESS")}
    if not any(given.values()) and "SLURM_JOB_ID" in os.environ:
        _initialise()
        return
    missing = [TOGETHER + name for name, value in given.items() if not value]
    remedy = "Set JAXMD_IZ_COORDINATOR=host:port, JAXMD_IZ_PROCESSES and JAXMD_IZ_PROCESS, or start it by `srun`."
    must(not missing, "distributed", "find its processes", f"{', '.join(missing)} is not set", remedy)
    numbers = {}
    for name in ("PROCESSES", "PROCESS"):
        text = str(given[name])
        must(text.isdecimal(), TOGETHER + name, "be a whole number", f"it is {text!r}")
        numbers[name] = int(text)
    count, index = numbers["PROCESSES"], numbers["PROCESS"]
    must(index < count, TOGETHER + "PROCESS", f"be below the number of processes, {count}", f"it is {index}")
    _initialise(given["COORDINATOR"], count, index)


def _initialise(*arguments) -> None:
    try:
        jax.distributed.initialize(*arguments, initialization_timeout=300, heartbeat_timeout_seconds=SILENCE)
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        fail("distributed", "reach every process within five minutes", f"{first.rstrip('.')}")


def watched(arguments: list[str], hint: Callable[[], str] = lambda: "Start all of them again.") -> int:
    """`jaxmd-iz` with these arguments as a process of its own, since one that loses another is aborted by XLA.

    SIGINT and SIGTERM are passed on to it.

    Args:
        arguments: of the command line.
        hint: gives a sentence on how to go on if a process of the run was lost.

    Returns:
        its exit code; 3, after a sentence in place of XLA's, if a process of the run was lost.
    """
    command = [sys.executable, "-c", "from jaxmd_iz.cli import main; main()", *arguments]
    with tempfile.TemporaryFile("w+") as said:
        code = _passing_signals_on(command, said)
        said.seek(0)
        text = said.read()
    if code in (-signal.SIGINT, -signal.SIGTERM):  # before it could hear
        print("jaxmd-iz: stopped; nothing was written.", file=sys.stderr)
        return 128 - code
    if code in (0, 2, 130, 143):  # it has spoken for itself
        print(text, end="", file=sys.stderr)
        return code
    complaint = "\n".join(line for line in text.splitlines() if not line.startswith("[Gloo]"))  # it greets at the start
    if code > 0 and "Gloo" not in complaint and "coordination service" not in complaint.lower():
        print(text, end="", file=sys.stderr)
        return code
    print(f"jaxmd-iz: A process of this run was lost, so that it has ended. {hint()}", file=sys.stderr)
    return 3


def _passing_signals_on(command: list[str], said) -> int:
    """Runs a command with its standard error in a file; the exit code."""
    children: list[subprocess.Popen] = []

    def pass_on(number, _):
        for child in children:
            child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        children.append(subprocess.Popen(command, env=os.environ | {WATCHED: "1"}, stderr=said))
        return children[0].wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return jax.process_index() == 0


def largest(*numbers: int) -> tuple[int, ...]:
    """Each number as it is where it is largest: all processes of a run must call it, and then agree."""
    if jax.process_count() == 1:
        return numbers
    from jax.experimental import multihost_utils

    found = multihost_utils.process_allgather(np.asarray(numbers, np.int32))
    return tuple(int(k) for k in np.max(found, axis=0))


def from_first(data: bytes) -> bytes:
    """What the first process gives, in all processes of a run; what the others give has no effect."""
    if jax.process_count() == 1:
        return data
    from jax.experimental import multihost_utils

    size = np.asarray(divmod(len(data), BLOCK), np.int32)
    blocks, rest = (int(k) for k in multihost_utils.broadcast_one_to_all(size))
    found = []
    for k in range(blocks + 1):
        part = data[k * BLOCK : (k + 1) * BLOCK] if is_first() else bytes(rest if k == blocks else BLOCK)
        found.append(multihost_utils.broadcast_one_to_all(np.frombuffer(part, np.uint8)).tobytes())
    return b"".join(found)


def everywhere(tree: Any) -> Any:
    """The same arrays, whole in every process and on its first device, so that the host can read them."""
    return jax.tree.map(_whole, tree)


def _whole(a):
    if not isinstance(a, jax.Array) or len(a.sharding.device_set) == 1:
        return a
    if not a.is_fully_replicated:
        a = jax.jit(_same, out_shardings=NamedSharding(a.sharding.mesh, PartitionSpec()))(a)  # type: ignore[attr-defined]
    here = a.addressable_data(0)
    if jnp.issubdtype(here.dtype, jax.dtypes.prng_key):
        data = jnp.asarray(np.asarray(jax.random.key_data(here)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(here))
    return jnp.asarray(np.asarray(here))  # by the host: otherwise JAX would not let it meet arrays of other devices


def _same(tree):
    return tree
