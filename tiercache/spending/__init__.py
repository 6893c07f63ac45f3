"""What calls of models cost, and what a cache saves of it."""
