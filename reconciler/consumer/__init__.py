"""The buyer's room: what is on offer, what it costs, what was bought, and whether it may be used."""
