"""Child processes that end with the process that started them.

Without it, a worker whose driver was killed would go on fetching and writing beside the run that is started next.
"""

import os
import signal
import threading
import time

_POLL_SECONDS = 0.2


def end_with_parent() -> None:
    """Ends this process at once when its parent is gone; Ctrl-C, which a terminal sends to both, is left to the parent.

    To be called from the main thread.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(os.getppid(),), name="end-with-parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(1)
