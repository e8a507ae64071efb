"""The hot path: caller -> container -> snapshot of its cgroup -> text of one view.

The sources are ``_fast/*.pyx``; this folder holds their interfaces, ``.pyi`` for Python and ``.pxd`` for Cython.
Nothing in it knows FUSE, trio or policy, and only :mod:`procview._fast.engine` is meant to be imported from Python.
"""
