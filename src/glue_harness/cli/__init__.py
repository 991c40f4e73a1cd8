"""The commands: parse, call, print. The only package that imports both training and reports."""
