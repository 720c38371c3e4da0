"""Settings of all tests."""

import os

from hypothesis import settings

# Of TensorFlow, also in the commands that tests start: several of them share the cores, and waiting threads spin.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")

# How long an example takes depends on what else the machine does.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
