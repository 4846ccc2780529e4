"""The HTTP surface: routes and status codes, no decisions about money, packets or events."""
