"""The metrics gateway: it folds the event log into numbers, serves them and pushes them."""
