"""The output of replicas."""
