"""The embedded task: a small world with its own text, annotators and gold score, made by code."""
