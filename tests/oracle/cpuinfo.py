"""Section 2: /proc/cpuinfo of an x86 host: the stanzas of the visible CPUs, renumbered."""

from __future__ import annotations

import re

from tests.hosts.cpus import cpuinfo_x86
from tests.hosts.model import Container, Host
from tests.oracle.cpus import visible


def cpuinfo(host: Host, container: Container, *, cpus: str = "quota", topology: str = "container") -> str:
    """The whole text."""
    stanzas = dict(zip(host.online, cpuinfo_x86(host).split("\n\n"), strict=False))
    return "".join(
        renumber(stanzas[cpu], number, topology) + "\n\n"
        for number, cpu in enumerate(visible(host, container, cpus=cpus))
    )


def renumber(stanza: str, number: int, topology: str) -> str:
    """Fields a stanza does not have are not added."""
    fields = {"processor": number}
    if topology == "container":
        fields |= {
            "physical id": number,
            "siblings": 1,
            "core id": 0,
            "cpu cores": 1,
            "apicid": number,
            "initial apicid": number,
        }
    for name, value in fields.items():
        stanza = re.sub(rf"^({name}\s*: ).*$", rf"\g<1>{value}", stanza, flags=re.MULTILINE)
    return stanza
