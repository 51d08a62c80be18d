"""What a compiler makes of the ensemble step written by hand in C: fused loops, as near to the hardware as gcc gets.

All pairs once, Lennard-Jones or the upper surface of two states, float32, velocity Verlet of mass 1, `LANES` systems
side by side, on one core. Built where gcc is found; no part of the package.
"""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.systems import COUPLING, GAP, SHIFT

LANES = 64
OPTIONS = ("-O3", "-march=native", "-mprefer-vector-width=256", "-ffast-math", "-fPIC")
SOURCE = r"""
#include <math.h>
#define L 64
#define PAIRS(...) \
  for (int i = 0; i < n; i++) { \
    const float *xi = x + i * 3 * L; float *fi = f + i * 3 * L; \
    for (int j = i + 1; j < n; j++) { \
      const float *xj = x + j * 3 * L; float *fj = f + j * 3 * L; \
      _Pragma("GCC ivdep") \
      for (int l = 0; l < L; l++) { \
        float dx = xi[l] - xj[l], dy = xi[L + l] - xj[L + l], dz = xi[2 * L + l] - xj[2 * L + l]; \
        dx -= edge * rintf(dx * inverse); dy -= edge * rintf(dy * inverse); dz -= edge * rintf(dz * inverse); \
        float r2 = dx * dx + dy * dy + dz * dz; \
        __VA_ARGS__ \
      } \
    } \
  }
#define PULL \
  float i2 = 1 / r2, i6 = i2 * i2 * i2, g = r2 < most ? 24 * i2 * i6 * (2 * i6 - 1) : 0;
#define BUMPS \
  float r = sqrtf(r2), a = (cutoff - r) * scale; a = a < 0 ? 0 : a > 1 ? 1 : a; \
  float w = a * a * a * (10 - a * (15 - 6 * a)), u = r - b[2], v = r - b[5]; \
  float delta = b[0] * expf(-b[1] * u * u), c = b[3] * expf(-b[4] * v * v);
#define ADD \
  fi[l] += g * dx; fi[L + l] += g * dy; fi[2 * L + l] += g * dz; \
  fj[l] -= g * dx; fj[L + l] -= g * dy; fj[2 * L + l] -= g * dz;

static void one(const float *x, float *f, int n, float edge, float cutoff) {
  const float inverse = 1 / edge, most = cutoff * cutoff;
  PAIRS(PULL ADD)
}

/* b: h, 1/2w² and r₀ of δ/2n and of c/n */
static void two(const float *x, float *f, int n, float edge, float cutoff, const float *b, float gap) {
  const float inverse = 1 / edge, most = cutoff * cutoff, scale = 5 / cutoff;
  float half[L], off[L];
  for (int l = 0; l < L; l++) { half[l] = -gap / 2; off[l] = 0; }
  PAIRS(BUMPS half[l] -= w * delta; off[l] += w * c;)
  for (int l = 0; l < L; l++) { /* the slopes of λ in δ/2n and in c/n */
    const float root = sqrtf(half[l] * half[l] + off[l] * off[l]);
    half[l] = 1 - half[l] / root; off[l] /= root;
  }
  PAIRS(BUMPS PULL
    const float rise = a * (1 - a), s = -30 * scale * rise * rise;
    g -= (half[l] * delta * (s - 2 * w * b[1] * u) + off[l] * c * (s - 2 * w * b[4] * v)) / r;
    ADD)
}

void go(float *x, float *p, float *f, int rounds, int n, int steps, const float *b, float edge, float cutoff, float gap,
        float h) {
  const int size = n * 3 * L;
  for (int r = 0; r < rounds; r++, x += size, p += size, f += size)
    for (int s = 0; s < steps; s++) {
      for (int k = 0; k < size; k++) { p[k] += h / 2 * f[k]; x[k] += h * p[k]; f[k] = 0; }
      if (b) two(x, f, n, edge, cutoff, b, gap); else one(x, f, n, edge, cutoff);
      for (int k = 0; k < size; k++) p[k] += h / 2 * f[k];
    }
}
"""


def available() -> bool:
    """Whether there is a compiler."""
    return shutil.which("gcc") is not None


def ensemble(x: np.ndarray, edge: float, cutoff: float, step: float, states: int = 1) -> Callable[[int], np.ndarray]:
    """A function that carries a batch on from rest by so many steps, and gives its positions.

    Args:
        x: (B, n, 3), B a multiple of `LANES`.
        edge, cutoff, step: of the cell, of the potential, of time.
        states: 1, or 2 for the upper surface.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, compiled, library = (Path(folder) / name for name in ("loop.c", "loop.o", "loop.so"))
        source.write_text(SOURCE, encoding="utf-8")
        # Linked without -ffast-math, which would make this whole process take subnormal numbers for zero.
        subprocess.run(["gcc", "-c", str(source), "-o", str(compiled), *OPTIONS], check=True)
        subprocess.run(["gcc", "-shared", str(compiled), "-o", str(library), "-lmvec", "-lm"], check=True)
        loop = ctypes.CDLL(str(library)).go
    number, single, pointer = ctypes.c_int, ctypes.c_float, ctypes.c_void_p
    loop.argtypes = [pointer] * 3 + [number] * 3 + [pointer] + [single] * 4
    rounds, n = len(x) // LANES, x.shape[1]
    at = np.ascontiguousarray(np.moveaxis(x.reshape(rounds, LANES, n, 3), 1, -1), np.float32)
    momenta, force = np.zeros_like(at), np.zeros_like(at)
    bumps = [(h / n, 0.5 / w**2, centre) for h, w, centre in ((SHIFT[0] / 2, *SHIFT[1:]), COUPLING)]
    bumps = np.array(bumps, np.float32) if states == 2 else None

    def go(steps: int, step: float = step) -> np.ndarray:
        arrays = (a.ctypes.data for a in (at, momenta, force))
        b = None if bumps is None else bumps.ctypes.data
        loop(*arrays, rounds, n, steps, b, edge, cutoff, GAP, step)
        return np.moveaxis(at, -1, 1).reshape(x.shape)

    go(1, 0.0)  # the first force
    return go
