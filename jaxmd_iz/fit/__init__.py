"""Fits of parameters to data: inverse design from profiles, force and stress matching."""

from jaxmd_iz.fit.forces import ForceFit as ForceFit
from jaxmd_iz.fit.forces import Snapshots as Snapshots
from jaxmd_iz.fit.forces import interactions as interactions
from jaxmd_iz.fit.forces import match_forces as match_forces
from jaxmd_iz.fit.forces import mismatch as mismatch
from jaxmd_iz.fit.inverse import Recovered as Recovered
from jaxmd_iz.fit.inverse import gauss_newton as gauss_newton
from jaxmd_iz.fit.inverse import recover as recover
from jaxmd_iz.fit.targets import Target as Target
from jaxmd_iz.fit.targets import measured as measured
from jaxmd_iz.fit.targets import profiles as profiles
