"""Numbers of other people's ports, computed by the ports themselves: each runs in an environment of its own."""
