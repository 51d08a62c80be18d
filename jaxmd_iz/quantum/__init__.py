"""Exact quantum mechanics of nuclei on a grid, (4.2)–(4.10) and (5.1)–(5.17): the reference, apart from the MD code."""
