"""From a library's raw parameters to flows of refflow, a module for each library."""
