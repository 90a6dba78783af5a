"""The report of a run: one self-contained HTML page, and the same comparison for the terminal."""
