"""The command line, one module per command. Exit codes: 0 done, 1 it could not be done, 2 the command line is wrong.

``check`` has those of monitoring plugins instead, and ``status`` its own. A command imports what it needs when it runs,
so that ``procview version`` works without FUSE.
"""

import click

from procview.cli import (
    attach,
    check,
    config,
    detach,
    install,
    leave,
    metrics,
    render,
    serve,
    status,
    supervise,
    top,
    version,
    withdraw,
)


@click.group(
    epilog="Exit codes: 0 done, 1 it could not be done, 2 the command line is wrong; check and status have their own.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
def main() -> None:
    """Give every container its own /proc, through FUSE."""


main.add_command(serve.serve)
main.add_command(supervise.supervise)
main.add_command(withdraw.withdraw)
main.add_command(leave.leave)
main.add_command(attach.attach)
main.add_command(detach.detach)
main.add_command(check.check)
main.add_command(status.status)
main.add_command(top.top)
main.add_command(metrics.metrics)
main.add_command(install.install)
main.add_command(install.uninstall)
main.add_command(render.render)
main.add_command(config.config)
main.add_command(version.version)
