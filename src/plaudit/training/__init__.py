"""The one training loop, its checkpoints, and a file for each stage."""
