"""What `help` says of methods that pages define without a docstring: shapes and errors, for each kind of page.

The other methods have this in the docstrings of `Bijector` and `Conditioner`.
"""

from __future__ import annotations

OF_BIJECTORS = {
    "vjp": """((x, log_det), pullback), as `jax.vjp`.

    `pullback(x_bar, log_det_bar)` -> (z_bar, params_bar) of L = <x_bar, x> + <log_det_bar, log_det>; params_bar has the
    keys and shapes of `params()`.  `z` and the errors are as in `forward`; x_bar broadcasts to the shape of x, log_det_bar to
    (*batch), else ValueError.  The pullback keeps its own copies: z, x and log_det may be changed in place before it is called.
    """,
    "inverse_vjp": """((z, log|det dz/dx|), pullback) of the inverse map and its log-det.

    `pullback(z_bar, log_det_bar)` -> (x_bar, params_bar) of L = <z_bar, z> + <log_det_bar, log|det dz/dx|>.  `x` and the errors
    are as in `inverse`; z_bar broadcasts to the shape of z, log_det_bar to (*batch), else ValueError.  The pullback keeps its own
    copies, as that of `vjp`.
    """}

OF_CONDITIONERS = {"vjp": """(h, pullback); `pullback(h_bar)` -> (a_bar, params_bar) of L = <h_bar, h>.

    `a` and the errors are as in `forward`; h_bar broadcasts to the shape of h, else ValueError.  The pullback keeps its own
    copies: a and h may be changed in place before it is called.
    """}

OF_DENSITIES = {
    "log_prob": """log p of each event, (*batch): summed over the event, -inf outside the support.

    The event, z of a base density and x of a flow: (*batch, *event_shape); its batch broadcasts with that of the fields.  ValueError,
    with class, argument, rule, and the first index and value: a shape that the fields do not allow, NaN, or a dtype other than
    float32 and float64.
    """,
    "log_prob_vjp": """(log_prob, pullback); `pullback(log_prob_bar)` -> (event_bar, params_bar), all 0 outside the support.

    The event and the errors are as in `log_prob`; log_prob_bar broadcasts to (*batch), else ValueError; params_bar has the keys
    and shapes of `params()`.  The pullback keeps its own copies: the event may be changed in place before it is called.
    """,
    "sample": """(n, *batch, *event_shape): events drawn with the Generator `rng`, for each member of the batch of the fields.

    `sample(rng, n, context=None, temperature=1.0)`: `context` is filled in first, as by `at`; `temperature` multiplies the
    latents of a flow, as in Glow's sampling; 0 gives the image of 0.  ValueError for an `rng` that is not a
    numpy.random.Generator, an n that is not a count, a temperature that is negative or not finite.
    """,
    "sample_vjp": """(events, pullback) of `sample`, with the noise held fixed.

    `pullback(event_bar)` -> params_bar, NaN for the parameters in `not_reparameterised`; ValueError if these are all.  `rng`, `n`
    and the other errors are as in `sample`.  The pullback keeps its own copies: the events may be changed in place before it is
    called.
    """,
    "sample_and_log_prob_vjp": """((events, log_prob), pullback) of a sample and its log p, as functions of the parameters.

    `pullback(event_bar, log_prob_bar)` -> params_bar of L = <event_bar, events> + <log_prob_bar, log_prob>, with the noise held
    fixed; reverse-KL training needs it.  The pullback keeps its own copies, as that of `sample_vjp`.  ValueError if a parameter is in
    `not_reparameterised`; `rng`, `n` and the other errors are as in `sample`.
    """}
