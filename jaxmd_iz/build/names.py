"""Errors of Modules in the words of the configuration."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from jaxmd_iz.checks import InputError


@contextmanager
def keys_of(table: str, **names: str) -> Iterator[None]:
    """Within it, "Argument `x` …" becomes "Argument `table.x` …", or what `names` has for `x`.

    Args:
        table: name of the table; "" leaves other names alone.
        **names: keys for arguments with another name.
    """
    try:
        yield
    except InputError as error:

        def key(match: re.Match) -> str:
            name = match[1]
            return f"Argument `{names.get(name) or (f'{table}.{name}' if table else name)}`"

        raise InputError(re.sub(r"^Argument `(\w+)`", key, str(error))) from error
