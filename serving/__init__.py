"""Serves the exported classifier."""
