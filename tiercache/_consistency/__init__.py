"""Consistency: who writes and loads which keys just now, so that no old value comes back."""
