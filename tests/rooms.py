"""The plan of the house, which `test_layout` checks: rooms by layer, and who may import whom within one."""

# A room is a file or a folder of the package. A file imports from rooms in lower layers.
LAYERS = [
    {"shapes", "units", "checks", "compiled", "distributed", "interrupts", "digests", "kernels"},
    {"space", "cells", "neighbours", "small_eigen", "eigen"},
    {"orbitals"},
    {"potentials"},
    {
        *(
            "models",
            "nonlinear",
            "populations",
            "pair_kernel",
            "pair_loop",
            "pair_forces",
            "surfaces",
            "list_loop",
            "min_norm",
            "pair_split",
            "geometric_phase",
        ),
        "second_order",
    },
    {
        *("integrators", "mollifiers", "windows", "tiles", "tile_sums", "moments"),
        *("fields", "statistics", "diagnostics"),
    },
    {"system", "balance"},
    {
        *("gibbs", "local_gibbs", "sampling", "tempering", "proposals", "matching", "dual", "grand", "grand_chain"),
        *("ensemble", "chunks", "state_weights", "sampled", "initial", "quantum"),
    },
    {"equation_of_state", "transport", "closures", "continuum", "fit"},
    {
        *("config", "build", "store", "packing", "checkpoint", "report", "snapshots", "examples"),
        *("frames", "simulation", "catalogue", "commands", "summary", "verify", "limit"),
    },
    {"cli"},
    {"__init__", "__main__"},
]
# Within a layer it imports only along these arrows: room → the rooms it may import.
ARROWS = {
    "units": {"checks"},
    "distributed": {"checks"},
    "kernels": {"checks", "shapes"},
    "cells": {"space"},
    "neighbours": {"cells", "space"},
    "eigen": {"small_eigen"},
    "populations": {"nonlinear"},
    "list_loop": {"pair_loop"},
    "pair_loop": {"pair_kernel"},
    "pair_forces": {"list_loop", "pair_loop"},
    "second_order": {"nonlinear"},
    "surfaces": {"nonlinear", "pair_forces"},
    "pair_split": {"min_norm", "nonlinear", "surfaces"},
    "geometric_phase": {"nonlinear", "surfaces"},
    "windows": {"mollifiers"},
    "tiles": {"mollifiers", "windows"},
    "tile_sums": {"tiles"},
    "moments": {"mollifiers", "tile_sums", "tiles", "windows"},
    "fields": {"mollifiers", "moments"},
    "balance": {"system"},
    "statistics": {"moments", "fields", "diagnostics"},
    "local_gibbs": {"gibbs"},
    "proposals": {"gibbs"},
    "tempering": {"gibbs", "proposals"},
    "sampling": {"gibbs", "proposals", "tempering"},
    "dual": {"local_gibbs"},
    "matching": {"gibbs", "local_gibbs", "dual"},
    "grand_chain": {"gibbs", "local_gibbs", "grand"},
    "grand": {"gibbs", "local_gibbs"},
    "ensemble": {"gibbs", "sampling"},
    "initial": {"chunks", "dual", "local_gibbs", "matching", "sampled", "sampling"},
    "sampled": {"gibbs", "sampling", "ensemble", "chunks", "state_weights"},
    "config": {"examples"},
    "build": {"config", "snapshots", "simulation"},
    "report": {"store"},
    "checkpoint": {"packing", "store"},
    "simulation": {"store", "checkpoint", "frames"},
    "catalogue": {"report"},
    "commands": {"build", "checkpoint", "config", "report", "simulation", "snapshots", "store", "summary"},
    "summary": {"config", "simulation"},
    "limit": {"build", "config", "store", "report", "simulation"},
}
# Lower rooms that a room must nevertheless not know.
NEVER = {
    "integrators": {"potentials"},  # they see a force function
    "moments": {"potentials"},  # they take bond lists
    "ensemble": {"mollifiers", "moments", "fields", "balance"},  # `observe` is passed in
    "quantum": {"integrators", "mollifiers", "moments", "fields", "balance", "statistics"},
}
# Within a folder: what every file may import of its siblings ("*": any). `__init__` imports all.
SHARED = {
    "potentials": {"base", "elementary"},
    "orbitals": {"*"},
    "report": {"figures", "html"},
    "quantum": {"*"},
    "limit": {"*"},
    "kernels": {"*"},
    "examples": {"*"},
    "config": {"*"},
    "build": {"*"},
}
