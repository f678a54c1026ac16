"""Right maps that nobody here wrote, as black boxes: `python -m validation.black_box --kind foreign`.

`maps_of_LIBRARY` yields (name, dtypes, make) with `make(seed, dtype)` a box; it is imported in the library's own environment alone, by
`asked`.  `asking` runs that process; `witness` adds the library's numbers at the place of a failure.

An alarm is an alarm of the laws, or of the library.  `judged` decides it by the truth, which follows from the equations of `truths`;
`losses` says why numbers are lost, and `true_alarms` lists what no number shows, and maps without an equation.
"""
