"""Files with known rows, random damage to them, and an accounting of what became of every row.

``rows`` makes records, ``writers`` writes them and remembers where, ``damage`` changes bytes and remembers which rows
it touched, ``accounting`` compares what a reader returned. None of them uses the readers of the package.
"""
