"""The stages of a run, one file each; ``registry.STAGES`` holds them in the order in which they run."""
