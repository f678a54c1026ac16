"""What refflow claims, checked against truth: the 50-digit engine and everything derived from it."""
