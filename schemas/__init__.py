"""What travels between the services: events, commands, routing values, and the subjects they travel on."""
