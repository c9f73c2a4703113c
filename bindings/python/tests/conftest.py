# SPDX-License-Identifier: Apache-2.0
"""Property tests see the same examples in each run; with STEEPEST_TEST_LONG set, many new ones."""

import os

from hypothesis import settings

settings.register_profile("quick", derandomize=True, deadline=None, database=None)
settings.register_profile("long", max_examples=3000, deadline=None)
settings.load_profile("long" if os.environ.get("STEEPEST_TEST_LONG") else "quick")
