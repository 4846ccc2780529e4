"""`python -m reconciler.devnet`: serve a devnet in the foreground until it is told to stop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from reconciler.devnet.config import parse, parser
from reconciler.devnet.serve import serve
from reconciler.model.errors import ReconcilerError


def main(words: Sequence[str] | None = None) -> int:
    """Run; 0 after a clean stop, 1 when the network could not come up."""
    options = parser().parse_args(words)
    try:
        asyncio.run(serve(parse(options), options.ready_fd))
    except ReconcilerError as error:
        sys.stderr.write(f"{error.message}\n" + (f"  hint: {error.hint}\n" if error.hint else ""))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
