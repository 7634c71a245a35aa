"""What every service does alike: bus, outbox, settings, logging, lifecycle."""
