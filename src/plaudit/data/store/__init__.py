"""Rows and tokens on disk: ``columns``, ``building`` a store of them, ``rows``, ``trees``, and the ``cache`` of both."""
