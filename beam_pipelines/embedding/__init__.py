"""What `beam_pipelines.embed` is made of: from a data set of pictures to one of their vectors by a backbone."""
