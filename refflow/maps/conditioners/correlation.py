r"""Cross-correlation of images with a bank of kernels: the linear part of convolutional layers.

With `a` of `(C, H, W)`, kernels `k` of `(M, C, I, J)`, whose entries stand `d` apart in `x` (the dilation), and `a = 0` outside
the image ("same" padding),
    h_m(y, x) = sum_c sum_ij k_mcij a_c(y + i - p, x + d j - q),   p = (I-1)//2,   q = (d (J-1))//2       (1)
`G(a)` holds the `I J` shifted copies of each channel, a row for each `(c, i, j)` and a column for each position; `K` is the
matrix `(M, C I J)` of the kernels, row by row:
    h = K G(a)                                                                      (2)
one matrix product, whose adjoint adds the shifted copies up again:
    a_bar = G*(K^T h_bar),   K_bar = h_bar G(a)^T                                   (3)
Each position that `h_m` reads from `a_c` is one to which `a_c` contributes, so the adjoint of (1) is also a correlation, with
    k'_cmij = k_{m,c,I-1-i,J-1-j},   p' = I-1-p,   q' = d (J-1) - q                   (4)
and, with `K'` for the matrix `(C, M I J)` of `k'`,
    a_bar = K' G(h_bar),   h = G*(K'^T a),   K'_bar = a G(h_bar)^T                  (5)
`G` multiplies its argument's size by `I J`: (2) and (3) are used if `C <= M`, (4) and (5) if `M < C`, so that copies are
made only on the side with fewer channels.  For kernels of one entry `G` is the identity.

Images are processed in blocks, whose copies stay in the cache and are not kept.  If kernels differ from event to event, each
block is one event.
"""

from __future__ import annotations

import math

import numpy as np

COLUMNS = 512                                   # of G(a) in a block, if one image has fewer


class Correlation:
    """(1) for images (*batch, C, H, W); `kernels` (M, C, I, J), or (*batch, M, C, I, J) with the full batch; `dilation` d.

    `forward(a)` -> h; `pullback(a, h_bar)` -> (a_bar, kernels_bar), kernels_bar summed over the batch if the kernels have no batch.
    """

    def __init__(self, kernels, dilation=1):
        *self.batch, M, C, I, J = kernels.shape
        self.size, self.dilation, self.few_in = (I, J), dilation, C <= M
        self.more = I - 1, dilation * (J - 1)                                       # rows and columns beyond the image
        p, q = (n // 2 for n in self.more)                                          # (1)
        self.first = p, q
        if not self.few_in:
            kernels = turned(kernels)                                               # (4)
            self.first = self.more[0] - p, self.more[1] - q                         # (4)
        self.outputs = M
        self.wide, self.narrow = (M, C) if self.few_in else (C, M)
        self.K = kernels.reshape(math.prod(self.batch), self.wide, self.narrow * I * J)     # (2) (5)

    def forward(self, a):
        image = a.shape[-2:]
        h = np.empty((*a.shape[:-3], self.outputs, *image), np.result_type(a, self.K))
        apply = self.widened if self.few_in else self.narrowed                      # (2) (5)
        for K, a_block, h_block in self.blocks(a, h):
            apply(K, a_block, h_block)
        return h

    def pullback(self, a, h_bar):
        a_bar, K_bar = np.empty(a.shape, h_bar.dtype), np.zeros_like(self.K)
        for K, a_block, h_bar_block, a_bar_block, K_bar_block in self.blocks(a, h_bar, a_bar, owners=(K_bar,)):
            if self.few_in:
                K_bar_block += columns(h_bar_block) @ self.gathered(a_block).T      # (3)
                self.narrowed(K, h_bar_block, a_bar_block)                          # (3)
            else:
                copies = self.gathered(h_bar_block)
                K_bar_block += columns(a_block) @ copies.T                          # (5)
                product_into(a_bar_block, K, copies)                                # (5)
        kernels_bar = K_bar.reshape(*self.batch, self.wide, self.narrow, *self.size)
        return a_bar, kernels_bar if self.few_in else turned(kernels_bar)           # (4)

    def widened(self, K, block, out):
        product_into(out, K, self.gathered(block))                                  # (2) (5)

    def narrowed(self, K, block, out):
        if self.size == (1, 1):
            return product_into(out, K.T, columns(block))                           # (3) (5)
        self.scattered(K.T @ columns(block), out)                                   # (3) (5)

    def gathered(self, block):
        """G of (2), (C I J, n H W), of images (n, C, H, W)."""
        if self.size == (1, 1):
            return columns(block)
        (n, C, H, W), (I, J), (p, q), d = block.shape, self.size, self.first, self.dilation
        padded = np.zeros((C, n, H + self.more[0], W + self.more[1]), block.dtype)
        padded[:, :, p:p + H, q:q + W] = block.swapaxes(0, 1)
        copies = np.empty((C, I, J, n, H, W), block.dtype)
        for i in range(I):
            for j in range(J):
                copies[:, i, j] = padded[:, :, i:i + H, d * j:d * j + W]
        return copies.reshape(C * I * J, n * H * W)

    def scattered(self, copies, out):
        """G*, the adjoint of `gathered`, into `out`."""
        (n, C, H, W), (I, J), (p, q), d = out.shape, self.size, self.first, self.dilation
        copies = copies.reshape(C, I, J, n, H, W)
        padded = np.zeros((C, n, H + self.more[0], W + self.more[1]), copies.dtype)
        for i in range(I):
            for j in range(J):
                padded[:, :, i:i + H, d * j:d * j + W] += copies[:, i, j]
        out[...] = padded[:, :, p:p + H, q:q + W].swapaxes(0, 1)

    def blocks(self, *images, owners=()):
        """(K, the block of each array of images, the block of each array shaped as K), one after the other."""
        images = [x.reshape(math.prod(x.shape[:-3]), *x.shape[-3:]) for x in images]
        count, positions = len(images[0]), math.prod(images[0].shape[-2:])
        step = 1 if self.batch else max(1, COLUMNS // max(1, positions))
        for n in range(0, count, step):
            own = n if self.batch else 0
            yield (self.K[own], *(x[n:n + step] for x in images), *(array[own] for array in owners))


def turned(kernels):
    """(4): outputs and inputs exchanged, each kernel rotated by half a turn."""
    return np.ascontiguousarray(np.swapaxes(kernels, -4, -3)[..., ::-1, ::-1])


def columns(block):
    """(n, C, H, W) as the matrix (C, n H W): a view of one image, a copy of several."""
    n, C, H, W = block.shape
    return block.swapaxes(0, 1).reshape(C, n * H * W)


def product_into(out, K, copies):
    """The matrix K G, (C, n H W), into images (n, C, H, W); for one image without another copy."""
    if len(out) == 1:
        np.matmul(K, copies, out=out.reshape(out.shape[1], copies.shape[1]))
    else:
        out[...] = (K @ copies).reshape(out.shape[1], len(out), *out.shape[2:]).swapaxes(0, 1)
