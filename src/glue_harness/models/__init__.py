"""A backbone with a fresh head, the adapters applied to it, and where they start from."""
