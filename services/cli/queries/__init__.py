"""Queries of a running Longshore: status, events and history, made for a terminal of 80 columns."""
