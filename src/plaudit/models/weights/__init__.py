"""The files with a model's weights, and whether they fit the model."""
