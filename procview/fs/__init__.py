"""The FUSE side: the only part that imports pyfuse3, and nothing here knows settings, signals or commands.

nodes: which paths there are and their inode numbers. blocking: work that may wait, off the event loop and within a
deadline. operations: the FUSE requests. lane: what stands in front of pyfuse3. transport: how requests come to it.
mount: its life cycle. libfuse: its version. Import the modules; this file stays empty so that commands start quickly.
"""
