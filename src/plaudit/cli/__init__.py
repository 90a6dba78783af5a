"""Argument parsing and printing. Each command imports the heavy modules that it needs."""
