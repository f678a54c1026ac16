"""Judgements: what a report says, the errors it shows, what was asked, and the errors that were known before."""
