"""The parts that every service shares: bus, outbox, settings, logging, lifecycle."""
