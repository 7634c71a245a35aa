"""Replays of the log: any past moment, other buckets, a time series, two releases side by side."""
