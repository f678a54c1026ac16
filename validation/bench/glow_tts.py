"""Glow-TTS: the losses of a batch and their gradient in all parameters, float32, compared with torch eager.

Two blocks of the decoder with wave nets of 4 layers, two layers of the encoder with a prenet, 80 channels, 4 texts of at most
30 symbols with at most 150 frames, of unequal lengths.  The same maths and numbers in both: alignments are refflow's, found
once for torch before it is timed, and found again by refflow in every step.
"""

from __future__ import annotations

import math

from .rounds import timed, timing_rows

HIDDEN, BLOCKS, LAYERS, BATCH, TEXT, FRAMES, SYMBOLS, MELS = 80, 2, 2, 4, 30, 150, 40, 80
REPETITIONS = 20
WHAT = f"Glow-TTS, {BLOCKS} blocks, hidden {HIDDEN}, {BATCH} texts, {FRAMES} frames, float32: losses and all gradients"
OPTIONS = {"channels": HIDDEN, "filters": 4 * HIDDEN, "duration_filters": HIDDEN, "layers": LAYERS, "blocks": BLOCKS,
           "hidden": HIDDEN}


def model_of(seed=1, **options):
    """A model with moved parameters: at its start the decoder is nearly the identity."""
    import numpy as np

    from refflow.models.glow_tts import glow_tts
    rng = np.random.default_rng(seed)
    model = glow_tts(rng, SYMBOLS, MELS, **(OPTIONS | {"dtype": np.float32} | options))
    vector = model.ravel()
    return model.unravel((vector + 0.01 * rng.standard_normal(vector.size)).astype(vector.dtype))


