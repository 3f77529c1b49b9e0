"""What a car's bus tells of its driver: windows of 40 samples of 15 signals, one sample a second.

The signals are the 15 of 51 that BloSM takes (engine, fuel, transmission), under the names of the columns of the OCSLab
driving data (Kwak, Woo and Kim, PST 2016).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ledger.errors import Misuse

Window = NDArray[np.float32]  # samples x signals
WINDOW = 40  # samples, one a second


@dataclass(frozen=True)
class Signal:
    column: str  # of the OCSLab data
    unit: str
    low: float  # of a car that is driven; nothing is refused for lying outside
    high: float
    also: str = ""  # the name that some copies of the data have for it


SIGNALS = (
    Signal("Long_Term_Fuel_Trim_Bank1", "%", -25.0, 25.0),
    Signal("Intake_air_pressure", "kPa", 10.0, 110.0),
    Signal("Accelerator_Pedal_value", "%", 0.0, 100.0),
    Signal("Fuel_consumption", "ul", 0.0, 10_000.0),
    Signal("Torque_of_friction", "%", 0.0, 30.0),
    Signal("Maximum_indicated_engine_torque", "%", 0.0, 100.0),
    Signal("Engine_torque", "%", 0.0, 100.0),
    Signal("Calculated_LOAD_value", "%", 0.0, 100.0),
    Signal("Activation_of_Air_compressor", "0 or 1", 0.0, 1.0),
    Signal("Engine_coolant_temperature", "degrees C", -40.0, 120.0),
    Signal("Transmission_oil_temperature", "degrees C", -40.0, 130.0, also="Engine_coolant_temperature.1"),
    Signal("Wheel_velocity_front_left-hand", "km/h", 0.0, 180.0),
    Signal("Wheel_velocity_front_right-hand", "km/h", 0.0, 180.0),
    Signal("Wheel_velocity_rear_left-hand", "km/h", 0.0, 180.0),
    Signal("Torque_converter_speed", "1/min", 0.0, 6_500.0),
)
SAMPLE_BYTES = 4 * len(SIGNALS)
WINDOW_BYTES = WINDOW * SAMPLE_BYTES


def windows_of(raw: Any, most: int) -> NDArray[np.float32]:
    """Windows x samples x signals, from little-endian float32 bytes of one or several windows, or from lists of
    numbers. Raises Misuse for another shape, for more than `most`, and for what is not finite, saying where it is."""
    if isinstance(raw, bytes):
        if not raw or len(raw) % WINDOW_BYTES:
            raise Misuse(f"{len(raw)} bytes are no windows: each has {WINDOW} x {len(SIGNALS)} float32, {WINDOW_BYTES}")
        windows = np.frombuffer(raw, "<f4").reshape(-1, WINDOW, len(SIGNALS)).astype(np.float32)
    else:
        try:
            windows = np.asarray(raw, np.float32)
        except (TypeError, ValueError, OverflowError):
            raise Misuse(f"a window is {WINDOW} lists of {len(SIGNALS)} numbers each, and nothing else") from None
        windows = windows[np.newaxis] if windows.ndim == 2 else windows
    if windows.ndim != 3 or windows.shape[1:] != (WINDOW, len(SIGNALS)) or not len(windows):
        raise Misuse(f"windows of {list(windows.shape)} numbers do not fit: each is {WINDOW} x {len(SIGNALS)}")
    if len(windows) > most:
        raise Misuse(f"{len(windows)} windows are more than the {most} that are taken at once: send them in parts")
    bad = np.argwhere(~np.isfinite(windows))
    if len(bad):
        window, sample, signal = map(int, bad[0])
        raise Misuse(
            f"window {window}, sample {sample}: {SIGNALS[signal].column} is {windows[window, sample, signal]}, "
            f"which is no number to judge by ({len(bad)} such in all)"
        )
    return windows


def cut(drive: NDArray[np.float32], step: int = WINDOW // 2) -> NDArray[np.float32]:
    """The windows of one drive (samples x signals), each beginning `step` samples after the one before."""
    begins = range(0, len(drive) - WINDOW + 1, step)
    return (
        np.stack([drive[at : at + WINDOW] for at in begins]) if begins else np.empty((0, WINDOW, drive.shape[1]), "f4")
    )
