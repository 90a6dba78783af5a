"""Recipes that come with the package: complete runs as YAML, listed by `plaudit recipes`."""
