"""Notifications: notices to people about what the deployer records."""
