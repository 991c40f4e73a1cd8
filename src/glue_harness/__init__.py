"""GLUE reproduction harness: Hydra configurations in, honest tables out."""
