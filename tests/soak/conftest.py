"""What takes longer than a test run may is collected only when it is asked for, as `make soak` does."""

import os

collect_ignore_glob = [] if os.environ.get("RECONCILER_SOAK") == "1" else ["test_*.py"]
