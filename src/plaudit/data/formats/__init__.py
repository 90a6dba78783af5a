"""Row formats, which turn the records of known datasets into rows. One file per family; ``registry`` lists them."""
