"""What a run is on disk: identity, record, lock, progress, outcome, index of all runs."""
