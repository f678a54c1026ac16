"""The laws that every bijector obeys, and the points on which they run.

`laws.run_laws(f, points)` runs them; `strategies` draws bijectors and points with Hypothesis, from a page's declarations;
`kappa` is the unit of error at run time; `pages.lacks(page)` names what a page lacks.
"""
