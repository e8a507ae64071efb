"""Which files are measured, and their paths below a mount of procview or lxcfs (below / for the kernel's own)."""

FILES = {
    "meminfo": "proc/meminfo",
    "stat": "proc/stat",
    "cpuinfo": "proc/cpuinfo",
    "swaps": "proc/swaps",
    "diskstats": "proc/diskstats",
    "uptime": "proc/uptime",
    "loadavg": "proc/loadavg",
    "partitions": "proc/partitions",
    "vmstat": "proc/vmstat",
    "online": "sys/devices/system/cpu/online",
}
