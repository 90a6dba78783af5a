"""Faster computation with the same results. Callers use ``install`` only."""
