"""Pure functions on tensors, one per equation."""
