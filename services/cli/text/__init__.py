"""Texts for a terminal: columns, notes, proposals. Pure."""
