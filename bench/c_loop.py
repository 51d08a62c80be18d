"""What a compiler makes of the ensemble step written by hand in C: one fused loop, as near to the hardware as gcc gets.

All pairs once, Lennard-Jones, float32, velocity Verlet of mass 1, `LANES` systems side by side, on one core. Built
where gcc is found; no part of the package.
"""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

LANES = 64
OPTIONS = ("-O3", "-march=native", "-mprefer-vector-width=256", "-ffast-math", "-fPIC")
SOURCE = r"""
#include <math.h>
#define L 64
void go(float *x, float *p, float *f, int rounds, int n, int steps, float edge, float cutoff, float h) {
  const float inverse = 1 / edge, most = cutoff * cutoff;
  const int size = n * 3 * L;
  for (int r = 0; r < rounds; r++, x += size, p += size, f += size)
    for (int s = 0; s < steps; s++) {
      for (int k = 0; k < size; k++) { p[k] += h / 2 * f[k]; x[k] += h * p[k]; f[k] = 0; }
      for (int i = 0; i < n; i++) {
        float *xi = x + i * 3 * L, *fi = f + i * 3 * L;
        for (int j = i + 1; j < n; j++) {
          float *xj = x + j * 3 * L, *fj = f + j * 3 * L;
          #pragma GCC ivdep
          for (int l = 0; l < L; l++) {
            float dx = xi[l] - xj[l], dy = xi[L + l] - xj[L + l], dz = xi[2 * L + l] - xj[2 * L + l];
            dx -= edge * rintf(dx * inverse); dy -= edge * rintf(dy * inverse); dz -= edge * rintf(dz * inverse);
            float r2 = dx * dx + dy * dy + dz * dz, i2 = 1 / r2, i6 = i2 * i2 * i2;
            float g = r2 < most ? 24 * i2 * i6 * (2 * i6 - 1) : 0;
            fi[l] += g * dx; fi[L + l] += g * dy; fi[2 * L + l] += g * dz;
            fj[l] -= g * dx; fj[L + l] -= g * dy; fj[2 * L + l] -= g * dz;
          }
        }
      }
      for (int k = 0; k < size; k++) p[k] += h / 2 * f[k];
    }
}
"""


def available() -> bool:
    """Whether there is a compiler."""
    return shutil.which("gcc") is not None


def ensemble(x: np.ndarray, edge: float, cutoff: float, step: float) -> Callable[[int], np.ndarray]:
    """A function that carries a batch on from rest by so many steps, and gives its positions.

    Args:
        x: (B, n, 3), B a multiple of `LANES`.
        edge, cutoff, step: of the cell, of the potential, of time.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, compiled, library = (Path(folder) / name for name in ("loop.c", "loop.o", "loop.so"))
        source.write_text(SOURCE)
        # Linked without -ffast-math, which would make this whole process take subnormal numbers for zero.
        subprocess.run(["gcc", "-c", str(source), "-o", str(compiled), *OPTIONS], check=True)
        subprocess.run(["gcc", "-shared", str(compiled), "-o", str(library), "-lm"], check=True)
        loop = ctypes.CDLL(str(library)).go
    number, single = ctypes.c_int, ctypes.c_float
    loop.argtypes = [ctypes.c_void_p] * 3 + [number] * 3 + [single] * 3
    rounds, n = len(x) // LANES, x.shape[1]
    at = np.ascontiguousarray(np.moveaxis(x.reshape(rounds, LANES, n, 3), 1, -1), np.float32)
    momenta, force = np.zeros_like(at), np.zeros_like(at)
    loop(*(a.ctypes.data for a in (at, momenta, force)), rounds, n, 1, edge, cutoff, 0.0)  # the first force

    def go(steps: int) -> np.ndarray:
        loop(*(a.ctypes.data for a in (at, momenta, force)), rounds, n, steps, edge, cutoff, step)
        return np.moveaxis(at, -1, 1).reshape(x.shape)

    return go
