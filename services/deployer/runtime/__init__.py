"""The runtimes of replicas: processes of this host, and containers."""
