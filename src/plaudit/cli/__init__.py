"""Argument parsing and printing; everything heavy is imported by the command that needs it."""
