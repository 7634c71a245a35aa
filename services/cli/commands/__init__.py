"""The commands that start services: a module for each, which imports what that service needs and nothing else."""

START = "Start"
SERVICES = "One service alone"
