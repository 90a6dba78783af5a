"""Loading models, their scalar heads, chunked log-probabilities, and which roles share weights."""
