"""Generated CAN data, for those who have none: made up here, measured on no road.

Each driver has a style (how fast, how hard on the pedal, how smooth, warm or cold starts), drawn from the seed and the
driver's name; each drive differs. What is learnt from it says that the program works, and nothing of people.
"""

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agents.driver_profiling.can import SIGNALS
from agents.driver_profiling.ocslab import Drive

DRIVERS = tuple("ABCDEFGHIJ")  # as many as OCSLab has
SECONDS = 600  # of a drive


def drives(seed: int, drivers: Sequence[str] = DRIVERS, each: int = 3, seconds: int = SECONDS) -> list[Drive]:
    """`each` drives of every driver. The same seed gives the same, and a driver has the same style in any company."""
    made = []
    for driver in drivers:
        style = np.random.default_rng([seed, zlib.crc32(driver.encode())])
        habits = style.uniform(0.0, 1.0, 6)
        made += [
            Drive(driver, _drive(np.random.default_rng(style.integers(1 << 32)), habits, seconds)) for _ in range(each)
        ]
    return made


def _drive(random: np.random.Generator, habits: NDArray[np.float64], seconds: int) -> NDArray[np.float32]:
    """One sample a second. `habits`, each from 0 to 1: pace, heaviness of the foot, restlessness, use of the air
    conditioning, how warm the car is at the start, how early the gears change."""
    pace, foot, restless, air, warm, gears = habits
    wish = 30 + 60 * pace + _wander(random, seconds, 0.02 + 0.08 * restless) * (10 + 20 * restless)
    speed, pedal = np.zeros(seconds), np.zeros(seconds)
    now = 0.0
    for second in range(seconds):
        pedal[second] = np.clip((wish[second] - now) * (1.0 + 3.0 * foot) + random.normal(0, 1 + 4 * restless), 0, 100)
        now = max(0.0, now + 0.12 * pedal[second] * (0.6 + 0.8 * foot) - 0.04 * now - 0.3)
        speed[second] = now
    gear = np.clip((speed / (14 + 10 * gears)).astype(int) + 1, 1, 6)
    turns = 800 + speed * 150 / gear + pedal * (6 + 8 * foot)
    load = np.clip(15 + 0.75 * pedal + 0.01 * turns + random.normal(0, 2, seconds), 0, 100)
    friction = 4 + turns / 700 + random.normal(0, 0.2, seconds)
    torque = np.clip(load * 0.85 - friction + 6, 0, 100)
    minutes = np.arange(seconds) / 60
    coolant = 90 - (70 - 60 * warm) * np.exp(-minutes / 3) + random.normal(0, 0.3, seconds)
    oil = 95 - (80 - 60 * warm) * np.exp(-minutes / (5 + 3 * foot)) + random.normal(0, 0.3, seconds)
    compressor = (_wander(random, seconds, 0.05) + 2 * air - 1 > 0).astype(float)
    columns = (
        (foot - 0.5) * 8 + _wander(random, seconds, 0.01) * 2,
        25 + 0.75 * load + random.normal(0, 1.5, seconds),
        pedal,
        200 + 12 * load * turns / 1000 * (4 + compressor),
        friction,
        np.clip(torque + 8 + 4 * restless, 0, 100),
        torque,
        load,
        compressor,
        coolant,
        oil,
        *(np.maximum(0, speed * (1 + turn) + random.normal(0, 0.2, seconds)) for turn in (0.004, -0.004, 0.0)),
        np.maximum(0, turns - 30 - 60 * (1 - gears) + random.normal(0, 15, seconds)),
    )
    low, high = np.array([(signal.low, signal.high) for signal in SIGNALS]).T
    return np.clip(np.stack(columns, axis=1), low, high).astype(np.float32)


def _wander(random: np.random.Generator, count: int, speed: float) -> NDArray[np.float64]:
    """A slow walk around zero, about -1 to 1."""
    walk, now = np.zeros(count), random.normal(0, 0.5)
    for at, push in enumerate(random.normal(0, 1, count)):
        now += speed * (-now) + np.sqrt(speed) * push * 0.8
        walk[at] = now
    return walk
