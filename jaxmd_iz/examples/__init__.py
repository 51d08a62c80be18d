"""Configurations that come with the package, found by their names: `jaxmd-iz run lj_liquid`."""
