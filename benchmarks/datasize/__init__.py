"""The parts of data.py: inputs, child processes and their measurement."""
