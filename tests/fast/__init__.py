"""The hot path on this machine's own kernel, without a mount."""
