"""Rows and tokens on disk: columns, how a store of them is built, rows, trees, and the cache of both."""
