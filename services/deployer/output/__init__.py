"""The output of replicas: its last lines in events, its stream, and commands that run beside a replica."""
