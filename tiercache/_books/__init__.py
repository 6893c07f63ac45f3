"""Keeping the ledger: what calls of loaders cost, noted where it lasts, and the budget that reads it."""
