"""The words everything else is written in: values, no behaviour that touches the world.

Layer 0. Standard library only; every type is frozen, and equal values are equal objects to every
other layer. Start with `resource` (what was asked), `record` (what we know), `observation` (what
the world showed) and `plan` (the difference).
"""
