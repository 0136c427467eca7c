"""Takes from a process what it does not need to look into files: new privileges, the network, outliving its parent.

Each holds where the system allows it (Linux, and outside of containers that forbid it); the limits on time and memory,
which hold everywhere, are `child`'s. What has to be there in any case is that nothing of a file is run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_DEATH_SIGNAL, _NO_NEW_PRIVILEGES = 1, 38  # of prctl(2)
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # of unshare(2)


def isolate() -> bool:
    """End with the parent, gain no privileges, and leave the network.

    Returns:
        Whether the network is gone.
    """
    if not sys.platform.startswith("linux"):
        return False
    parent = os.getppid()
    system = ctypes.CDLL(None)
    system.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if parent == 1 or os.getppid() != parent:  # it ended before it was asked for
        os._exit(1)
    system.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    # Alone it needs rights and keeps those to read files; with a user of its own it needs none.
    return 0 in (system.unshare(kinds) for kinds in (_NEW_NETWORK, _NEW_USER | _NEW_NETWORK))
