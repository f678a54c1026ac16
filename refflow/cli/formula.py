r"""A density given by a formula: one of `refflow.energies`, or a Python file with

    D                   the number of entries of x
    log_density(x)      the logarithm of a density up to a constant, (n,) for x of shape (n, D)
    gradient(x)         its gradient, (n, D)
    log_integral        optionally, the logarithm of the integral of the density

A flow q is trained by reverse Kullback-Leibler divergence.  Its samples x measure it without the constant,
    L = E[log q(x) - log p~(x)] = KL(q, p) - log Z,   Z = int p~                    (1)
and where `log_integral` is known, L + log Z is the divergence, the gap of the bound -L <= log Z.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.arrays import in_parts
from ..energies import ENERGIES
from ..fast import tuned
from ..oracle import CannotRun
from ..oracle.asking.adapter import first_line, imported
from ..oracle.asking.exits import at_line
from ..oracle.asking.global_state import put_back
from ..report import aligned
from ..training import Annealing, ClipNorm, TrainingError, fit_reverse_kl
from .dataset import Start, likeliest, refuse_foreign
from .rows import CIRCULAR, MODELS_OF_IMAGES, OF_IMAGES, OF_SPEECH, TRAINERS, Rows, model_of, settings_of

LONGEST = 10.0                          # the norm to which longer gradients are shortened: one sample may be far outside the density
MEASURED = 4096                         # the divergence of a flow is the mean over so many of its samples
OF_DATA = ("context", "dequantise", "header", "test", "held_out")


@dataclass(frozen=True)
class Formula:
    """The density; `given` has D, log_density and gradient; `digest` of its file, "" for an energy of refflow."""

    name: str
    given: object
    digest: str = ""

    word = "sample"
    batch_size = 256
    measured = None
    loss_units = {}  # type: dict

    @classmethod
    def to_fit(cls, options, rng):
        """(the density, None), since a density has no values."""
        refuse_foreign(options, OF_SPEECH, ("glow_tts",), "speech, and --energy is a density")
        refuse_foreign(options, OF_IMAGES, MODELS_OF_IMAGES, "images, and --energy is a density")
        refuse_foreign(options, OF_DATA, (CIRCULAR,), "rows, and --energy is a density")
        if options.model in TRAINERS:
            raise CannotRun(f"--model {options.model}: it matches velocities of paths that end in data, and --energy gives no data; the same "
                            "flow is fitted to a density as --model cnf")
        name = options.energy
        if name.lower() in ENERGIES:
            return cls(name.lower(), ENERGIES[name.lower()]), None
        if not name.endswith(".py"):
            raise CannotRun(f"there is no energy {name!r}; {likeliest(name, ENERGIES)}; write a density of your own into a Python file, "
                            "name.py, with D, log_density(x) and gradient(x)")
        with put_back(directory=True):
            module, _ = imported(Path(name))
        checked_file(name, module)
        return cls(name, module, hashlib.sha256(Path(name).read_bytes()).hexdigest()), None

    def note(self):
        return Rows(self.given.D).note() | {"energy": self.name, "digest": self.digest}

    def summary(self, counts):
        return f"a density of {self.given.D} number{'s' * (self.given.D > 1)}, up to a constant"

    def arrays(self, values):
        return []

    # -- training -----------------------------------------------------------------------------------------------------

    def start(self, options, parts, rng):
        flow, sizes = model_of(options, math.inf, Rows(self.given.D), rng)
        annealing = Annealing(options.anneal) if options.anneal else None
        settings = settings_of(options) | {"annealing": annealing, "clip": ClipNorm(LONGEST)}
        return Start(flow, (), settings, {"sizes": sizes, "anneal": options.anneal})

    def trained(self, start, parts, rng, settings):
        own = {key: value for key, value in settings.items() if key not in ("batch_size", "patience")}
        try:
            return fit_reverse_kl(start.flow, self.asked("log_density"), self.asked("gradient"), rng=rng,
                                  progress="{:.4f}".format, samples=settings["batch_size"], **own)
        except TrainingError as error:
            if error.result.step or len(error.result.history["step"]):
                raise
            raise CannotRun(f"{self.name}: {error}; training begins at samples of {self.beginning()}, where log_density and "
                            "gradient must be finite: shift or scale x") from None
        except ValueError as error:
            raise CannotRun(f"{self.name}: {error}") from None

    def beginning(self):
        return f"a standard normal density of {self.given.D} entries"

    def asked(self, name):
        """The user's function; CannotRun with the line of the file for an exception."""
        def call(x):
            try:
                return getattr(self.given, name)(x)
            except Exception as error:
                raise CannotRun(f"{self.name}: {name} raises {first_line(error)}{at_line(error, self.name)}") from error

        return call if self.digest else getattr(self.given, name)

    # -- the comparison -----------------------------------------------------------------------------------------------

    def compared(self, before, after, parts, rng):
        """{"before", "after": (1), and the gap where it is known, each in nats with the standard error}."""
        log_integral = getattr(self.given, "log_integral", None)
        return {key: self.loss(flow, rng, log_integral) for key, flow in (("before", before), ("after", after))}

    def loss(self, flow, rng, log_integral):
        flow = tuned(flow)
        (x, log_q), _ = flow.sample_and_log_prob_vjp(rng, MEASURED)
        with np.errstate(all="ignore"):
            each = log_q.astype(np.float64) - in_parts(self.asked("log_density"), x)        # (1)
            found = {"nats": float(each.mean()), "error": float(each.std(ddof=1)) / math.sqrt(MEASURED)}
        return found if log_integral is None else found | {"gap": found["nats"] + float(log_integral)}

    def table(self, report):
        before, after = report["before"], report["after"]
        rows = [("nats", "before", "after"), ("E[log q - log p]", *(with_error(found["nats"], found) for found in (before, after)))]
        if "gap" in after:
            rows.append(("gap, KL(q, p)", *(with_error(found["gap"], found) for found in (before, after))))
        return aligned(rows)


def with_error(value, found):
    return f"{value:.4f} +- {found['error']:.4f}"


def checked_file(name, module):
    """CannotRun unless a file declares a density."""
    D = getattr(module, "D", None)
    if isinstance(D, bool) or not isinstance(D, int) or D < 1:
        raise CannotRun(f"{name}: D must be the number of entries of x, an int >= 1, not {D!r}")
    for function in ("log_density", "gradient"):
        if not callable(getattr(module, function, None)):
            raise CannotRun(f"{name}: it declares no function {function}(x)")
    log_integral = getattr(module, "log_integral", None)
    if log_integral is not None and not (isinstance(log_integral, (int, float)) and math.isfinite(log_integral)):
        raise CannotRun(f"{name}: log_integral must be a finite number, not {log_integral!r}")
