"""The variables of replicas, and the secrets among them."""
