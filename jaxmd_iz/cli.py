"""The command line: `jaxmd-iz demo | run | measure | verify | models | limit | fit`. Bad input: a sentence, code 2."""

import contextlib
import functools
import io
import os
import re
import sys
from pathlib import Path


def _start(precision: bool = True) -> None:
    """Double precision and the compilation cache; before anything is computed, in the command line alone."""
    import jax

    jax.config.update("jax_enable_x64", precision)
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(root / "jaxmd_iz"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _say(summary: dict, out: Path) -> None:
    """The headline numbers on standard output."""

    def error(e):
        return "" if e is None else f" ± {e:.2g}"

    q = ", ".join(f"{v:.4f}{error(e)}" for v, e in zip(summary["q_star"], summary["q_star_err"], strict=True))
    print(f"q_j* = {q}")
    pressure = "" if summary["pressure"] is None else f"    P = {summary['pressure']:.5g}"
    print(f"T = {summary['temperature']:.5g}{pressure}    units: {summary['units']}")
    worst = {law: summary[f"{law}_residual"] for law in ("mass", "momentum", "energy")}
    print("largest relative residual: " + ", ".join(f"{law} {value:.1e}" for law, value in worst.items()))
    if not all(v <= summary["residual_bound"] for v in worst.values()):
        _warn(f"a conservation law fails its bound of {summary['residual_bound']:.0e}; see the report.")
    if summary["crossing"] > 0:
        share = 100 * summary["crossing"]
        _warn(f"{share:.3g} % of the phase points lie where two surfaces touch and forces are not defined.")
    for warning in summary.get("warnings", ()):
        _warn(warning)
    if matched := summary.get("matching"):
        about = f"χ² {matched['chi2']:.3g} for {matched['dof']:.3g} directions"
        print(f"matched in {matched['rounds']} rounds, {matched['iterations']} Newton steps, {about}")
    speed = summary["atom_steps_per_s"]
    print(
        f"{summary['wall_s']:.1f} s" + ("" if speed is None else f", {speed:.3g} atom-steps/s on {summary['device']}")
    )
    wrote = "this run had finished before and wrote" if summary.get("finished_before") else "wrote"
    print(f"{wrote} {out / 'fields.nc'}, {out / 'summary.json'}, {out / 'report.html'}")


def _warn(text: str) -> None:
    """In red where someone looks on."""
    text = f"WARNING: {text}"
    print(f"\033[31m{text}\033[0m" if sys.stdout.isatty() else text)


def demo(
    out: Path = Path("jaxmd_iz_demo"), resume: bool = False, overwrite: bool = False, checkpoint_every: float = 60.0
) -> None:
    """Run the embedded default: a two-state periodic fluid, its fields on a profile and a small grid.

    Args:
        out: folder for fields.nc, summary.json and report.html, and for checkpoints until these are written.
        resume: go on with an interrupted run from the newest checkpoint in the folder.
        overwrite: start anew in a folder with an interrupted run, which is lost.
        checkpoint_every: seconds between two checkpoints; 0: after every chunk of steps.
    """
    _start()
    from jaxmd_iz import commands, config

    title = "jaxmd-iz demo: a fluid with two electron states"
    found = commands.run(config.load("two_state_fluid"), out, title, True, resume, overwrite, checkpoint_every)
    _say(found, out)


def run(
    config: str,
    /,
    out: Path = Path("jaxmd_iz_out"),
    set: tuple[str, ...] = (),
    resume: bool = False,
    overwrite: bool = False,
    checkpoint_every: float = 60.0,
    distributed: bool = False,
) -> None:
    """Density → trajectories on every surface → conservation fields at the asked times.

    Args:
        config: a TOML file, or the name of an example, such as lj_liquid, two_state_fluid, silicon, shear_wave.
        out: folder for fields.nc, summary.json and report.html, and for checkpoints until these are written.
        set: changes of the configuration, table.key=value each.
        resume: go on with an interrupted run from the newest checkpoint in the folder.
        overwrite: start anew in a folder with an interrupted run, which is lost.
        checkpoint_every: seconds between two checkpoints; 0: after every chunk of steps.
        distributed: join the other processes of this run: SLURM's, or those of JAXMD_IZ_COORDINATOR=host:port,
            JAXMD_IZ_PROCESSES and JAXMD_IZ_PROCESS. The first one writes.
    """
    _start()
    from jaxmd_iz import commands
    from jaxmd_iz import config as settings
    from jaxmd_iz import distributed as processes

    if distributed and processes.WATCHED not in os.environ:
        from jaxmd_iz.checkpoint import hint

        options = [*(["--set", *set] if set else []), *["--resume"] * resume, *["--overwrite"] * overwrite]
        options += ["--checkpoint-every", str(checkpoint_every), "--distributed"]
        sys.exit(processes.watched(["run", config, "--out", str(out), *options], lambda: hint(out)))
    loaded = settings.load(config, set)
    if distributed:
        processes.start()
    first = processes.is_first()
    bar = first and not distributed
    summary = commands.run(loaded, out, f"jaxmd-iz run {config}", bar, resume, overwrite, checkpoint_every)
    if first:
        _say(summary, out)


def measure(
    config: str,
    trajectory: Path,
    /,
    out: Path = Path("jaxmd_iz_out"),
    set: tuple[str, ...] = (),
    configurational: bool = False,
) -> None:
    """The fields of given snapshots: extended XYZ, LAMMPS dump, H5MD, anything ASE reads.

    Args:
        config: a TOML file, or the name of an example, for potential, mollifier and grid.
        trajectory: the file with the snapshots, with velocities or momenta.
        out: folder for fields.nc, summary.json and report.html.
        set: changes of the configuration, table.key=value each.
        configurational: accept a file without velocities; kinetic parts are then zero.
    """
    _start()
    from jaxmd_iz import commands
    from jaxmd_iz import config as settings

    loaded = settings.load(config, set)
    _say(commands.measure(loaded, trajectory, out, configurational, f"jaxmd-iz measure {trajectory.name}"), out)


def verify(full: bool = False, json: Path | None = None) -> None:
    """Residual of each conservation law over a covering set of options; exit code 1 if one exceeds its bound.

    Args:
        full: the whole product of the options instead of the covering set.
        json: also write the rows {"case", "law", "residual", "scale", "bound"} to this file.
    """
    _start()
    from tqdm import tqdm

    from jaxmd_iz import store
    from jaxmd_iz.verify import chosen_cases
    from jaxmd_iz.verify import verify as residuals

    store.must_be_writable(json, "json")
    rows: list[dict] = []
    with tqdm(total=len(chosen_cases(full)), unit="case", leave=False) as bar:
        for found in residuals(full):
            rows += found
            bar.update()
    for row in sorted(rows, key=lambda r: r["residual"] / r["bound"]):
        mark = "ok" if row["residual"] <= row["bound"] else "FAILED"
        print(f"{row['case']:60s} {row['law']:9s} {row['residual']:9.2e}  of {row['scale']:8.2e}  {mark}")
    failed = sum(r["residual"] > r["bound"] for r in rows)
    print(f"{len(rows)} rows, {failed} above their bound")
    if json is not None:
        store.write_json(rows, json)
        print(f"wrote {json}")
    sys.exit(1 if failed else 0)


def models(names: tuple[str, ...] = (), /, out: Path = Path("jaxmd_iz_models.html")) -> None:
    """The model systems, with sources, and a page of their surfaces.

    Args:
        names: which ones; all by default.
        out: the page, a HTML file.
    """
    _start()
    from jaxmd_iz import catalogue, store
    from jaxmd_iz.models import FAMILIES, MODELS

    store.must_be_writable(out, "out")
    listed = catalogue.write(out, names)
    for name in listed:
        model = FAMILIES.get(name) or MODELS[name]
        print(f"{name:16s} {model.title}\n{'':16s} {catalogue.note(name)}\n{'':16s} {model.source}")
    print(f"wrote {out}")


def limit(
    config: str, /, out: Path = Path("jaxmd_iz_limit.html"), json: Path | None = None, set: tuple[str, ...] = ()
) -> None:
    """The classical limit measured: exact quantum mechanics on a grid against molecular dynamics, with orders in M.

    Args:
        config: a TOML file, or the name of an example: limit_1d, limit_jahn_teller, limit_two_nuclei, shin_metiu.
        out: the page, a HTML file.
        json: also write the rows of errors and orders to this file.
        set: changes of the configuration, table.key=value each.
    """
    _start()
    from tqdm import tqdm

    from jaxmd_iz import config as settings
    from jaxmd_iz import store
    from jaxmd_iz.limit import command

    loaded = settings.load(config, set)
    store.must_be_writable(out, "out")
    store.must_be_writable(json, "json")
    with tqdm(bar_format="{desc} [{elapsed}]", leave=False) as bar:
        result = command.measure(loaded, bar.set_description)
    for row in result.orders:
        about = f"{row['observable']:10s} T = {row['T']:<6g} τ = {row['tau']:<5g} {row['correction']:12s}"
        extra = f" surfaces {row['surfaces']}" if "surfaces" in row else ""
        interval = "" if row["low"] is None else f"  ({row['low']:.2f} … {row['high']:.2f})"
        print(f"{about}{extra} order in 1/M {row['order']:6.3f}{interval}")
    if not result.orders:
        for row in result.rows:
            about = f"{row['observable']:10s} T = {row['T']:<6g} τ = {row['tau']:<5g} {row['correction']:12s}"
            extra = f" surfaces {row['surfaces']}" if "surfaces" in row else ""
            print(f"{about}{extra} error {row['error']:.2e}")
    command.write(result, loaded, out, json)
    print(f"wrote {out}" + ("" if json is None else f", {json}"))


def fit(config: str, /, out: Path = Path("jaxmd_iz_fit"), set: tuple[str, ...] = ()) -> None:
    """Constitutive relations from fields: equation of state, viscosities, conductivity, checked on flows held out.

    Args:
        config: a TOML file, or the name of an example: fit_newton_fourier.
        out: folder for closure.json, equation_of_state.json, summary.json and report.html.
        set: changes of the configuration, table.key=value each.
    """
    _start()
    from jaxmd_iz import config as settings
    from jaxmd_iz import fitted

    found = fitted.fit(settings.load(config, set), out, f"jaxmd-iz fit {config}")
    if found["closure"] != "NewtonFourier":
        print(f"{found['closure']}, begun at these coefficients of Newton and Fourier:")
    for name in ("viscosity", "bulk_viscosity", "conductivity"):
        print(f"{name.replace('_', ' '):15s} {found[name]:.4g} ± {found[f'{name}_err']:.2g} {found[f'{name}_unit']}")
    for row in found["flows"]:
        kind = "held out" if row["held_out"] else "fitted"
        print(f"{row['name']:15s} {kind:9s} relative error {row['error']:.3f}, of which noise {row['noise']:.3f}")
    names = ("closure.json", "equation_of_state.json", "summary.json", "report.html")
    print(f"{found['wall_s']:.1f} s\nwrote " + ", ".join(str(out / name) for name in names))


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `jaxmd-iz`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA prints machine features at every cached program
    import tyro

    from jaxmd_iz.checks import InputError
    from jaxmd_iz.interrupts import Stopped
    from jaxmd_iz.watch import CODE, Broken

    app = tyro.extras.SubcommandApp()
    for command in (demo, run, measure, verify, models, limit, fit):
        app.command(_later(command))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            call = app.cli(prog="jaxmd-iz", args=arguments, description=__doc__)
    except SystemExit as stopped:
        if stopped.code:
            _refuse(_sentence(said.getvalue()))
        raise
    try:
        call()
    except InputError as error:
        _refuse(str(error))
    except Broken as broken:
        print(f"jaxmd-iz: Stopped. {broken}", file=sys.stderr)
        sys.exit(CODE)
    except Stopped as stopped:
        print(f"jaxmd-iz: {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.number)
    except KeyboardInterrupt:
        print("jaxmd-iz: stopped; nothing was written.", file=sys.stderr)
        sys.exit(130)
    except RuntimeError as error:  # a check on traced values speaks through the runtime
        sentences = [line for line in str(error).splitlines() if line.startswith("Argument `")]
        if not sentences:
            raise
        _refuse(sentences[0])


def _later(command):
    """The same command line, which gives the call to be made: what is said while it is read is of the line alone."""
    return functools.wraps(command)(lambda *arguments, **options: functools.partial(command, *arguments, **options))


def _sentence(box: str) -> str:
    """What tyro says of a command line in a box of several parts, in one sentence."""
    lines = [line.strip("│╭╮╰╯ ").rstrip(".") for line in box.splitlines()[1:-1]]
    parts = [part.split("\n") for part in re.split(r"\n─+\n", "\n".join(lines))]
    told = [" ".join(" ".join(part).split()) for part in parts if not part[0].startswith(("For full", "Argument"))]
    where = re.search(r"jaxmd-iz[a-z -]*--help", " ".join(parts[-1]))
    return f"{'; '.join(told)}. `{where[0] if where else 'jaxmd-iz --help'}` tells what there is."


def _refuse(sentence: str) -> None:
    print(f"jaxmd-iz: {sentence}", file=sys.stderr)
    sys.exit(2)
