"""How views get over a container's files, and away again, without touching a container.

A container's file is bound from a *slot*: a plain procfs or sysfs file in ``src``, which is a slave of ``ctl``. What is
mounted over the same file in ``ctl`` (the view) therefore shows in every container, and one umount there takes it
away from all of them: the host's own file is what is left. ``docs/architecture.md`` has the reasons.
"""
