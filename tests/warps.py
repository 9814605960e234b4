"""What a moving camera sees of a still picture: known pan, tilt, zoom and roll, grain, and a thing in front."""

import math

import cv2
import numpy as np

HEIGHT, WIDTH, FPS = 240, 426, 8
AXES = {
    "pan right": (1, 0, 0, 0), "pan left": (-1, 0, 0, 0), "tilt down": (0, 1, 0, 0), "tilt up": (0, -1, 0, 0),
    "zoom in": (0, 0, 2, 0), "zoom out": (0, 0, -2, 0), "roll clockwise": (0, 0, 0, 2),
    "roll counter-clockwise": (0, 0, 0, -2),
}  # fmt: skip


def seen(still: np.ndarray, rates: tuple[float, ...], *, frames: int = 12, thing: bool = False) -> list[np.ndarray]:
    """Grey frames of a camera that moves over a picture: pan and tilt in heights, zoom and roll per second."""
    rng = np.random.default_rng(0)
    pan, tilt, zoom, roll = rates
    grey = cv2.cvtColor(still, cv2.COLOR_RGB2GRAY)
    front = np.clip(cv2.resize(rng.normal(128, 60, (20, 16)).astype(np.float32), (90, 110)), 0, 255)
    found = []
    for number in range(frames):
        time = (number - (frames - 1) / 2) / FPS
        scale = math.exp(-zoom * time)
        turn = scale * np.array([[math.cos(roll * time), -math.sin(roll * time)],
                                 [math.sin(roll * time), math.cos(roll * time)]])  # fmt: skip
        place = np.array([grey.shape[1] / 2 + pan * time * HEIGHT, grey.shape[0] / 2 + tilt * time * HEIGHT])
        matrix = np.column_stack([turn, place - turn @ [(WIDTH - 1) / 2, (HEIGHT - 1) / 2]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        frame = cv2.warpAffine(grey, matrix, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REFLECT)
        if thing:
            left = int((0.1 + 0.8 * number / frames) * (WIDTH - 90))
            frame[60:170, left : left + 90] = front
        found.append(np.clip(frame + rng.normal(0, 2, frame.shape), 0, 255).astype(np.uint8))
    return found
