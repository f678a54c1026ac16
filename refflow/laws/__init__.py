"""The laws that every bijector obeys, and the points on which they run.

`bijector_laws.run_laws(f, points)` runs them; `conditioner_laws`, `density_laws` and `parametrisation_laws` have laws of networks,
of densities and of parametrisations, and a function that runs them, and `scale_laws` the law of scales; `strategies` draws bijectors
and points with Hypothesis, from a page's declarations; `rejections` bounds how many points a law may reject; `pages.lacks(page)`
names what a page lacks.
"""
