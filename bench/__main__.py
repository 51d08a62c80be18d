"""Measures ours and every peer that is installed, and prints the rows, as JSON, figures or Markdown if asked."""

import argparse
import json
import os
import sys
from pathlib import Path

import jax

from bench import peers, plots, tables
from bench.measurements import PARTS, SLOW, run
from bench.timing import cores


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help=f"small sizes, a few minutes; without {' and '.join(SLOW)}"
    )
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="NAME", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="folder for figures")
    parser.add_argument(
        "--tables", nargs="+", type=Path, metavar="FILE", help="measure nothing: Markdown of these rows"
    )
    arguments = parser.parse_args()
    parts = arguments.only or [name for name in PARTS if not (arguments.quick and name in SLOW)]
    if arguments.tables is not None:
        rows = [row for file in arguments.tables for row in json.loads(file.read_text(encoding="utf-8"))]
        print(tables.markdown([row for row in rows if row["part"] in parts]))
        return
    _start()
    devices = jax.devices()
    here = ", ".join(peers.installed()) or "none"
    print(f"{len(devices)} × {devices[0].device_kind}, {cores()} processors, JAX {jax.__version__}; peers here: {here}")
    print(f"{'name':72s} {'ours':>10s} {'peer':>10s} {'ratio':>8s}  unit; target")
    rows = []
    for row in run(parts, arguments.quick):
        rows.append(row)
        _print(row)
        if arguments.json is not None:  # what is measured stays, however the rest ends
            arguments.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    if arguments.plot is not None:
        print("wrote " + ", ".join(map(str, plots.draw(rows, arguments.plot))))


def _start() -> None:
    """Double precision where it is asked for, a CPU device for each processor, and memory of a GPU as it is needed."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # processes of their own need some too
    jax.config.update("jax_enable_x64", True)
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", cores())


def _print(row: dict) -> None:
    ours, peer, ratio = (tables.number(row[key]) for key in ("ours", "peer", "ratio"))
    target = "" if row["target"] is None else f"; {row['target']}, {'reached' if row['reached'] else 'MISSED'}"
    print(f"{row['name']:72s} {ours:>10s} {peer:>10s} {ratio:>8s}  {row['unit']}{target}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
