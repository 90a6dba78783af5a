"""Modules on top of hidden states."""
