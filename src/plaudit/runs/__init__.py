"""The folder of a run: its files, checkpoints, metrics, metadata, and the processes that write them."""
