"""What a failure is called: mistakes that explain it, the smallest example, the equation that is broken."""
