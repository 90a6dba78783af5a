"""What makes models faster without changing results; ``install`` is the one entry."""
