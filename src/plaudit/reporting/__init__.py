"""The report of a run: one self-contained HTML page, and the same comparison in the terminal."""
