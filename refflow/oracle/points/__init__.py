"""Points and truths: events and parameters of a page, golden values, what the truth is at a point and how far it may be missed."""
