"""Signals that ask a run to stop, heard between two chunks of its steps; a second one ends the process at once."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TWICE = 1.0  # seconds within which signals count as one: a queue sends them to a process and to the one that watches it


class Stopped(Exception):
    """A run that was asked to stop and has stopped, with a sentence on how to go on.

    Args:
        number: of the signal.
        sentence: what to tell the user.
    """

    def __init__(self, number: int, sentence: str):
        super().__init__(sentence)
        self.number = number


@contextmanager
def heard() -> Iterator[Callable[[], int]]:
    """While it is entered SIGINT and SIGTERM stop nothing by themselves: the function it gives tells their number.

    The function returns 0 as long as there was none. A second signal, more than a second later, ends the process with
    128 + its number even where Python waits for a device. Outside the main thread signals stay as they are.
    """
    asked = [0]
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    end, begin = os.pipe()
    os.set_blocking(begin, False)

    def listen():  # in a thread of its own: Python runs handlers only when the main thread returns from the device
        first = 0.0
        while number := os.read(end, 1)[0]:
            if number not in SIGNALS:
                continue
            if asked[0] and time.monotonic() - first > TWICE:
                os._exit(128 + number)
            if not asked[0]:
                asked[0], first = number, time.monotonic()

    thread = threading.Thread(target=listen, daemon=True)
    before = signal.set_wakeup_fd(begin, warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    thread.start()
    try:
        yield lambda: asked[0]
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.write(begin, b"\0")
        thread.join()
        os.close(begin)
        os.close(end)
