"""What happens: effects are journaled, performed through ports, and replayed after a crash."""
