"""Filtering of data sets by score: read, score, select, write, resume. The command is `steelyard filter`."""
