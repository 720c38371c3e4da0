"""Beam pipelines from a collection's metadata to data sets of examples; one runnable module a pipeline."""
