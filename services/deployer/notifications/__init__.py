"""Notices: people are told what the deployer records."""
