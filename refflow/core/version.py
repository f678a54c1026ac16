"""The version of refflow."""

VERSION = "0.1.0"
