"""Layouts, which turn prompt trees into rows of tokens: one file and one registry entry each."""
