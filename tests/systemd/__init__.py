"""systemd as PID 1: its services as callers, and the unit that is shipped, as systemd runs it."""
