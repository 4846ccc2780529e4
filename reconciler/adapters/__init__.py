"""Ports made real. The only rooms that open sockets, files and databases."""
