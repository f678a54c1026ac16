"""The laws that every bijector obeys, and what they run on.

`laws.run_laws(f, points)` runs them; `strategies` draws bijectors and points with Hypothesis, from what a page declares;
`kappa` is the unit of error at run time; `pages.lacks(page)` names what a page lacks.
"""
