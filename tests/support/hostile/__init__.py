"""Hostile cases for the command line: damaged model and run folders, absurd arguments, and bad answers over HTTP.

Each case prepares a folder and returns the command. Plaudit must end it with a known exit code and one line per
problem.
"""
