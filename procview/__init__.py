"""procview: gives every container its own /proc, through FUSE.

docs/architecture.md says how the parts fit together.
"""

__version__ = "0.1.0"
