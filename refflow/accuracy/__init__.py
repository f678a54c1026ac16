"""Shared by the laws, the oracle and the certificate: the unit of error, differences, points, quantities."""
