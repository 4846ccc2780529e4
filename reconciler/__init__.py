"""Declare what you publish on the BSV overlay network; the reconciler makes the network agree, and keeps it so."""

__version__ = "0.1.0"
