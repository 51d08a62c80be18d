"""Runs every measurement, prints the table and writes it as JSON if asked."""

import argparse
import json
from pathlib import Path

import jax

from bench import measurements, peers


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, a minute on two cores")
    parser.add_argument("--json", type=Path, help="file for the rows")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print(
        f"{jax.devices()[0].device_kind}, JAX {jax.__version__}; peers here: {', '.join(peers.installed()) or 'none'}"
    )
    print(f"{'name':58s} {'ours':>12s} {'peer':>12s} {'ratio':>8s}  unit, peer")
    rows = []
    for row in measurements.everything(arguments.quick):
        rows.append(row)
        print(
            f"{row['name']:58s} {row['ours']:12.4g} {row['peer']:12.4g} {row['ratio']:8.2f}  {row['unit']}", flush=True
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
