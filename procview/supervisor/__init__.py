"""A small parent for the daemon where there is no systemd: keeps descriptors, starts it again, passes signals on.

To its child it is a service manager that speaks systemd's protocol, so the daemon has one way for both. listening: the
NOTIFY_SOCKET. held: the descriptor store. child: processes. family: which there are. renewal: the supervisor's own next
version. run: the loop, and all decisions.
Imports neither trio nor FUSE nor compiled modules: it has to be small, and to outlive what they do.
"""
