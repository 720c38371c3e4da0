"""Trains image classifiers on the data sets that `beam_pipelines` writes."""
