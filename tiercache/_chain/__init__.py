"""The chain from inside: its tiers as views see them, what they owe each other, and the core."""
