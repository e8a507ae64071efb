"""The control socket: what it understands, whom it believes, what it tells."""
