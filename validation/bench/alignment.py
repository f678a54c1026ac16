"""Monotonic alignment search of 16 items of 200 positions and 1000 frames, float32, compared with a compiled loop.

The compiled loop is the recurrence of `refflow.models.alignment` in plain C, item by item, frame by frame, position by
position, in place, as the authors' compiled loop goes through it; gcc -O3, one thread.  Each repetition includes the copy of
the scores that the loop overwrites, and a new array for the path: int32 in C, as the authors', and booleans in refflow, whose
time includes its checks.  "ragged" has lengths between a half and the whole: C skips the rest of each item, refflow goes through the
positions of the longest text, and at each frame through the items that have not ended.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

from .rounds import timed, timing_rows

BATCH, POSITIONS, FRAMES = 16, 200, 1000
REPETITIONS = 20
COMPILER = "gcc"
LOOP = r"""
void best_paths(float *Q, int *path, const int *texts, const int *frames, long B, long I, long J) {
    for (long b = 0; b < B; b++) {
        float *q = Q + b * I * J;
        long text = texts[b], end = frames[b];
        for (long j = 0; j < end; j++) {
            long low = text + j - end > 0 ? text + j - end : 0, high = text < j + 1 ? text : j + 1;
            for (long i = low; i < high; i++) {
                float stay = i == j ? -1e9f : q[i * J + j - 1];
                float move = i > 0 ? q[(i - 1) * J + j - 1] : j == 0 ? 0.0f : -1e9f;
                q[i * J + j] += stay > move ? stay : move;
            }
        }
        for (long j = end - 1, i = text - 1; j >= 0; j--) {
            path[(b * I + i) * J + j] = 1;
            if (i != 0 && (i == j || q[i * J + j - 1] < q[(i - 1) * J + j - 1]))
                i--;
        }
    }
}
"""


def batches():
    """{case: (scores, text lengths, frame lengths)}."""
    import numpy as np
    rng = np.random.default_rng(0)
    scores = rng.normal(-100, 30, (BATCH, POSITIONS, FRAMES)).astype(np.float32)
    full = np.full(BATCH, POSITIONS), np.full(BATCH, FRAMES)
    ragged = rng.integers(POSITIONS // 2, POSITIONS + 1, BATCH), rng.integers(FRAMES // 2, FRAMES + 1, BATCH)
    return {"full": (scores, *full), "ragged": (scores, *ragged)}


def compiled():
    """best_path(scores, text_lengths, frame_lengths) of the C loop; FileNotFoundError where there is no compiler."""
    import numpy as np
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "loop.c"), Path(folder, "loop.so")
        source.write_text(LOOP, encoding="utf-8")
        subprocess.run([COMPILER, "-O3", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
        loop = ctypes.CDLL(str(library)).best_paths
    pointers = [np.ctypeslib.ndpointer(dtype, flags="C") for dtype in (np.float32, *(np.int32,) * 3)]
    loop.argtypes, loop.restype = [*pointers, *(ctypes.c_long,) * 3], None

    def best_path(scores, texts, frames):
        path = np.zeros(scores.shape, np.int32)
        loop(scores.copy(), path, texts.astype(np.int32), frames.astype(np.int32), *scores.shape)
        return path

    return best_path


def measured_with(best_path):
    return {case: timed(lambda given=given: best_path(*given), REPETITIONS) for case, given in batches().items()}


def refflow_worker(threads):
    from refflow.models.alignment import best_path
    return measured_with(best_path)


def compiled_worker(threads):
    return measured_with(compiled())


WORKERS = {"refflow": refflow_worker}
WHAT = f"monotonic alignment search, {BATCH} x {POSITIONS} x {FRAMES}, float32"
if shutil.which(COMPILER):
    WORKERS["compiled"] = compiled_worker
else:
    WHAT += f"; the compiled loop is left out, because {COMPILER} is not installed"
rows = timing_rows
