"""Raw parameters of other libraries, loaded by refflow's parametrisations: `python -m validation.raw_parameters`."""
