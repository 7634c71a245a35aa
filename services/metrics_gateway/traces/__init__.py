"""Traces, folded from the same events as the metrics: a replay gives the same spans and ids."""
