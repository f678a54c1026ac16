"""Hypothesis profiles: `dev` (the default), `ci` (derandomised), `nightly` (deep).

HYPOTHESIS_PROFILE picks one; CI=true means `ci`.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
settings.register_profile("dev", max_examples=25, deadline=None, suppress_health_check=SLOW)
settings.register_profile("ci", max_examples=25, deadline=None, suppress_health_check=SLOW, derandomize=True)
settings.register_profile("nightly", max_examples=1000, deadline=None, suppress_health_check=SLOW, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") == "true" else "dev"))
