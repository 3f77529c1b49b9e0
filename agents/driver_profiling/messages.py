"""What the driver-profiling agent is asked."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents.driver_profiling.can import windows_of
from ledger.errors import Misuse

MAX_WINDOWS = 64  # of one request


class Profile(msgspec.Struct, forbid_unknown_fields=True):
    """One window, or several; see can.windows_of for the forms that they have."""

    window: Any = None
    windows: Any = None

    def __post_init__(self) -> None:
        if (self.window is None) == (self.windows is None):
            raise ValueError("give a window, or windows, one of the two")

    def checked(self) -> NDArray[np.float32]:
        """Windows x samples x signals. Raises Misuse."""
        windows = windows_of(self.windows if self.window is None else self.window, MAX_WINDOWS)
        if self.window is not None and len(windows) != 1:
            raise Misuse(f"one window was announced, and {len(windows)} came: send them as 'windows'")
        return windows
