"""The health service: it probes the replicas of a host and reports their health."""
