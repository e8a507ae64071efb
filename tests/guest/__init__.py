"""Throw-away guests with other kernels, cgroup layouts and resources, whose root is this machine's own.

kernels.py    Debian's kernels, fetched and unpacked
initramfs.py  what such a kernel starts with: init.c and the modules that reach the root
machine.py    what a guest has, and what that is on QEMU's command line
folders.py    folders of the host in the guest (virtiofs)
boot.py       one guest from its start to its end
ladder.py     which tests run in which guest; test_ladder.py runs them
reports.py    results of the tests inside, told to the pytest outside; inside.py is their other end
__main__.py   ./dev guest
"""