def batch_of(seed=0, dtype="float32", mels=MELS, symbols=SYMBOLS, text=TEXT, frames=FRAMES, count=BATCH):
    """(tokens, text lengths, mel, frame lengths)."""
    import numpy as np
    rng = np.random.default_rng(seed)
    mel = rng.standard_normal((count, mels, frames)).astype(dtype)
    return (rng.integers(0, symbols, (count, text)), text - np.arange(count) * text // (2 * count), mel,
            frames - np.arange(count) * frames // (2 * count))


def refflow_step(threads):
    from refflow.training import SpeechGradient
    model, batch, gradient = model_of(), batch_of(), SpeechGradient()
    return lambda: gradient(model, batch)


def page_step(threads):
    model, batch = model_of(), batch_of()
    return lambda: model.loss_vjp(*batch)


def attends(layer):
    from refflow.core.tree import walk
    from refflow.maps.conditioners import RelativeAttention
    return any(isinstance(value, RelativeAttention) for _, value in walk(layer))


# -- the same in torch ------------------------------------------------------------------------------------------------

class Torch:
    """The model in torch: `p` are parameters, nested as in `params()`; their layouts are ours."""

    def __init__(self, model):
        import torch

        from refflow.core.tree import flatten, nest
        self.torch, self.model = torch, model
        self.leaves = {path: torch.tensor(array, requires_grad=True) for path, array in flatten(model.params())}
        self.p = nest(self.leaves)

    def conv(self, p, a, mask, dilation=1):
        """A convolution, with normalised kernels if it has gains."""
        torch, W = self.torch, p.get("W")
        if W is None:
            W = p["g"][:, None, None] * p["v"] / p["v"].flatten(1).norm(dim=1)[:, None, None]
        return torch.nn.functional.conv1d(a * mask, W, p["b"], padding=dilation * (W.shape[-1] - 1) // 2, dilation=dilation)

    def norm(self, p, a):
        p, mean = p["layer"], a.mean(1, keepdim=True)
        apart = a - mean
        return apart * self.torch.rsqrt((apart * apart).mean(1, keepdim=True) + 1e-4) * p["gain"][:, None] + p["bias"][:, None]

    def drop(self, a, keeps, rate):
        return a if keeps is None else a * self.torch.from_numpy(keeps.pop(0)).to(a.dtype) / (1 - rate)

    # -- text --------------------------------------------------------------------------------------------------------

    def encoded(self, tokens, mask, keeps):
        torch, model, p = self.torch, self.model, self.p["encoder"]["layers"]
        rates = iter(model.encoder_rates())
        x = p["0"]["E"][tokens].mT * math.sqrt(p["0"]["E"].shape[1]) * mask
        first = next(i for i, layer in enumerate(model.encoder.layers) if attends(layer))
        if first == 2:
            h, q = x, p["1"]["inner"]["layers"]
            for i in range(3):
                h = self.drop(torch.relu(self.norm(q[str(4 * i + 1)], self.conv(q[str(4 * i)], h, mask))), keeps, next(rates))
            x = (x + self.conv(q["12"], h, mask)) * mask
        for i in range(first, len(model.encoder.layers), 4):
            heads = model.encoder.layers[i].inner.layers[1]
            x = x * mask
            x = self.norm(p[str(i + 1)], x + self.drop(self.attention(p[str(i)]["inner"]["layers"], heads, x, mask, keeps,
                                                                      next(rates)), keeps, next(rates)))
            q = p[str(i + 2)]["inner"]["layers"]
            h = self.drop(torch.relu(self.conv(q["0"], x, mask)), keeps, next(rates))
            x = self.norm(p[str(i + 3)], x + self.drop(self.conv(q["3"], h, mask) * mask, keeps, next(rates)))
        return x * mask

    def attention(self, p, heads, x, mask, keeps, rate):
        torch, (B, C, T), n = self.torch, x.shape, heads.heads
        of_heads = p.get("1", {})
        qkv = torch.nn.functional.conv1d(x, p["0"]["W"], p["0"]["b"])
        q, k, v = (part.reshape(B, n, C // n, T).mT for part in qkv.chunk(3, 1))
        scores = q @ k.mT
        if "E_k" in of_heads:
            scores = scores + self.by_distance(q @ of_heads["E_k"].mT)
        scores = scores / math.sqrt(C // n)
        scores = scores.masked_fill((mask[:, :, :, None] * mask[:, :, None]) == 0, -1e4)
        if heads.block_length is not None:
            near = torch.ones_like(scores).triu(-heads.block_length).tril(heads.block_length)
            scores = scores * near - 1e4 * (1 - near)
        P = self.drop(torch.softmax(scores, -1), keeps, rate)
        y = P @ v
        if "E_v" in of_heads:
            y = y + self.of_distance(P, of_heads["E_v"].shape[1] // 2) @ of_heads["E_v"]
        return torch.nn.functional.conv1d(y.mT.reshape(B, C, T), p["2"]["W"], p["2"]["b"])

    def by_distance(self, products):
        """(..., T, 2 w + 1), one for each distance j - i, as (..., T, T)."""
        T, w = products.shape[-2], products.shape[-1] // 2
        wide = self.torch.nn.functional.pad(products, (max(0, T - 1 - w), max(0, T - 1 - w)))
        wide = wide[..., max(0, w - T + 1):][..., :2 * T - 1]
        flat = self.torch.nn.functional.pad(wide, (0, 1)).flatten(-2)
        flat = self.torch.nn.functional.pad(flat, (0, T - 1))
        return flat.reshape(*products.shape[:-2], T + 1, 2 * T - 1)[..., :T, T - 1:]

    def of_distance(self, P, w):
        """The transpose: (..., T, T) as (..., T, 2 w + 1)."""
        T = P.shape[-1]
        flat = self.torch.nn.functional.pad(P, (0, T - 1)).flatten(-2)
        wide = self.torch.nn.functional.pad(flat, (T, 0)).reshape(*P.shape[:-2], T, 2 * T)[..., 1:]
        wide = self.torch.nn.functional.pad(wide, (max(0, w - T + 1), max(0, w - T + 1)))
        middle = wide.shape[-1] // 2
        return wide[..., middle - w:middle + w + 1]

    def durations(self, x, g, mask, keeps):
        p, rate = self.p["durations"], self.model.rates[0]
        p = p["layers"] if g is None else p["inner"]["layers"]
        h = x.detach() if g is None else self.torch.cat((x.detach(), g[..., None].expand(-1, -1, x.shape[-1])), 1)
        for i in (0, 4):
            h = self.drop(self.norm(p[str(i + 2)], self.torch.relu(self.conv(p[str(i)], h, mask))), keeps, rate)
        return (self.conv(p["8"], h, mask) * mask)[:, 0]

    # -- decoder -----------------------------------------------------------------------------------------------------

    def latents(self, x, g, mask, keeps):
        """(z, log-det) of a mel."""
        torch, n = self.torch, self.model.factor
        stages, p = self.model.decoder.inner.inner.stages, self.p["decoder"]["inner"]["inner"]["stages"]
        B, C, T = x.shape
        h = x.reshape(B, C, T // n, n).permute(0, 3, 1, 2).reshape(B, C * n, T // n)
        inner = mask[:, :, n - 1::n]
        h, count, log_det = h * inner, inner.sum((1, 2)), 0
        for k in range(0, len(stages), 3):
            norm, W, f = p[str(k)]["inner"], p[str(k + 1)]["inner"]["W"], stages[k + 2]
            h = (norm["bias"][:, None] + torch.exp(norm["logs"])[:, None] * h) * inner
            S = len(W)
            groups = h.reshape(B, 2, C * n // S, S // 2, T // n).transpose(2, 3).reshape(B, S, C * n // S, T // n)
            groups = torch.einsum("st,btgi->bsgi", W, groups)
            h = groups.reshape(B, 2, S // 2, C * n // S, T // n).transpose(2, 3).reshape(B, C * n, T // n)
            a, b = h.chunk(2, 1)
            t, s = self.network(f.net, p[str(k + 2)]["net"]["layers"], a, g, inner, keeps).chunk(2, 1)
            if type(f.affine_form.scale).__name__ == "SigmoidScale":
                s = torch.log(1e-6 + torch.sigmoid(s + 2))
            h = torch.cat((a, (t + torch.exp(s) * b) * inner), 1)
            log_det = log_det + count * (norm["logs"].sum() + C * n // S * torch.linalg.slogdet(W)[1]) + (s * inner).sum((1, 2))
        return h.reshape(B, n, C, T // n).permute(0, 2, 3, 1).reshape(B, C, T), log_det

    def network(self, net, p, a, g, mask, keeps):
        torch, wave, q = self.torch, net.layers[1], p["1"]
        x, out, n = self.conv(p["0"], a, mask) * mask, 0, len(wave.in_layers)
        c = None
        if g is not None:
            cond = q["cond"]["0"]["layers"]["1"]
            W = cond["g"][:, None] * cond["v"] / cond["v"].norm(dim=1, keepdim=True)
            c = (g @ W.T + cond["b"])[..., None].chunk(n, 1)
        for i in range(n):
            dilation = wave.in_layers[i].layers[0].dilation
            h = self.drop(self.conv(q["in_layers"][str(i)]["layers"]["0"], x, mask, dilation), keeps, self.model.rates[2])
            first, second = (h if c is None else h + c[i]).chunk(2, 1)
            r = self.conv(q["res_skips"][str(i)], torch.tanh(first) * torch.sigmoid(second), 1)
            if i < n - 1:
                to_x, r = r.chunk(2, 1)
                x = (x + to_x) * mask
            out = out + r
        return self.conv(p["2"], out * mask, 1)

    # -- losses ------------------------------------------------------------------------------------------------------

    def losses(self, tokens, texts, mel, frames, speakers=None, keeps=None, path=None):
        """(mle, duration), with refflow's alignment unless it is given."""
        torch, n = self.torch, self.model.factor
        if path is None:
            path = self.model.terms_vjp(tokens, texts, mel, frames, speakers, keeps)[0].path
        kept = (None,) * 3 if keeps is None else tuple(list(part) for part in keeps)
        path, frames = torch.from_numpy(path).to(torch.from_numpy(mel).dtype), frames // n * n
        mel = torch.from_numpy(mel[..., :mel.shape[-1] // n * n])
        mask, inner = ((torch.arange(size) < torch.from_numpy(lengths)[:, None])[:, None].to(mel.dtype)
                       for size, lengths in ((tokens.shape[1], texts), (mel.shape[-1], frames)))
        g = None
        if speakers is not None:
            g = torch.nn.functional.normalize(self.p["speakers"]["0"]["E"][torch.from_numpy(speakers)])
        x = self.encoded(torch.from_numpy(tokens), mask, kept[0])
        mu = self.conv(self.p["mean"], x, mask) * mask
        q = self.conv(self.p["log_scale"]["0"], x, mask) * mask if "log_scale" in self.p else torch.zeros_like(mu)
        w = self.durations(x, g, mask, kept[1])
        z, log_det = self.latents(mel * inner, g, inner, kept[2])
        m, s = mu @ path, q @ path
        mle = (s.sum() + ((z - m) ** 2 * torch.exp(-2 * s)).sum() / 2 - log_det.sum()) / (inner.sum() * mel.shape[1])
        apart = w - torch.log(1e-8 + path.sum(-1)) * mask[:, 0]
        return mle + math.log(2 * math.pi) / 2, (apart ** 2).sum() / texts.sum()

    def gradient(self, *batch, **named):
        """((mle, duration), {path: gradient of their sum})."""
        mle, duration = self.losses(*batch, **named)
        bars = self.torch.autograd.grad(mle + duration, list(self.leaves.values()), allow_unused=True)
        return (mle.item(), duration.item()), dict(zip(self.leaves, bars))


def torch_step(threads):
    import torch
    torch.set_num_threads(threads)
    model, batch = model_of(), batch_of()
    path, twin = model.terms_vjp(*batch)[0].path, Torch(model)
    return lambda: twin.gradient(*batch, path=path)


STEPS = {"refflow": refflow_step, "refflow page": page_step, "torch": torch_step}
WORKERS = {library: (lambda threads, step=step: {"losses and gradients": timed(step(threads), REPETITIONS)})
           for library, step in STEPS.items()}
rows = timing_rows
