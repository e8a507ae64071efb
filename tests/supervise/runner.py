"""The supervisor with another daemon than procview's: ``python -m tests.supervise.runner OPTIONS TRIAL COMMAND...``.

OPTIONS are those of its class, as JSON; TRIAL is a file whose presence makes the trial of a new version fail.
"""

import json
import sys

from procview import logs
from procview.supervisor import renewal
from procview.supervisor.options import Options
from procview.supervisor.run import Supervisor

logs.set_up("info")
options, trial, *command = sys.argv[1:]
sys.exit(
    Supervisor(
        command,
        [sys.executable, "-c", "import os, sys; sys.exit(os.path.exists(sys.argv[1]))", trial],
        Options(**json.loads(options)),
        resumed=renewal.inherited(),
    ).run()
)
