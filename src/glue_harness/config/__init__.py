"""The schema of conf/, its composition and its validation."""
