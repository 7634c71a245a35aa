"""The log again: any past moment, any other buckets, a time series, two releases side by side."""
