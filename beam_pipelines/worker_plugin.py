"""What Beam's local worker processes import when they start (`--beam_plugins`): they end with their driver."""

from beam_pipelines.orphans import end_with_parent

end_with_parent()
