"""Loads the configured models and tokenizers."""
