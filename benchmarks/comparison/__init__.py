"""Comparisons with other libraries: each side in a process of its own, on the same weights and the same token ids."""
