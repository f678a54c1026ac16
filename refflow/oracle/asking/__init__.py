"""How somebody else's code is called: adapters, arrays of other frameworks, time limits, exits, and whose fault an exception is."""
