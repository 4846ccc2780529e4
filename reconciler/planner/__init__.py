"""plan(desired, recorded, observed) -> Plan. Pure and total: no clock, no I/O, no exceptions for bad worlds."""
