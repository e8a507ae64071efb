"""How fast procview is, against the kernel's own /proc, the floor of FUSE and lxcfs: ``python -m bench --help``.

Needs root, a C compiler and a built ``procview._fast``. docs/performance.md says what is measured and how to read it.
"""
