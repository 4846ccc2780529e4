"""One decoder under libFuzzer: `python -m tests.soak.fuzz DECODER CORPUS [libFuzzer's flags]`. Run by test_fuzz.py, or by hand.

The wire's byte code is instrumented, so that inputs that reach new code are kept in the corpus and built upon. A fault other than
RemoteProtocolError ends the process and leaves the input beside the corpus.
"""

import sys

import atheris

with atheris.instrument_imports(include=["reconciler.wire", "reconciler.model"]):
    from tests.property.decoders import Fed, feed


def main() -> None:
    """Fuzz until the flags say that it is enough."""
    name, *rest = sys.argv[1:]
    atheris.Setup([sys.argv[0], *rest], lambda data: feed(name, Fed(data)) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
