"""What holds for the whole suite."""

import os

from hypothesis import settings

# A busy machine is no failure. In CI, Hypothesis does the same by itself, and repeats the same examples in every run.
settings.register_profile("patient", deadline=None)
if not os.environ.get("CI"):
    settings.load_profile("patient")
