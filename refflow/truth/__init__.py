"""The truth: what a page's one believed equation gives, to 50 digits."""
