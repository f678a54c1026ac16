"""An environment for each library and version: the environment of its backend, and a folder with the library itself.

A backend's environment is made once, by `raw_parameters.environments`.  A library and what else it needs are installed into
a folder of their own without the backend, which stands before the environment's packages on the path.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
import threading
from pathlib import Path

from validation.raw_parameters.environments import CACHE, NotInstalled, python_of

ROOT = Path(__file__).parents[2]
EQUINOX = ("jaxtyping", "wadler-lindig", "paramax", "tqdm", "optax", "absl-py", "typing_extensions", "toolz")
FLAX = ("flax", "msgpack", "optax", "treescope", "rich", "pyyaml", "absl-py", "typing_extensions", "pygments", "markdown-it-py",
        "mdurl", "jax-autovmap", "chex", "toolz", "einops", "diffrax", "equinox", "lineax", "optimistix", "jaxtyping", "wadler-lindig")
# library: (the environment of its backend, the distribution, what else it needs)
LIBRARIES = {
    "torch": ("torch", None, ()),
    "scipy": ("torch", None, ()),
    "pyro": ("pyro", "pyro-ppl", ("graphviz", "six")),
    "nflows": ("torch", "nflows", ()),
    "normflows": ("torch", "normflows", ()),
    "zuko": ("torch", "zuko", ()),
    "freia": ("freia", None, ()),
    "torchflows": ("torch", "torchflows", ()),
    "flowtorch": ("torch", "flowtorch", ()),
    "power_spherical": ("torch", "power_spherical", ()),
    "zunis": ("torch", "zunis", ("pandas", "python-dateutil", "six", "tqdm", "better-abc", "ignite")),
    "flowjax": ("numpyro", "flowjax", (*EQUINOX, "lineax", "equinox==0.13.0", "jax==0.7.0", "jaxlib==0.7.0")),
    "bijx": ("numpyro", "bijx", (*FLAX, "diffrax", "equinox", "lineax", "optimistix", "jaxtyping", "wadler-lindig")),
    "distrax": ("tfp", "distrax", ("chex", "toolz", "typing_extensions")),
    "distreqx": ("tfp", "distreqx", (*EQUINOX, "equinox", "ihoop")),
    "nux": ("tfp", "nux", ()),
    "numpyro": ("numpyro", "numpyro", ()),
    "tfp": ("tfp", None, ()),
    "pymc": ("pymc", None, ()),
    "pzflow": ("pzflow", None, ()),
} | {port: ("torch", None, ()) for port in ("pytorch-normalizing-flows", "pytorch-flows", "normalizing-flows", "NuX", "GPflow",
                                            "bayesflow")}


def folder_of(library, version, cache=CACHE):
    """The folder of a library beside its backend; None where the environment holds it."""
    backend, distribution, others = LIBRARIES[library]
    if distribution is None:
        return None
    wanted = (f"{distribution}=={version}", *others)
    return Path(cache) / "defects" / f"{library}-{version}-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:8]}"


def made(library, version, cache=CACHE):
    """(interpreter, folder or None), installed if they are not.  Raises NotInstalled."""
    backend, distribution, others = LIBRARIES[library]
    python, folder = python_of(backend, cache, with_refflow=True), folder_of(library, version, cache)
    if folder is not None and not (folder / "complete").exists():
        wanted = (f"{distribution}=={version}", *others)
        done = subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(folder),
                               *wanted], capture_output=True, text=True)
        if done.returncode:
            reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
            raise NotInstalled((reasons or ["pip gives no reason"])[-1])
        (folder / "complete").touch()
    return python, folder


def settings(folder):
    """The variables of a process in it."""
    path = [str(ROOT), *([str(folder)] if folder else [])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
                         "JAX_PLATFORMS": "cpu"}


class Process:
    """A module run in (interpreter, folder) and given JSON: it answers in lines of JSON; `reason` says why it ended, if not by itself."""

    def __init__(self, where, module, *arguments, given):
        python, folder = where
        self.errors, self.reason = tempfile.TemporaryFile("w+"), ""
        self.process = subprocess.Popen([str(python), "-W", "ignore", "-m", module, *arguments], env=settings(folder), text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)
        self.process.stdin.write(json.dumps(given))
        self.process.stdin.close()

    def __enter__(self):
        return self

    def __exit__(self, *of_exception):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def line(self, limit):
        """The next answer; None at the end, or after so many seconds."""
        timer = threading.Timer(limit, self.end, [limit])
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if line:
            return json.loads(line)
        if self.process.wait() and not self.reason:
            self.errors.seek(0)
            self.reason = (self.errors.read().strip().splitlines() or [f"status {self.process.returncode}"])[-1]
        return None

    def end(self, limit):
        self.reason = f"no answer within {limit:g} seconds"
        self.process.kill()
