"""What the adapter files share: the version for which a file is written, and adapters of functions of a framework."""

from importlib.metadata import version


def pinned(distribution, written_for):
    """The version to report: the installed one, and the one for which the file is written if that is another."""
    installed = version(distribution)
    return installed if installed == written_for else f"{installed} (the adapters are written for {written_for})"


def by_rows(call, event, event_ndim=1):
    """call(event) for a library that wants one batch axis in front and sums a log-det over all other axes.

    A scalar event becomes a row with one entry.  `call` returns (image, log_det).
    """
    split = event.ndim - event_ndim
    batch, core = tuple(event.shape[:split]), tuple(event.shape[split:])
    image, log_det = call(event.reshape((-1, *(core or (1,)))))
    if not hasattr(log_det, "shape") or tuple(log_det.shape) not in ((), (image.shape[0],)):
        return image.reshape(batch + tuple(image.shape[1:] if core else ())), log_det       # a wrong shape is a finding
    log_det = log_det.reshape(batch) if log_det.shape else log_det
    return image.reshape(batch + (tuple(image.shape[1:]) if core else ())), log_det
