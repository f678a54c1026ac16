"""Adapters of other libraries, one file each: `refflow check NAME`."""
