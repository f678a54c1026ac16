"""An environment for each library, made once: their requirements contradict each other."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

CACHE = Path.home() / ".cache" / "refflow" / "libraries"
REQUIREMENTS = {
    "nflows": ("torch", "nflows==0.14"),
    "zuko": ("torch", "zuko==1.6.0"),
    "normflows": ("torch", "normflows==1.7.3"),
    "pyro": ("torch", "pyro-ppl==1.9.2"),
    "flowjax_17": ("flowjax==17.2.1", "jax==0.7.0", "jaxlib==0.7.0", "equinox==0.13.0"),     # it fails with a newer JAX
    "flowjax_19": ("flowjax==19.1.2",),
    "distrax": ("distrax==0.1.9",),
    "numpyro": ("numpyro==0.22.0",),
    "tfp": ("tfp-nightly[jax]",),
}
CHECKED = REQUIREMENTS | {              # without exporters: only `validation.peers` needs them
    "torch": ("torch==2.13.0",),
    "bijx": ("bijx==1.3.2",),
    "freia": ("torch", "FrEIA==0.2"),
    "torchflows": ("torch", "torchflows==1.2.1"),
    "flowtorch": ("torch", "flowtorch==0.8"),
    "bayesflow": ("torch", "bayesflow==2.0.12"),
    "pymc": ("pymc==5.28.5",),            # the last for Python 3.11
    "pzflow": ("pzflow==4.0.0",),
    "transformers": ("torch", "transformers==5.24.0"),
    "piper": ("torch", "piper-tts==1.8.0"),
    "torchdiffeq": ("torch", "torchdiffeq==0.2.5"),
    "distreqx": ("distreqx==0.0.3",),
    "surjectors": ("surjectors==0.3.3",),   # the last for Python 3.11
}
OURS = ("numpy>=2.3.5", "scipy>=1.16")
EXPORTERS = Path(__file__).parent / "exporters"


class NotInstalled(RuntimeError):
    """pip refuses a library's requirements, for the given reason."""


def python_of(library, cache=CACHE, with_refflow=False) -> Path:
    """The interpreter of a library's environment, which is made if it does not exist or is for other requirements.

    `with_refflow`: what refflow itself needs is installed too, in the versions of setup.cfg.  Raises NotInstalled.
    """
    wanted = " ".join(("numpy", *CHECKED[library]))
    home = Path(cache) / f"{library}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"
    interpreter = home / "bin" / "python"
    for done, packages in {"complete": wanted.split(), **({"with_refflow": OURS} if with_refflow else {})}.items():
        if (home / done).exists():
            continue
        print(f"{library}: making {home} with {' '.join(packages)}", file=sys.stderr)
        if done == "complete":
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        installed(interpreter, packages)
        (home / done).touch()
    return interpreter


def installed(interpreter, packages):
    """Raises NotInstalled with pip's last line of reasons."""
    done = subprocess.run([str(interpreter), "-m", "pip", "install", "--quiet", *packages], capture_output=True, text=True)
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        raise NotInstalled((reasons or done.stderr.splitlines() or ["pip gives no reason"])[-1])


def exported(library, path, cache=CACHE) -> Path:
    """The file of raw parameters and answers that a library's exporter writes."""
    apart = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    script = EXPORTERS / f"export_{library.split('_')[0]}.py"
    subprocess.run([str(python_of(library, cache)), "-W", "ignore", str(script), str(path)], check=True,
                   env=apart | {"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"})
    return Path(path)
