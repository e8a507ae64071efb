"""The control socket: HTTP over a Unix socket, for whoever looks after containers or is in one.

``server`` speaks HTTP, ``peers`` knows who asks, ``policy`` who may, ``api`` what there is to ask for, ``census`` and
``metrics`` answer. Nothing here is of the way from a read of a view to its reply, and all of it may fail without that.
"""
