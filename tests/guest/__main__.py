"""A guest by hand, as ./dev guest: the command's output and exit status are those of the command inside."""

import sys

import click

from tests.guest.boot import boot
from tests.guest.kernels import NoSuchKernelError
from tests.guest.machine import LAYOUTS, Layout, Machine
from tests.session import temporary_directory

DIED = 125
"""The exit status when the guest died, or took too long."""


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--kernel", default="6.12", show_default=True, metavar="SERIES", help="6.12 or 6.1.")
@click.option("--layout", default="v2", show_default=True, type=click.Choice(LAYOUTS), help="Of the cgroups.")
@click.option("--cpus", default=2, show_default=True, type=click.IntRange(1))
@click.option("--memory-mib", default=2048, show_default=True, type=click.IntRange(256))
@click.option("--swap-mib", default=0, type=click.IntRange(0), help="Swap on a disk of its own.")
@click.option("--disk-mib", multiple=True, type=click.IntRange(1), help="An empty disk; may be given several times.")
@click.option("--numa", default=1, show_default=True, type=click.IntRange(1), help="Nodes that CPUs and memory are in.")
@click.option("--systemd", is_flag=True, help="systemd is PID 1.")
@click.option("--seconds", default=24 * 3600, type=click.IntRange(1), help="How long it may take, boot included.")
@click.option("--console", is_flag=True, help="Print what the kernel said, in the end.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def main(
    kernel: str,
    layout: Layout,
    cpus: int,
    memory_mib: int,
    swap_mib: int,
    disk_mib: tuple[int, ...],
    numa: int,
    systemd: bool,
    seconds: int,
    console: bool,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND (a shell, if there is none) as root in a throw-away guest whose root is this machine's own.

    What it writes is gone afterwards.
    """
    machine = Machine(kernel, layout, cpus, memory_mib, swap_mib, disk_mib, numa, systemd)
    with temporary_directory() as shared:
        try:
            end = boot(machine, command or ("bash", "-i"), shared, seconds=seconds, ours=True)
        except NoSuchKernelError as error:
            raise click.ClickException(str(error)) from None
    if console or end.status is None:
        click.echo(end.console if console else end.why(), err=True)
    sys.exit(DIED if end.status is None else end.status)


if __name__ == "__main__":
    main(prog_name="./dev guest")
