"""The outputs and commands of processes."""
