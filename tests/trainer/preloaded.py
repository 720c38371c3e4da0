"""What the processes that train in tests have imported before they start."""

import os

os.environ.update({"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"})

import trainer.assembly
import trainer.strategy
import trainer.task  # noqa: F401
