from procview._fast.engine import Engine, View
from procview._fast.open_files import OpenFiles
from procview._fast.state import State

def inherit(engine: Engine, files: OpenFiles, state: State) -> list[tuple[int, View, bool]]:
    """Have the containers and the open files of ``engine`` and ``files`` recorded in ``state`` from now on; and take
    over those that are in it. Once, before anything is opened.

    Of files that need Python the handle, the view, and whether it is a directory: ``files.give`` has to be called for
    each, or it is unknown.
    """
