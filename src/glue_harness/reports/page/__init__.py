"""All of an experiment on one HTML page."""
