"""What the laws, the oracle and the certificate share: the unit of error, differences, points, quantities."""
