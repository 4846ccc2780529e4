"""A whole overlay network in one process: headers, broadcaster, overlay nodes, storage hosts, faults on demand."""
