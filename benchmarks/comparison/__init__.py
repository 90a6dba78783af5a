"""Comparisons with other libraries: each side in a separate process, on the same weights and the same token ids."""
