"""Faults on purpose, for tests: whether there may be any is for an environment variable to say, and nothing else.

PROCVIEW_FAULTS names a folder. A file ``POINT`` in it with the word ``die``, ``hang`` or ``fail`` makes whoever passes
that point next do so, once (``_fast/faults.pyx``). The points:

- ``read``: a thread of the lane has taken a request, and not yet answered it or handed it on;
- ``reply``: it is about to answer (what fails is the reply: it is not sent);
- ``relay``: an answer of pyfuse3 is about to go to the kernel (it is not sent);
- ``inherit``, ``negotiate``, ``resend``, ``resent``: a daemon that takes over knows the containers of the one before
  and not yet their files; has had pyfuse3 negotiate once more; is about to have requests sent again; has done so;
- ``publish``, ``withdraw``: the next view is about to be put over its slot, or taken away, by whatever process.
"""

import os

FOLDER = os.environ.get("PROCVIEW_FAULTS")

if FOLDER is None:

    def passing(point: str) -> None:
        """Nothing: no faults are wanted."""

else:
    from procview._fast.faults import arm, passing

    try:
        arm(FOLDER)
    except OSError as error:
        raise SystemExit(f"PROCVIEW_FAULTS={FOLDER}: {error.strerror}") from None

__all__ = ["FOLDER", "passing"]
