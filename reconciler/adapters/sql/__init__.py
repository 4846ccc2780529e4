"""The ledger, the queue and the catalog on SQL."""
