"""All of Longshore on one host: the bus and the services as supervised child processes."""
