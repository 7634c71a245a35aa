"""The wire format between the services: events, commands, routing values, and their subjects."""
