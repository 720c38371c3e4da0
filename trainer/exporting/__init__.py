"""What `trainer.export` is made of."""
