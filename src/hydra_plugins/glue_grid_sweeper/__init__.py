"""The grid sweeper: an experiment is a union of blocks, whatever launcher runs it."""
