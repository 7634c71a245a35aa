"""The small processes that make up Longshore, and the command that starts them."""
