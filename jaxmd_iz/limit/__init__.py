"""The classical limit measured: exact quantum mechanics against weighted molecular dynamics (Theorems 5.1, 5.2)."""
