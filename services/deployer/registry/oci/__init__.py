"""Registries of the OCI Distribution Specification: `img://host/repository`."""
