"""Plaudit trains a language model from feedback, start to finish."""
