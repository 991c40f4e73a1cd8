"""The committed files of an experiment: schema, files, validation, collection, restoration."""
