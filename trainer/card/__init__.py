"""What the model card says, from what the earlier stages left."""
