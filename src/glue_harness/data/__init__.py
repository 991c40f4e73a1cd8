"""GLUE's rows: sources, fingerprints, tokenization, batches and metrics."""
