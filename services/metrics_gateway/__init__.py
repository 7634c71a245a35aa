"""The metrics gateway: folds the event log into numbers, and serves, pushes and explains them."""
