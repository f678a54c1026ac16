r"""Weibull cumulative distribution function, (0, inf) -> (0, 1).

With s = scale > 0 and k = concentration > 0:
    L = log(z/s),   w = k L,   y = exp(w) = (z/s)^k                                 (1)
    x = 1 - exp(-y) = -expm1(-y)                                                    (2)
    z = s y^(1/k) = s exp(M),   M = log(y)/k,   y = -log(1 - x)                     (3)
    dx/dz = k exp(p - y)/c,   log|dx/dz| = log(k/c) + p - y                         (4)
          with  c = z,  p = w             for k <  1/2
                c = s,  p = (k - 1) L     for k >= 1/2                              (5)

Both rows of (5) are y/z = exp(p)/c. With p = w and k = 1, log(1/z) and w cancel where the answer is -log s - y; with
p = (k - 1) L and a small k, log(k/s) and -L cancel where it is log(k/z). Each row is used where |p| is at most |w|, whose
rounding the unit of error contains, because a change of k by one rounding changes w by that much.

    log(a/b) = log a - log b              where a/b leaves the normal numbers       (6)
There the two logarithms differ by more than 700 (80 in float32) and one of them is below 50 (20) or of the other sign:
nothing cancels. Elsewhere the quotient comes first, since the difference loses the digits of log a.

    dx/dz = k g^2,   g = exp((p - y)/2)/sqrt(c)                                     (7)
    y/z   = v^2,     v = exp(p/2)/sqrt(c)                                           (8)
    y exp(-y) = h^2, h = exp((w - y)/2)                                             (9)
    1 - y... as 1 - exp(w) = -expm1(w/2) (1 + exp(w/2))                             (10)
hold half of the exponent in each factor, because a product a b (a c) keeps its digits as long as it is a number at all,
while exp(p - y) may be subnormal, and exp(w) infinite, before they meet the factor that brings them back. Still, an
infinite factor meets a cotangent 0, and the answer is 0.

From the other side, by (3), dz/dx = z/(k y (1 - x)) and -log(1 - x) = y:
    log|dz/dx| = log((s/k)/y) + M + y                                               (11)
    e = exp(M/2),   dz/dx = (s/k) e^2/(y (1 - x)) = (s/k) r^2/(1 - x),   r = e/sqrt(y)  (12)

At the ends: log|dx/dz| = log(k/s) + (k - 1) L for z = 0, where (k - 1) L is 0 for k = 1, and is the first row of (5) otherwise
undefined; so is log|dz/dx| = log(s/k) + (1/k - 1) log x for x = 0, and inf for x = 1.   (13)

Source: Weibull, Journal of Applied Mechanics 18 (1951).
"""
