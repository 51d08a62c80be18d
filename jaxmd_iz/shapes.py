"""Names for array shapes: n particles, D dimensions, K bonds of one particle, d states, Y field points."""

from jaxtyping import Array, Bool, Float, Inexact, Int

Scalar = Float[Array, ""]
Vector = Float[Array, " D"]
PerParticle = Float[Array, " n"]
Vectors = Float[Array, "n D"]
Species = Int[Array, " n"]
Displacements = Float[Array, "n K D"]
Slots = Int[Array, "n K"]
SlotMask = Bool[Array, "n K"]
Matrices = Inexact[Array, "n d d"]
Points = Float[Array, "Y D"]
PointScalars = Float[Array, " Y"]
PointVectors = Float[Array, "Y D"]
PointTensors = Float[Array, "Y D D"]
