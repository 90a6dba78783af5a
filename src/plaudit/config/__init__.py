"""Configuration: the schema, and reading recipes with overrides."""
