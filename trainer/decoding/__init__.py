"""Pictures of any kind, as they came, to pixels: what ingest does with Pillow, in TensorFlow operations."""
