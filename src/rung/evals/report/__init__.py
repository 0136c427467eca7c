"""The HTML report: one file, readable offline and without scripts.

`model` says what it shows, `aggregation` keeps that of a stream of rows, `page` writes the page, `charts` draws.
"""
