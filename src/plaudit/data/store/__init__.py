"""Rows and tokens on disk: ``columns`` of numbers, ``building`` a store, ``rows`` and ``trees``, the ``cache`` of both."""
