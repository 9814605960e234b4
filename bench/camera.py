"""How often the camera's first movement is named right, on still pictures under known movements.

python bench/camera.py VIDEO...      their frames at one second, beside three textures
"""

import sys
import time
from pathlib import Path

from goku_cli.media.frames import read_frames
from goku_cli.media.motion.camera import measure_camera

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from films import texture
from warps import AXES, FPS, seen

SPEEDS = (0.02, 0.05, 0.1, 0.3, 0.6, 1.0)
"""Frame heights per second; twice that in e-folds and radians."""


def main() -> None:
    """Print right and all by speed, without and with a thing in front."""
    stills = [texture(seed, 480, 640) for seed in range(3)]
    stills += [next(read_frames(Path(path), start_us=1_000_000, short_side=480))[1] for path in sys.argv[1:]]
    started, pairs = time.process_time(), 0
    for speed in (0.0, *SPEEDS):
        for thing in (False, True):
            right = []
            for still in stills:
                for name, axis in AXES.items() if speed else [("static", (0, 0, 0, 0))]:
                    camera = measure_camera(
                        seen(still, tuple(speed * part for part in axis), frames=9, thing=thing), FPS
                    )
                    right.append(camera is not None and camera.movements[:1] == (name,))
                    pairs += 8
            print(f"{speed:4} {'thing' if thing else '     '} {sum(right)} of {len(right)}")
    print(f"{(time.process_time() - started) / pairs * 1000:.1f} ms per pair of frames, rendering included")


if __name__ == "__main__":
    main()
