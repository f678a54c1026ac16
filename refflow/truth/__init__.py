"""The truth: what a page's one believed equation gives, to 50 digits.  It needs python-flint, of the extra `validation`."""

try:
    import flint as _
except ImportError as error:
    raise ImportError('refflow.truth needs python-flint: pip install "refflow[validation]"') from error
