"""Tuned twins of pages: the same map and the same reverse rule, faster.

`table` says which page has which twin; no page knows of its own.  Nobody needs to read these modules to understand a flow: a
law holds each twin equal to its page.
"""
