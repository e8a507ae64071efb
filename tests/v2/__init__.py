"""What only cgroup v2 has: real cgroups, real pressure, and the kernel's own files as the truth."""
