"""What `beam_pipelines.batch_predict` is made of: from rows with pictures to what a model says of each."""
