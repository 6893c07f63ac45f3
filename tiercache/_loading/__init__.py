"""Loading: what is in no tier is made once, and what is past its time may be served meanwhile."""
