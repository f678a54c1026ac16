"""Raw parameters of other libraries, loaded by refflow's parametrisations and compared: `python -m validation.raw_parameters`."""
