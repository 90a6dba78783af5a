"""Prompt trees, packing, masks and the two layouts."""
