"""Conditionings: what travels over a concept's socket, what it inherits, the base of a direction, checks, masks."""
