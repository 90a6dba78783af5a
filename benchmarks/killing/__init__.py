"""The parts of ``kill.py``: the runs, the killed processes, and the comparison of two runs' folders."""
