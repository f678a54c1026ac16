"""Points at which pages are measured: which are drawn, hard cases, climbs to the worst, and the files that record them."""
