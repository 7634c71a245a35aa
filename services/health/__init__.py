"""Health: probes the replicas of a host, and tells the verdicts."""
