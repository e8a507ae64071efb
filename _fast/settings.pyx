# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Settings of a container in their words, as procview/settings.py has them, for compiled code."""

from libc.string cimport memset


cdef Settings settings_of_words(
    str cpus, str topology, bint swap, str devices, str uptime, bint loadavg
) except *:
    """Raises ValueError for a word that is none of a setting's."""
    cdef Settings settings
    memset(&settings, 0, sizeof(settings))
    settings.cpus_by_quota = _choose("cpus", cpus, "quota", "cpuset")
    settings.topology_of_host = _choose("topology", topology, "host", "container")
    settings.swap = swap
    settings.devices_of_host = _choose("devices", devices, "host", "container")
    settings.uptime_of_host = _choose("uptime", uptime, "host", "container")
    settings.loadavg = loadavg
    return settings


cdef bint _choose(str setting, str word, str yes, str no) except *:
    if word == yes:
        return True
    if word == no:
        return False
    raise ValueError(f"{setting}: {word!r} is neither {yes!r} nor {no!r}")
