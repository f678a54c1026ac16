"""Circles and spheres, as the libraries have them."""

from __future__ import annotations

from .row import row

ROWS = (
    row("Periodic wrap", "mod 2B (inverse only)", outside="many events have one image", normflows="PeriodicWrap"),
    row("Circular/periodic shift", "(x+s) mod 2B", "CircularShift([-3.0, 3.0], 0.25)", normflows="PeriodicShift",
        zuko="CircularShiftTransform"),
    row("Unit vector (stereographic)", "[2x, |x|^2-1]/(|x|^2+1)", "Stereographic()", tfp="UnitVector"),
    row("Circular", "wraps an angle", outside="many events have one image", pymc="CircularTransform"),
)
