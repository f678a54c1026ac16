"""Other libraries' maps, checked where they are installed: `python -m validation.peers`."""
