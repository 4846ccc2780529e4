"""Formats and conversations of the network, sans-I/O. Decoders raise RemoteProtocolError and nothing else."""
