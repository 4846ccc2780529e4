"""What is sold, at what price, to whom, and what becomes of the money: decisions first, the chain by way of the engine."""
