"""`refflow check --onnx`: an exported model, run by ONNX Runtime, as somebody else's code.

    check_onnx("flow.onnx", page="Affine")
    check_onnx("flow.onnx", page=coupling)                 a bijector, whose parameters the model has inside

The model's inputs are called z, x if it has the inverse as a function, and the fields of the page by their names; its outputs
are called forward, log_det, jacobian, inverse, inverse_log_det.  Without an input x, an inverse belongs to the image that
forward returns.  The first axis of z and x is the batch, of any length; or there is none, and the model is run for one event
after another.
`Model("flow.onnx")` has forward and inverse as a `refflow.testing.BlackBox` takes them, for a model without a page.

The page's name may also stand in the model's metadata, as "refflow.page".  ONNX Runtime is in the extra `onnx`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np

from ...accuracy.drawing import plainest
from ...core import Bijector
from ...core.declarations import Child, Field, Plain
from ..asking.adapter import Adapter, AdapterSet
from ..check import check
from ..judging.verdict import Report
from ..points.pages import CannotRun, page_named
from ..points.schema import first_line

DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}
OUTPUTS = {"z": ("forward", "log_det", "jacobian"), "x": ("inverse", "inverse_log_det")}
PAGE = "refflow.page"


def check_onnx(path, *, page=None, **options) -> Report:
    """Check the model in a file against a page by name, or against a bijector; `options` are the other arguments of `check`.

    Raises CannotRun if ONNX Runtime is not installed or cannot run the model, or if the names or shapes of its inputs and
    outputs are not the page's.
    """
    model = Model(path)
    page = page or model.metadata.get(PAGE)
    if page is None:
        raise CannotRun(f"{path}: give --page NAME, the page that it computes; for the laws that need no page, see "
                        "refflow.oracle.inputs.onnx_model.Model")
    return check(model.adapters(page), **options)


class Model:
    """A model that ONNX Runtime has loaded."""

    def __init__(self, path):
        self.path, self.name = path, Path(path).stem
        try:
            self.runtime = import_module("onnxruntime")
        except ImportError as error:
            missing = error.name or "onnxruntime"
            raise CannotRun(f"{missing} is not installed; install it with `pip install refflow[onnx]`") from None
        if not Path(path).is_file():
            raise CannotRun(f"there is no file {path}")
        self.session = self.loaded()
        self.inputs = {one.name: one for one in self.session.get_inputs()}
        self.outputs = [one.name for one in self.session.get_outputs()]
        self.metadata = dict(self.session.get_modelmeta().custom_metadata_map)
        self.letters = [letter for letter in OUTPUTS if letter in self.inputs]
        self.refuse_names()
        self.dtype = DTYPES[self.inputs[self.letters[0]].type]

    def loaded(self):
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            return self.runtime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:                      # ONNX Runtime's exceptions have no common base
            raise CannotRun(f"{self.path}: ONNX Runtime cannot load it: {first_line(str(error))}") from None

    def refuse_names(self):
        known = [name for names in OUTPUTS.values() for name in names]
        unknown = [name for name in self.outputs if name not in known]
        if not self.letters:
            raise CannotRun(f"{self.path} has no input z or x; its inputs are {', '.join(self.inputs)}")
        if unknown:
            raise CannotRun(f"{self.path} has an unknown output {unknown[0]!r}; outputs are called {', '.join(known)}")
        for letter in self.letters:
            if self.inputs[letter].type not in DTYPES:
                raise CannotRun(f"{self.path}: {letter} is a {self.inputs[letter].type}; the pages are float32 and float64")

    # -- as an adapter -----------------------------------------------------------------------------------------------

    def adapters(self, page) -> AdapterSet:
        """The model as the adapter of a page, by name, or of a bijector."""
        f = page if isinstance(page, Bijector) else plainest(page_named(page), np.dtype(self.dtype), 2)
        self.refuse_fields(page, f.declared)
        ranks = dict(zip(OUTPUTS, f.event_ndim))
        self.refuse_ranks(ranks)
        one = Adapter(lambda params, z: self.answers(params, z, f, ranks), page, (self.dtype,), theirs=self.name,
                      fits=lambda point: self.fits(point, ranks, f if page is f else None),
                      event=self.shape_for(f, ranks) if page is f else None)
        return AdapterSet(self.name, f"with onnxruntime {self.runtime.__version__}", (one,))

    def refuse_fields(self, page, declared):
        fields = {key: field for key, field in declared.items() if not isinstance(field, Child)}
        unknown = [name for name in self.inputs if name not in OUTPUTS and name not in fields]
        if unknown:
            raise CannotRun(f"{self.path} has an input {unknown[0]!r}, which is not a field of the page; these are "
                            f"{list(fields)}")
        missing = [key for key, field in fields.items()
                   if isinstance(field, Field) and not field.optional and key not in self.inputs]
        if missing and not isinstance(page, Bijector):
            raise CannotRun(f"{self.path} has no input {missing[0]!r}, a field of {page}; a model with parameters of its own "
                            "is checked in Python, as check_onnx(path, page=bijector)")

    def refuse_ranks(self, ranks):
        for letter in self.letters:
            shape, rank = self.inputs[letter].shape, ranks[letter]
            if len(shape) not in (rank, rank + 1):
                raise CannotRun(f"{self.path}: {letter} has the shape {shape}; it must have {rank} axes, or {rank + 1} with "
                                "one for the batch")
            if len(shape) > rank and isinstance(shape[0], int):
                raise CannotRun(f"{self.path}: {letter} has the shape {shape}: its batch must be of any length (a dynamic "
                                "axis)")

    def shape_for(self, f, ranks):
        """The one shape of z that the model takes; None if the length of an axis is free, or if z has no axes."""
        letter = self.letters[0]
        shape = tuple(self.inputs[letter].shape[len(self.inputs[letter].shape) - ranks[letter]:])
        if not shape or not all(isinstance(n, int) for n in shape):
            return None
        return shape if letter == "z" else tuple(f.input_shape(shape))

    def fits(self, point, ranks, bijector=None):
        """Do the shapes that the model fixes hold the point, and are the fields that it has no input for the usual ones?

        Of a bijector with its own parameters, the usual ones are its own.
        """
        f, letter = point.f, "z" if point.side == "forward" else "x"
        given = {key: getattr(f, key) for key in f.declared if key in self.inputs}
        unusual = [key for key, field in f.declared.items() if isinstance(field, Plain) and key not in self.inputs
                   and (field.default if bijector is None else getattr(bijector, key)) != getattr(f, key)]
        absent = any(value is None for value in given.values())
        if letter in self.inputs:
            given[letter] = point.event.reshape(-1, *point.event.shape[point.event.ndim - ranks[letter]:])[0]
        usual = not absent and not unusual and f.event_ndim == tuple(ranks.values())
        return usual and all(self.holds(key, np.shape(value)) for key, value in given.items())

    def holds(self, name, shape):
        """Can an input have this shape, apart from the batch?"""
        own = self.inputs[name].shape
        own = own[len(own) - len(shape):] if name in OUTPUTS else own
        return len(own) == len(shape) and all(n == m for n, m in zip(own, shape) if isinstance(n, int))

    def answers(self, params, z, f, ranks):
        """The values of the outputs at z, and, if the model has an input x, functions for its outputs at x."""
        given = {key: np.asarray(value) for key, value in params.items() if key in self.inputs}
        of_z = [name for name in self.outputs if name in OUTPUTS["z"] or "x" not in self.inputs]
        unread = np.zeros(image_shape_of(f, z, ranks["z"]))             # ONNX Runtime wants every input, read or not
        found = self.run(of_z, {"z": z, "x": unread}, ranks, given) if of_z else {}
        of_x = [name for name in self.outputs if name not in of_z]
        return found | {name: lambda x, name=name: self.run([name], {"x": x, "z": z}, ranks, given)[name] for name in of_x}

    # -- as a black box ----------------------------------------------------------------------------------------------

    @property
    def event(self):
        """The shape of one event of z, whose first axis is the batch."""
        shape = self.inputs["z"].shape[1:]
        if not all(isinstance(n, int) for n in shape):
            raise CannotRun(f"{self.path}: z has the shape {self.inputs['z'].shape}; only the batch may be of any length")
        return tuple(shape)

    def forward(self, z):
        """The image, or (image, log_det), of events (N, *event)."""
        return self.both(z, "z", ("forward", "log_det"))

    @property
    def inverse(self):
        """The same of the inverse, as a function of x; None if the model has none."""
        return (lambda x: self.both(x, "x", OUTPUTS["x"])) if "x" in self.inputs and "inverse" in self.outputs else None

    def both(self, event, letter, names):
        names = [name for name in names if name in self.outputs]
        found = self.run(names, dict.fromkeys(OUTPUTS, event), dict.fromkeys(OUTPUTS, len(self.event)))
        return tuple(found[name] for name in names) if len(names) == 2 else found[names[0]]

    # -- running it --------------------------------------------------------------------------------------------------

    def run(self, names, events, ranks, given=None):
        """{output: array} at batches of events; a model without an axis for the batch runs once for each event."""
        events = {letter: np.asarray(events[letter], self.dtype) for letter in self.letters}
        flat = {letter: event.reshape(-1, *event.shape[event.ndim - ranks[letter]:]) for letter, event in events.items()}
        event, rank = next((events[letter], ranks[letter]) for letter in self.letters)
        if all(len(self.inputs[letter].shape) > ranks[letter] for letter in flat):
            found = self.session.run(names, flat | (given or {}))
        else:
            singles = [dict(zip(flat, map(np.asarray, one))) for one in zip(*flat.values())]
            each = [self.session.run(names, one | (given or {})) for one in singles]
            found = [np.stack(parts) for parts in zip(*each)]
        batch = event.shape[:event.ndim - rank]
        count = int(np.prod(batch))             # an output that lacks this axis keeps its shape, which is then a finding
        return {name: value.reshape(batch + value.shape[1:]) if value.shape[:1] == (count,) else value
                for name, value in zip(names, found)}


def image_shape_of(f, z, rank):
    """The shape of the images of z; the shape of z where f, whose fields have another size, has no events of this one."""
    split = z.ndim - rank
    try:
        return (*z.shape[:split], *f.output_shape(z.shape[split:]))
    except ValueError:
        return z.shape
