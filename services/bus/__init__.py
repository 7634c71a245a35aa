"""The embedded bus: a nats-server that Longshore finds, configures and keeps running."""
