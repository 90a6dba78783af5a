"""Row formats: how the records of known datasets become rows. One file per family; ``registry`` lists all formats."""
