"""Right maps that nobody here wrote, as black boxes: `python -m validation.black_box --kind foreign`.

`maps_of_LIBRARY` yields (name, dtypes, make) with `make(seed, dtype)` a box; it is imported in the library's own environment alone, by
`asked`.  `asking` runs that process.  An alarm is an alarm of the laws, or of the library: `true_alarms` lists the latter.
"""
