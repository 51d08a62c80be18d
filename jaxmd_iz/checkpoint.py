"""Checkpoints: what an interrupted run goes on from, bit for bit, written whole or not at all, the newest two kept."""

import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from signal import Signals
from typing import Any

import equinox as eqx

from jaxmd_iz import packing, pieces, store
from jaxmd_iz.checks import InputError, fail, must
from jaxmd_iz.chunks import ListKeeper
from jaxmd_iz.digests import difference, digests
from jaxmd_iz.distributed import everywhere, from_first, is_first, largest
from jaxmd_iz.interrupts import Stopped

NEWEST, BEFORE = "checkpoint.npz", "checkpoint_before.npz"
_PARTS = re.compile(r"\.(checkpoint\w*\.npz|fields\w*\.nc|summary\.json|report\.html)\.\d+\.part")


def _no_signal() -> int:
    return 0


class Checkpoints:
    """Where the checkpoints of one run lie, and how often they are written; for `simulate` and the command `run`.

    Of several processes the first one reads and writes, and decides for all when it is time.

    Args:
        folder: where they lie, as `checkpoint.npz` and, the one before, `checkpoint_before.npz`.
        every: seconds between two of them at least; 0 writes one after every chunk of steps.
        resume: True: go on from a checkpoint, which must be there; False: there must be none; None: go on if there is.
        overwrite: forget what is there and start anew.
        asked: tells the number of a signal that asks to stop, or 0 (`interrupts.heard`).
        say: takes a sentence for the user, by default to standard error.

    Raises:
        InputError: `every` below 0, `resume` and `overwrite` at once.
    """

    def __init__(
        self,
        folder: str | Path,
        every: float = 60.0,
        resume: bool | None = None,
        overwrite: bool = False,
        asked: Callable[[], int] = _no_signal,
        say: Callable[[str], Any] | None = None,
    ):
        must(0 <= every < float("inf"), "checkpoint_every", "be 0 or more seconds", f"it is {every}")
        must(not (resume and overwrite), "resume", "not go with `overwrite`, which starts anew", "both are given")
        self.folder, self.every, self.resume, self.overwrite = Path(folder), every, resume, overwrite
        self.asked, self.say = asked, say or (lambda text: print(text, file=sys.stderr))
        self.opened, self.parts, self.about = False, {}, {}
        self.last = time.monotonic()

    def open(self, about: Mapping[str, str]) -> None:
        """Reads the newest checkpoint, or makes sure that there is none.

        Args:
            about: all that the numbers of the run depend on, by name: a checkpoint of something else is refused.

        Raises:
            InputError: a checkpoint that is there or not against what was asked, that cannot be read, or that is one of
                another run or version.
        """
        self.about = {"version of jaxmd-iz": _version(), **about}
        found = _in_first(self._find)
        if found:
            loaded = packing.load(found)
            self.parts = loaded["parts"]
            pieces.go_on_with(loaded["pieces"])
        self.opened, self.last = True, time.monotonic()

    def get(self, name: str) -> Any:
        """A part that stays; None where there is none of that name."""
        return self.parts.get(name)

    def take(self, name: str) -> Any:
        """The part of that name of the checkpoint that the run goes on from, for good; None where there is none."""
        return self.parts.pop(name, None)

    def put(self, name: str, part: Any, where: str, stays: bool = False) -> None:
        """Writes a checkpoint with a part beside those that stay.

        Args:
            name: of the part.
            part: a tree as `packing.dump` takes it.
            where: how far the run is, as in "after 3 of 5 steps".
            stays: whether it belongs to all further checkpoints too.

        Raises:
            InputError: if it cannot be written.
        """
        arrays, rest = eqx.partition(part, eqx.is_array)
        parts = self.parts | {name: eqx.combine(everywhere(arrays), rest)}
        if stays:
            self.parts = parts
        if is_first():
            self._write(parts, where)
        self.last = time.monotonic()

    def look(self, name: str, part: Any, where: str) -> None:
        """Writes a checkpoint if it is time, and stops the run if a signal has asked for that.

        Args:
            name, part, where: as in `put`.

        Raises:
            InputError: if it cannot be written.
            Stopped: after a signal, with the checkpoint written.
        """
        due = time.monotonic() - self.last >= self.every
        due, number = largest(int(due), self.asked())
        if due or number:
            self.put(name, part, where)
        if number:
            how = "Give the same command with `--resume` to go on."
            raise Stopped(
                number, f"Stopped by {Signals(number).name} {where}; a checkpoint is in `{self.folder}`. {how}"
            )

    def pulse(self) -> None:
        """Stops a run that has nothing to go on from yet if a signal has asked for that.

        Raises:
            Stopped: after a signal.
        """
        (number,) = largest(self.asked())
        if number:
            raise Stopped(
                number, f"Stopped by {Signals(number).name} before the first checkpoint; nothing was written."
            )

    def clear(self) -> None:
        """Removes the checkpoints of a run that has finished, and what a killed one left unfinished in the folder."""
        self.opened, self.parts = False, {}
        if not is_first():
            return
        with suppress(OSError):
            for path in list(self.folder.iterdir()):
                if path.name in (NEWEST, BEFORE) or _PARTS.fullmatch(path.name):
                    path.unlink()

    def _find(self) -> bytes:
        """The newest checkpoint that can be read, b"" if there is none and none is needed."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            fail("folder", "be a folder that can be made", f"`{self.folder}` cannot: {error.strerror}")
        there = _there(self.folder)
        if self.overwrite:
            self.clear()
            return b""
        if not there:
            wanted = f"find a checkpoint in `{self.folder}`"
            must(not self.resume, "resume", wanted, "there is none", "Leave it out to start a run.")
            return b""
        if self.resume is False:
            but = f"`{self.folder}` holds one{_where(self.folder)}"
            how = "Go on with it by `--resume`, start anew by `--overwrite`, or take another folder by `--out`."
            fail("out", "be a folder without an interrupted run", but, how)
        reasons = []
        for path in there:
            try:
                data = path.read_bytes()
                told = packing.load(data)["about"]
            except (OSError, KeyError, TypeError, packing.Unreadable) as error:
                reasons.append(f"`{path}` cannot be read: {error}")
                continue
            other = difference(told, self.about)
            requirement = f"find a checkpoint of this run in `{self.folder}`"
            remedy = "Undo that, or start anew by `--overwrite`."
            must(not other, "resume", requirement, f"it is one of another: {other}", remedy)
            if reasons:
                self.say(f"jaxmd-iz: {reasons[0]}; going on from the one before it.")
            return data
        remedy = "Start anew by `--overwrite`."
        fail("resume", f"find a checkpoint in `{self.folder}` that is whole", "; ".join(reasons), remedy)

    def _write(self, parts: Mapping[str, Any], where: str) -> None:
        newest, before = self.folder / NEWEST, self.folder / BEFORE
        try:
            with store.whole(newest) as part:
                with open(part, "wb") as stream:
                    whole = {"where": where, "about": self.about, "pieces": pieces.number(), "parts": dict(parts)}
                    packing.dump(whole, stream)
                    stream.flush()
                    os.fsync(stream.fileno())
                if newest.exists():
                    os.replace(newest, before)
        except InputError as error:
            kept = _there(self.folder)
            how = f"An earlier one is in `{kept[0]}`: make room and go on by `--resume`." if kept else ""
            raise InputError(f"{error} {how}".rstrip()) from None


class RunLog:
    """What `simulate` writes of itself into checkpoints and takes from them; without any it only measures time.

    Args:
        checkpoints: or None.
        asked: the arguments of the run, by name, for checkpoints that are not open yet.
        lists: of the run; put back to where the checkpoint has them.
    """

    def __init__(self, checkpoints: Checkpoints | None, asked: Mapping[str, Any], lists: ListKeeper):
        self.checkpoints, self.lists, self.begin = checkpoints, lists, time.perf_counter()
        self.saved, self.mine = None, False
        if checkpoints is not None:
            self.mine = not checkpoints.opened
            if self.mine:
                checkpoints.open(digests(asked))
            self.saved = checkpoints.take("run")
        if self.saved is not None:
            lists.capacity, lists.last = self.saved["capacity"], self.saved["last"]
        self.passed = 0 if self.saved is None else self.saved["passed"]

    def seconds(self) -> float:
        """Wall-clock time of the run, with that before an interruption."""
        return (0.0 if self.saved is None else self.saved["seconds"]) + time.perf_counter() - self.begin

    def at(self, stage: str) -> Any:
        """What was written in a stage if the checkpoint is one of it, for good, else None."""
        here = self.saved is not None and self.saved["stage"] == stage
        return self.saved.pop("facts") if here else None  # type: ignore[union-attr]

    def write(self, stage: str, facts: dict[str, Any], passed: int, where: str) -> None:
        """Writes where the run is, if it is time.

        Args:
            stage: of the run.
            facts: all that the rest of it follows from.
            passed: number of steps so far, for the progress bar.
            where: as in `Checkpoints.put`.
        """
        if self.checkpoints is not None:
            now = {"stage": stage, "facts": facts, "passed": passed, "seconds": self.seconds()}
            now |= {"capacity": self.lists.capacity, "last": self.lists.last}
            self.checkpoints.look("run", now, where)

    def close(self) -> None:
        """Removes the checkpoints, unless someone else has opened them."""
        if self.checkpoints is not None and self.mine:
            self.checkpoints.clear()


def interrupted(folder: str | Path) -> bool:
    """Whether a run that has not finished has left a checkpoint in a folder."""
    return bool(_there(Path(folder)))


def hint(folder: str | Path) -> str:
    """Half a sentence on how to go on with a run that was lost, from its folder.

    Args:
        folder: where it writes.
    """
    folder = Path(folder)
    if not _there(folder):
        return f"There is no checkpoint in `{folder}`: start all processes again."
    return f"A checkpoint{_where(folder)} is in `{folder}`: start all processes again with `--resume`."


def _there(folder: Path) -> list[Path]:
    return [folder / name for name in (NEWEST, BEFORE) if (folder / name).is_file()]


def _where(folder: Path) -> str:
    """How far the run in a folder is, if its checkpoint can be read."""
    for path in _there(folder):
        with suppress(OSError, KeyError, TypeError, packing.Unreadable):
            return f" {packing.load(path.read_bytes())['where']}"
    return ""


def _in_first(read: Callable[[], bytes]) -> bytes:
    """What the first process reads, in all of them, or the sentence that it refuses with."""
    if not is_first():
        found = from_first(b"")
    else:
        try:
            found = b"+" + read()
        except InputError as error:
            found = str(error).encode()
        found = from_first(found)
    if found[:1] != b"+":
        raise InputError(found.decode())
    return found[1:]


def _version() -> str:
    try:
        return metadata.version("jaxmd-iz")
    except metadata.PackageNotFoundError:
        return "unknown"
