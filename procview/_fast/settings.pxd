"""What can be configured about what a container sees. The names and defaults are Python's: procview/settings.py."""


cdef struct Settings:
    bint cpus_by_quota
    bint topology_of_host
    bint swap
    bint devices_of_host
    bint uptime_of_host
    bint loadavg


cdef Settings settings_of_words(
    str cpus, str topology, bint swap, str devices, str uptime, bint loadavg
) except *
