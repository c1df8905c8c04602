"""Handwriting synthesis: a text, and a style, into the path of a pen (Graves 2013, arXiv:1308.0850)."""
