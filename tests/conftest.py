"""The test session: x64, strict promotion, a compilation cache, and shapes checked at run time."""

import gc
import os
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# In the environment, so that commands started by a test share the cache.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
# Most of the time is compilation: cheaper levels of LLVM nearly halve it. `XLA_FLAGS= pytest` tests with the dearest.
CHEAP = "--xla_backend_optimization_level=1"
if metadata.version("jaxlib").startswith("0.10."):  # later ones know no other emitters, and no such flag
    CHEAP += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", CHEAP)

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

gc.set_threshold(100_000, 50, 100)  # tracing makes objects by the million: fewer collections, a few per cent

# Stays installed: everything below jaxmd_iz is imported later, and checked.
install_import_hook("jaxmd_iz", "beartype.beartype")


#: Files that take long and rest on what the others test: they come last.
LAST = (
    *("notebook", "limit", "nonlinear", "low_rank", "models", "electrons", "macroscopic", "matching", "grand"),
    *("grand_fluid", "coverage", "continuum", "equation_of_state", "fluid_equations", "transport", "green_kubo"),
    *("waves", "fit", "fit_command", "inverse", "force_matching", "second_order_weight", "readme"),
)
#: Minutes after which no further test begins, so that a slow machine ends in time too, and says what it left out.
MINUTES = float(os.environ.get("JAXMD_IZ_TEST_MINUTES", "17"))
BEGIN = time.monotonic()


def pytest_collection_modifyitems(items):
    """Long files last, in the order of `LAST`; all else in its order."""
    rank = {f"test_{name}": k + 1 for k, name in enumerate(LAST)}
    items.sort(key=lambda item: rank.get(item.path.stem, 0))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """A test that would begin too late is skipped, before its fixtures are made."""
    if time.monotonic() - BEGIN > 60 * MINUTES and not item.get_closest_marker("physical_validation"):
        pytest.skip(f"{MINUTES:g} minutes have passed: JAXMD_IZ_TEST_MINUTES=120 takes the time for all tests")


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of external reference data, which is no part of the project."""
    named = os.environ.get("JAXMD_IZ_REFERENCE")
    folder = Path(named) if named else ROOT.parent / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip(f"no external reference data: {folder} is not a folder; JAXMD_IZ_REFERENCE can name one")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _forget_programs() -> Iterator[None]:
    """Drops a file's compiled programs: all of them together pass the 65530 memory maps Linux gives a process."""
    yield
    jax.clear_caches()
    gc.collect()
