"""What a trained model gets right and wrong: figures, tables, pictures, a page. `trainer.evaluate` is the command."""
