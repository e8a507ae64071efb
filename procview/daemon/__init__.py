"""The daemon: its life, and its half of how views get into containers. With procview.fs, the only place for trio."""
