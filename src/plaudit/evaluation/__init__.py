"""Measurements of models and rewards; each returns plain data."""
