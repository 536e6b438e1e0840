"""How much is tested.

``make test`` takes each case once. ``make test-all`` also repeats the cases of the fault catalogue
to see that nothing is left of any, and takes the time for what is marked ``long``.
"""

from __future__ import annotations

import os

ALL = os.environ.get("TESTS") == "all"
