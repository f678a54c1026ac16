"""Mutants of pages: small mistakes planted one at a time, each of which golden points, certificate and laws must find."""
