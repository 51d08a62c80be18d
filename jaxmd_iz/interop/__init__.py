"""Other programs' objects: atoms of ASE, energy functions and spaces of jax-md. A calculator for ASE is `calculator`.

Neither ASE nor jax-md is imported before it is used; jax-md is not imported at all.
"""

from jaxmd_iz.interop.atoms import Particles as Particles
from jaxmd_iz.interop.atoms import from_ase as from_ase
from jaxmd_iz.interop.atoms import to_ase as to_ase
from jaxmd_iz.interop.functions import PairFunction as PairFunction
from jaxmd_iz.interop.functions import displacement_and_shift as displacement_and_shift
from jaxmd_iz.interop.functions import from_jax_md as from_jax_md
