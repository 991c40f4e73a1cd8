"""The figures of an experiment; only this package imports matplotlib."""
