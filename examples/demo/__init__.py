"""The demonstration that `make demo` plays, with the real program, on a network of its own."""
