"""The output of containers: the engine's log of them, and commands that run in them."""
