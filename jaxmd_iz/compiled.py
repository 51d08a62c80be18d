"""Programs that run a few times: compiled sooner, at the price of speed."""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jaxlib.version
from jax.core import Tracer

SOON: dict[str, int | bool] = {"xla_backend_optimization_level": 0}
if jaxlib.version.__version_info__ < (0, 11):  # later ones know no other emitters
    SOON["xla_cpu_use_fusion_emitters"] = False


def seldom(function: Callable) -> Callable:
    """`eqx.filter_jit` of what runs once or twice in a run.

    On a CPU its program is compiled in a third of the time and runs several times slower; elsewhere, and inside other
    programs, it is compiled as they are.
    """
    usual, soon = eqx.filter_jit(function), eqx.filter_jit(function, compiler_options=SOON)

    @functools.wraps(function)
    def call(*arguments, **options):
        inside = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((arguments, options)))
        return (usual if inside or jax.default_backend() != "cpu" else soon)(*arguments, **options)

    return call
