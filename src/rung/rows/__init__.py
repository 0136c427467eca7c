"""Rows of labelled or unlabelled files: read in bounded memory, parsed, checked."""
