"""Hermitian eigenproblems of two to four states in arithmetic that a batch vectorises: an array for each element.

Closed forms for two and three states, Jacobi rotations for four. A compiler may compute an intermediate several times
with different rounding (fused multiply-add); at a gap of rounding size this would give columns of Ψ that do not belong
together. Hence what a rotation in a nearly degenerate plane is computed from is the carry of a loop, stored and unique,
and choices between equivalent forms are made at thresholds which symmetric matrices do not meet.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Inexact

#: The largest d for which this is faster in batches than `jnp.linalg.eigh` on a CPU.
LARGEST = 4


def solve(v: Inexact[Array, "*b d d"]) -> tuple[Float[Array, "*b"], Float[Array, "*b d"], Inexact[Array, "*b d d"]]:
    """V = Ψ (c + diag μ) Ψ* with μ in ascending order; gaps are those of μ, with no rounding of c in them.

    Args:
        v: (…, d, d) Hermitian, 2 ≤ d ≤ `LARGEST`; the mean over the two triangles is used.

    Returns:
        c (…), μ (…, d), Ψ (…, d, d).
    """
    c, levels, columns = {2: _two, 3: _three}.get(v.shape[-1], _jacobi)(v)
    return c, jnp.stack(levels, axis=-1), jnp.stack([jnp.stack(column, axis=-1) for column in columns], axis=-1)


def _elements(v):
    """Real diagonal, and the elements above it."""
    d = v.shape[-1]
    above = {(i, j): (v[..., i, j] + v[..., j, i].conj()) / 2 for i in range(d) for j in range(i + 1, d)}
    return [jnp.real(v[..., i, i]) for i in range(d)], above


def _square(z):
    """|z|²."""
    return jnp.real(z) ** 2 + jnp.imag(z) ** 2 if jnp.iscomplexobj(z) else z * z


def _times(r, z):
    """r z with r real and z of any kind."""
    return r.astype(z.dtype) * z


def _size(*elements):
    """The largest real or imaginary part, never so small that its inverse overflows."""
    size = 8 * jnp.finfo(elements[0].dtype).tiny
    for z in elements:
        for part in (jnp.real(z), jnp.imag(z)) if jnp.iscomplexobj(z) else (z,):
            size = jnp.maximum(size, jnp.abs(part))
    return size


def _deflated(v):
    """V = c + size·A with A of trace 0 and size 1: c, size, the diagonal of A, the elements above it."""
    diagonal, above = _elements(v)
    first, d = diagonal[0], len(diagonal)
    diagonal = [a - first for a in diagonal]  # exact for levels that are close
    size = _size(*diagonal, *above.values())
    diagonal = [a / size for a in diagonal]
    mean = sum(diagonal[1:]) / d
    return (
        first + size * mean,
        size,
        [a - mean for a in diagonal],
        {key: _times(1 / size, z) for key, z in above.items()},
    )


def _two_level(half, off):
    """r and the column (p, q) of +r of [[half, off], [off*, −half]]; that of −r is (−q*, p*). (1, 0) where r = 0."""
    size = _size(half, off)
    half, off = half / size, _times(1 / size, off)
    square = _square(off)
    info = jnp.finfo(half.dtype)
    square = jnp.where(square < info.tiny / info.eps, 0.0, square)  # what is left has all its digits
    r2 = half * half + square
    crossing = r2 == 0
    r = jnp.sqrt(jnp.where(crossing, 1.0, r2))
    up = half >= -0.2345 * jnp.sqrt(square)
    long = jnp.where(up, r + half, r - half)
    scale = 1 / jnp.sqrt(2 * r * jnp.where(crossing, 0.5, long))
    long = jnp.where(crossing, 1.0, long * scale).astype(off.dtype)
    short = _times(jnp.where(square == 0, 0.0, scale), off)
    p, q = jnp.where(up, long, short), jnp.where(up, short.conj(), long)
    return jnp.where(crossing, 0.0, size * r), p, q


def _two(v):
    """(5.25)–(5.26): r = √(ṽ² + |v₁₂|²) about the mean; p = cos α/2 ≥ 0 and q = sin α/2 for real V."""
    (a, b), above = _elements(v)
    r, p, q = _two_level((a - b) / 2, above[0, 1])
    if not jnp.iscomplexobj(v):
        p, q = jnp.abs(p), jnp.where(p < 0, -q, q)
    return (a + b) / 2, [-r, r], [[-q.conj(), p.conj()], [p, q]]


def _three(v):
    """The level farthest from the others by the cubic, then two levels in the plane normal to its vector."""
    c, size, diagonal, above = _deflated(v)
    x, y, z = above[0, 1], above[0, 2], above[1, 2]

    def product(left, right):
        return sum(i.conj() * j for i, j in zip(left, right, strict=True))

    def separate(carry):
        """w by the largest column of adj(A − μ) = (gap)(gap′) w w*, μ the root farthest from the other two."""
        x2, y2, z2 = _square(x), _square(y), _square(z)
        a0, a1, a2 = diagonal
        p2 = (a0 * a0 + a1 * a1 + a2 * a2) / 6 + (x2 + y2 + z2) / 3
        det = a0 * (a1 * a2 - z2) - a1 * y2 - a2 * x2 + 2 * jnp.real(x * z * y.conj())
        flat = p2 == 0  # A = 0
        p = jnp.sqrt(jnp.where(flat, 1.0, p2))
        t = det / (2 * p * p * p)
        top = t > -0.0371  # either root serves near t = 0
        t = jnp.minimum(jnp.where(top, t, -t), 1.0)
        root = 0.866 + t * (0.1621 - 0.0281 * t)  # of 4y³ − 3y = t, to 1e-3; the slope is 6 to 9
        for _ in range(3):
            root = root - (root * (4 * root * root - 3) - t) / (12 * root * root - 3)
        mu = jnp.where(top, 2 * p * root, -2 * p * root)
        b0, b1, b2 = a0 - mu, a1 - mu, a2 - mu
        d0, d1, d2 = b1 * b2 - z2, b0 * b2 - y2, b0 * b1 - x2
        d01, d02, d12 = y * z.conj() - _times(b2, x), x * z - _times(b1, y), y * x.conj() - _times(b0, z)
        d0, d1, d2 = (d.astype(v.dtype) for d in (d0, d1, d2))
        columns = [d0, d01.conj(), d02.conj()], [d01, d1, d12.conj()], [d02, d12, d2]
        _, w = chosen(*(jnp.real(columns[i][i]) for i in range(3)), *columns)
        norm2 = sum(_square(wi) for wi in w)
        scale = 1 / jnp.sqrt(jnp.where(flat, 1.0, norm2))
        w = [_times(scale, jnp.where(flat, float(i == 0), wi).astype(v.dtype)) for i, wi in enumerate(w)]
        return [w, *carry[0][1:]], carry[1]

    def chosen(s0, s1, s2, *columns):
        """Which of three sizes is the largest, but for a factor that ties do not meet; and its column."""
        one = 1.2345 * s1 > s0
        two = 1.3579 * s2 > jnp.where(one, s1, s0)
        one = one & ~two
        return (~one & ~two, one, two), [
            jnp.where(two, c2, jnp.where(one, c1, c0)) for c0, c1, c2 in zip(*columns, strict=True)
        ]

    def split(carry):
        """The other columns u, u′ of the reflection 1 − f f*/(1 + |w_i|), f = w + (w_i/|w_i|) e_i, of w on e_i."""
        w = carry[0][0]
        here, _ = chosen(*(_square(wi) for wi in w))
        w_i, w_j, w_k = (jnp.where(here[2], w[(2 + n) % 3], jnp.where(here[1], w[(1 + n) % 3], w[n])) for n in range(3))
        length = jnp.sqrt(_square(w_i))
        unit = [h.astype(v.dtype) for h in here]
        f = [wi + e * _times(1 / length, w_i) for wi, e in zip(w, unit, strict=True)]
        g_j, g_k = (_times(1 / (1 + length), o.conj()) for o in (w_j, w_k))
        u = [unit[n - 1] - f[n] * g_j for n in range(3)]
        other = [unit[n - 2] - f[n] * g_k for n in range(3)]
        return [w, u, other], carry[1]

    def meet(carry):
        """A in the plane of u and u′."""
        _, u, other = carry[0]
        a_u, a_other = applied(u), applied(other)
        return carry[0], [product(u, a_u), product(other, a_other), product(u, a_other)]

    def applied(r):
        a0, a1, a2 = (_times(a, ri) for a, ri in zip(diagonal, r, strict=True))
        return [a0 + x * r[1] + y * r[2], x.conj() * r[0] + a1 + z * r[2], y.conj() * r[0] + z.conj() * r[1] + a2]

    nothing = [jnp.zeros_like(x)] * 3
    stages = separate, split, meet
    carry = [nothing] * 3, nothing
    columns, plane = lax.fori_loop(0, len(stages), lambda i, carry: lax.switch(i, stages, carry), carry)
    w, u, other = columns
    one, two = jnp.real(plane[0]), jnp.real(plane[1])
    mean = (one + two) / 2
    alone = -2 * mean
    r, p, q = _two_level((one - two) / 2, plane[2])
    high = [i * p + j * q for i, j in zip(u, other, strict=True)]
    low = [j * p.conj() - i * q.conj() for i, j in zip(u, other, strict=True)]
    top = alone > 0

    def ordered(at_bottom, at_top):
        return [jnp.where(top, i, j) for i, j in zip(at_top, at_bottom, strict=True)]

    levels = ordered([alone, mean - r, mean + r], [mean - r, mean + r, alone])
    columns = [ordered(*pair) for pair in ((w, low), (low, high), (high, w))]
    return c, [size * level for level in levels], columns


def _jacobi(v):
    """Cyclic Jacobi: d + 1 sweeps of rounds of disjoint rotations, each round computed from a stored matrix."""
    d = v.shape[-1]
    c, size, diagonal, above = _deflated(v)
    least = (float(jnp.finfo(size.dtype).eps) / 16) ** 2
    pairs = [(i, d - 1 - i) for i in range(d // 2)]
    # a tournament: between rounds the states change seats, so that each pair meets once a sweep
    rounds = d - 1 + d % 2
    seats = [(i - 1) % d for i in range(d)] if d % 2 else [0, d - 1, *range(1, d - 1)]

    def turned(left, right, cosine, sine):
        return _times(cosine, left) - sine.conj() * right, sine * left + _times(cosine, right)

    def one_round(_, carry):
        diagonal, above, psi = carry
        a = {(i, j): above[i, j] if i < j else above[j, i].conj() for i in range(d) for j in range(d) if i != j}
        diagonal, psi = list(diagonal), dict(psi)
        rotations = {}
        for p, q in pairs:
            off, square = a[p, q], _square(a[p, q])
            nothing = square < least  # turns by noise within a multiple level would undo others
            half = (diagonal[q] - diagonal[p]) / 2
            root = jnp.sqrt(half * half + jnp.where(nothing, 1.0, square))
            t = jnp.where(nothing, 0.0, 1 / jnp.where(half < 0, half - root, half + root))
            cosine = 1 / jnp.sqrt(1 + t * t * square)
            rotations[p, q] = cosine, _times(t * cosine, off)
            diagonal[p], diagonal[q] = diagonal[p] - t * square, diagonal[q] + t * square
            a[p, q] = jnp.zeros_like(off)
        for (p, q), turn in rotations.items():
            for i in range(d):
                psi[i, p], psi[i, q] = turned(psi[i, p], psi[i, q], *turn)
                if i not in (p, q):
                    a[i, p], a[i, q] = turned(a[i, p], a[i, q], *turn)
        for (p, q), turn in rotations.items():
            for i in set(range(d)) - {p, q}:
                left, right = turned(a[p, i].conj(), a[q, i].conj(), *turn)
                a[p, i], a[q, i] = left.conj(), right.conj()
        for p, q in pairs:
            a[q, p] = a[p, q]
        return (
            [diagonal[i] for i in seats],
            {(i, j): a[seats[i], seats[j]] for i, j in above},
            {(i, j): psi[i, seats[j]] for i, j in psi},
        )

    psi = {(i, j): jnp.full(size.shape, float(i == j), v.dtype) for i in range(d) for j in range(d)}
    levels, _, psi = lax.fori_loop(0, (d + 1) * rounds, one_round, (diagonal, above, psi))
    columns = [[psi[i, j] for i in range(d)] for j in range(d)]
    for start in range(d):  # odd–even transposition sort
        for i in range(start % 2, d - 1, 2):
            swap, (l, m), (left, right) = levels[i] > levels[i + 1], levels[i : i + 2], columns[i : i + 2]
            levels[i : i + 2] = jnp.minimum(l, m), jnp.maximum(l, m)
            columns[i] = [jnp.where(swap, n, k) for k, n in zip(left, right, strict=True)]
            columns[i + 1] = [jnp.where(swap, k, n) for k, n in zip(left, right, strict=True)]
    return c, [size * level for level in levels], columns
