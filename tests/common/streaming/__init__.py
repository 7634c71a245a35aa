"""Streams over a real bus."""
