"""Replicas as containers of an engine that speaks Docker's API. Nobody else loads the docker SDK."""
