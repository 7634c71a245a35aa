"""Replicas as containers of an engine that speaks Docker's API. Only this package loads the docker SDK."""
