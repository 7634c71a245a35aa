"""`longshore demo`: an example application under traffic, a new release, a broken release, and the count."""
