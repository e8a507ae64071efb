"""Tests in real containers, and what starts them: runc, crun, LXC and plain unshare behind one interface."""
