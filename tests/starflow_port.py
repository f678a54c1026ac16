"""STARFlow's blocks and models in torch, from the equations of the authors' code, and files as theirs of any configuration."""

from __future__ import annotations

import math

import numpy as np

from authors_files import arrays_of

RNG = np.random.default_rng
SWITCHES = {"use_softplus": False, "use_sos": False, "use_final_norm": False, "soft_clip": 0, "use_swiglu": False, "use_qk_norm": False,
            "use_post_norm": False, "use_bias": True, "hf_style_rope": False, "norm_type": "layer_norm", "use_proj_txt": True}


def angles(torch, grid, d, txt, length, third, line):
    """The table (text + tokens, d): each angle stands twice."""
    *frames, h, w = grid
    half = d // 2
    if line:
        pos = torch.arange(txt + h * w, dtype=torch.float64)[:, None]
        freqs = 1e4 ** (-torch.arange(half, dtype=torch.float64) / half)
        return (pos * freqs).repeat_interleave(2, -1)
    n, i, j = (part.reshape(-1).double() for part in torch.meshgrid(*map(torch.arange, ((frames or [1])[0], h, w)), indexing="ij"))
    side, spatial = math.sqrt(h * w), half - 8 if third else half
    freqs = 1e4 ** (-torch.arange(0, spatial, 2, dtype=torch.float64) / max(spatial, 1))
    zeros, place = torch.zeros(txt).double(), torch.arange(txt).double() / max(txt, 1) * length
    parts = [torch.cat((zeros, one / side * length))[:, None] * freqs for one in (i, j)]
    if third:
        parts.append(torch.cat((place, n))[:, None] * 1e4 ** (-torch.arange(8, dtype=torch.float64) / 8))
    return torch.cat(parts, -1).repeat_interleave(2, -1)


def turned(torch, t, table, split):
    """Rotated pairs of neighbours, or of halves."""
    *lead, d = t.shape
    t = t.reshape(*lead, 2, d // 2).transpose(-1, -2).reshape(*lead, d) if split else t
    other = torch.stack((-t[..., 1::2], t[..., ::2]), -1).flatten(-2)
    t = t * table.cos() + other * table.sin()
    return t.reshape(*lead, d // 2, 2).transpose(-1, -2).reshape(*lead, d) if split else t


class Port:
    """A block of the tensors p, by their names; `permutation` is "identity", "flip" or "flip_in_block"."""

    def __init__(self, torch, p, switches, d, heads, permutation="identity", txt=0, txt_dim=0, length=2, line=False, causal=True):
        self.torch, self.p, self.d, self.heads, self.permutation = torch, p, d, heads, permutation
        self.txt, self.txt_dim, self.length, self.line, self.causal = txt, txt_dim, length, line, causal
        self.s = SWITCHES | switches
        self.layers = sum(name.endswith("qkv.weight") for name in p)

    def dense(self, name, h):
        h = h @ self.p[f"{name}.weight"].T
        return h + self.p[f"{name}.bias"] if f"{name}.bias" in self.p else h

    def rms(self, name, h):
        if f"{name}.weight" not in self.p:
            return h
        return h * self.torch.rsqrt((h * h).mean(-1, keepdim=True) + 1e-6) * (1 + self.p[f"{name}.weight"])

    def norm(self, name, h):
        if f"{name}.bias" in self.p:
            return self.torch.nn.functional.layer_norm(h, h.shape[-1:], self.p[f"{name}.weight"], self.p[f"{name}.bias"], 1e-5)
        return self.rms(name, h)

    def table(self, grid, y):
        third = self.txt > 0 or len(grid) == 3
        text = y.shape[1] if y is not None and (self.txt_dim or self.line) else 0
        return angles(self.torch, grid, self.d, text, self.length, third and not self.line, self.line)

    def attention(self, name, h, table, temperature, cache, mask):
        torch, (B, T, _), d = self.torch, h.shape, self.d
        a = self.dense(f"{name}.qkv", self.norm(f"{name}.norm", h)).reshape(B, T, -1, d).transpose(1, 2)
        groups = (a.shape[1] - self.heads) // 2
        q, k, v = a.split([self.heads, groups, groups], 1)
        q, k = self.rms(f"{name}.query_norm", q), self.rms(f"{name}.key_norm", k)
        if cache is not None:
            before = cache.get(name)
            k, v = (k, v) if before is None else (torch.cat((before[0], k), 2), torch.cat((before[1], v), 2))
            cache[name] = k, v
        S = k.shape[2]
        split = self.s["hf_style_rope"]
        q, k = turned(torch, q, table[S - T:S], split), turned(torch, k, table[:S], split)
        k, v = (part.repeat_interleave(self.heads // groups, 1) for part in (k, v))
        s = q @ k.mT / d**0.5 / temperature
        if self.causal:
            mask = torch.ones(T, S).tril(S - T).bool()
        if mask is not None:
            s = s.masked_fill(~mask, -np.inf)
        h = (s.softmax(-1) @ v).transpose(1, 2).reshape(B, T, self.heads * d)
        return self.rms(f"{name}.post_norm", self.dense(f"{name}.proj", h))

    def mlp(self, name, h):
        torch, h = self.torch, self.norm(f"{name}.norm", h)
        if self.s["use_swiglu"]:
            h = torch.nn.functional.gelu(self.dense(f"{name}.gate_proj", h), approximate="tanh") * self.dense(f"{name}.up_proj", h)
            h = self.dense(f"{name}.down_proj", h)
        else:
            h = self.dense(f"{name}.main.2", torch.nn.functional.gelu(self.dense(f"{name}.main.0", h)))
        return self.rms(f"{name}.post_norm", h)

    def trunk(self, g, table, temperature=1.0, cache=None, mask=None):
        for i in range(self.layers):
            g = g + self.attention(f"attn_blocks.{i}.attention", g, table, temperature, cache, mask)
            g = g + self.mlp(f"attn_blocks.{i}.mlp", g)
        return self.rms("final_norm", g)

    def read(self, y):
        return self.dense("proj_txt", y) if "proj_txt.weight" in self.p else y

    def out(self, g):
        o, c = self.dense("proj_out", g), self.s["soft_clip"]
        return c * self.torch.tanh(o / c) if c > 0 else o

    def scale(self, a):
        return self.torch.nn.functional.softplus(a + 0.541324854612918) if self.s["use_softplus"] else a.exp()

    def turn(self, x, grid):
        if self.permutation == "identity":
            return x
        if self.permutation == "flip" or len(grid) == 2:
            return x.flip(1)
        return x.reshape(len(x), grid[0], -1, x.shape[-1]).flip(2).reshape(x.shape)

    def net(self, x, y, table, temperature=1.0):
        """(s, b, the states of the text) of tokens (B, L, F) in the block's order."""
        torch = self.torch
        g = x
        if self.s["use_sos"]:
            g = torch.cat((self.p["sos_embed"].expand(len(x), -1, -1), x[:, :-1]), 1)
        g, S = self.dense("proj_in", g), 0
        if self.txt_dim:
            g, S = torch.cat((self.read(y), g), 1), y.shape[1]
        g = self.trunk(g, table, temperature)
        o = self.out(g[:, S:])
        if not self.s["use_sos"]:
            o = torch.cat((torch.zeros_like(o[:, :1]), o[:, :-1]), 1)
        a, b = o.chunk(2, -1)
        return self.scale(a), b, g[:, :S]

    @staticmethod
    def guided(s, b, w):
        s, s_u = s.chunk(2)
        b, b_u = b.chunk(2)
        k = (s / s_u).clip(max=1.0) ** 2
        s = s / (1 + w - w * k).sqrt()
        b = ((1 + w) * b - w * k * b_u) / (1 + w - w * k)
        return s.repeat(2, 1, 1), b.repeat(2, 1, 1)

    def forward(self, x, y=None, w=0):
        grid, shape = x.shape[1:-1], x.shape
        table, x = self.table(grid, y), self.turn(x.flatten(1, -2), grid)
        s, b, y = self.net(x, y, table)
        if w:
            s, b = self.guided(s, b, w)
        return self.turn((x - b) / s, grid).reshape(shape), y, -s.log()

    def reverse(self, z, y=None, w=0, temperature=1.0):
        grid, shape, B = z.shape[1:-1], z.shape, len(z)
        table, z = self.table(grid, y), self.turn(z.flatten(1, -2), grid)
        z = z.repeat(2, 1, 1) if w else z
        x = z.clone()
        for t in range(x.shape[1]):
            s, b, _ = self.net(x, y, table, temperature)
            if w:
                s, b = self.guided(s, b, w)
            x[:, t] = z[:, t] * s[:, t] + b[:, t]
        return self.turn(x[:B], grid).reshape(shape)

    def jacobi(self, z, y=None, w=0, block=32, most=32, threshold=1e-3):
        """With keys and values kept, as the authors keep them."""
        torch = self.torch
        grid, shape, B, cache = z.shape[1:-1], z.shape, len(z), {}
        table, z = self.table(grid, y), self.turn(z.flatten(1, -2), grid)
        z = z.repeat(2, 1, 1) if w else z
        x = torch.cat((self.p["sos_embed"].expand(len(z), -1, -1), z), 1)
        if self.txt_dim:
            self.trunk(self.read(y), table, cache=cache)
        start, frame, L = 0, grid[-2] * grid[-1], z.shape[1]
        while start < L:
            size = min(block if start <= frame else 4 * block, L - start)
            kept = dict(cache)
            for i in range(most):
                back = frame if i == 0 and start > frame else 0
                cache = dict(kept)
                o = self.out(self.trunk(self.dense("proj_in", x[:, start - back:start + size - back]), table, cache=cache))
                a, b = o.chunk(2, -1)
                s = self.scale(a)
                if w:
                    s, b = self.guided(s, b, w)
                new, old = b + s * z[:, start:start + size], x[:, start + 1:start + 1 + size]
                change = ((new - old) ** 2).mean() / (new**2).mean()
                x[:, start + 1:start + 1 + size] = new
                if change < threshold:
                    break
            start += size
        return self.turn(x[:B, 1:], grid).reshape(shape)

    def denoise(self, x, y=None, ahead=0, window=None):
        """The denoiser's prediction."""
        torch, grid, shape = self.torch, x.shape[1:-1], x.shape
        table, g, S = self.table(grid, y), self.dense("proj_in", x.flatten(1, -2)), 0
        if self.txt_dim:
            g, S = torch.cat((self.read(y), g), 1), y.shape[1]
        mask = None
        if ahead and len(grid) == 3:
            B, N, G = grid[-2] * grid[-1], g.shape[1], 10000 if window is None else window
            q, k = torch.arange(N)[:, None], torch.arange(N)[None]
            mask = (k < S) | (((k - S) // B >= (q - S) // B + ahead - 1 - G) & ((k - S) // B <= torch.relu(q - S) // B + ahead - 1))
        return self.dense("proj_out", self.trunk(g, table, mask=mask)[:, S:]).reshape(shape)


# -- files -----------------------------------------------------------------------------------------------------------

def arrays(rng, F, C, layers, d, heads, groups, inside, switches, txt_dim=0, outputs=2, size=0.3):
    """Arrays of a block by the authors' names."""
    s, found = SWITCHES | switches, {}

    def dense(name, M, N, bias=True):
        found[f"{name}.weight"] = (M, N)
        if bias:
            found[f"{name}.bias"] = (M,)

    def norm(name, n):
        if s["norm_type"] != "none":
            found[f"{name}.weight"] = (n,)
        if s["norm_type"] == "layer_norm":
            found[f"{name}.bias"] = (n,)

    if s["use_sos"] and outputs == 2:
        found["sos_embed"] = (1, 1, F)
    dense("proj_in", C, F)
    dense("proj_out", outputs * F, C)
    if txt_dim and s["use_proj_txt"]:
        dense("proj_txt", C, txt_dim)
    for i in range(layers):
        at = f"attn_blocks.{i}"
        norm(f"{at}.attention.norm", C)
        norm(f"{at}.mlp.norm", C)
        dense(f"{at}.attention.qkv", (heads + 2 * groups) * d, C, s["use_bias"])
        dense(f"{at}.attention.proj", C, heads * d, s["use_bias"])
        found |= {f"{at}.attention.{part}_norm.weight": (d,) for part in ("query", "key") if s["use_qk_norm"]}
        found |= {f"{at}.{part}.post_norm.weight": (C,) for part in ("attention", "mlp") if s["use_post_norm"]}
        wide, last = (("gate_proj", "up_proj"), "down_proj") if s["use_swiglu"] else (("main.0",), "main.2")
        for part in wide:
            dense(f"{at}.mlp.{part}", inside, C, s["use_bias"])
        dense(f"{at}.mlp.{last}", C, inside, s["use_bias"])
    if s["use_final_norm"]:
        found["final_norm.weight"] = (C,)
    return {name: rng.standard_normal(shape) * (size / 2 if "proj_out" in name else size) for name, shape in found.items()}


GUIDED = [{"guidance": 2.0, "attn_temp": 1.0, "annealed_guidance": False}, {"guidance": 0.75, "attn_temp": 0.7, "annealed_guidance": True}]
JACOBI = [{"jacobi_block_size": 2, "jacobi_max_iter": 2, "jacobi_th": 1e-3},
          {"jacobi_block_size": 3, "jacobi_max_iter": 9, "jacobi_th": 0.0},
          {"jacobi_block_size": 1, "jacobi_max_iter": 1, "jacobi_th": 0.0, "guidance": 1.5}]


def block_file(torch, F=3, grid=(2, 3), C=8, layers=1, d=4, heads=2, groups=None, inside=12, permutation="identity", txt=0, txt_dim=0,
               length=2, line=False, B=2, kind="MetaBlock", ahead=0, window=None, **switches):
    """(configuration, arrays) of a file of a block, or of a denoiser."""
    rng, frames = RNG([len(permutation), layers, d, txt]), grid[0] if len(grid) == 3 else 0
    of_block = kind == "MetaBlock"
    p = arrays(rng, F, C, layers, d, heads, groups or heads, inside, switches, txt_dim, 2 if of_block else 1)
    t = {name: torch.tensor(array, requires_grad=True) for name, array in p.items()}
    own = Port(torch, t, switches, d, heads, permutation, txt, txt_dim, length, line, of_block)
    x, wz, u = (torch.tensor(rng.standard_normal((B, *grid, F))) for _ in range(3))
    y, null = (torch.tensor(rng.standard_normal((B, txt, txt_dim))) if txt_dim else None for _ in range(2))
    given = {"x": x.requires_grad_(), "wz": wz} | ({"y": y.requires_grad_()} if txt_dim else {})
    config = {"system": "starflow", "kind": kind, "in_channels": F, "channels": C, "img_h": grid[-2], "img_w": grid[-1], "frames": frames,
              "pt_seq_len": length, "permutation": permutation, "num_layers": layers, "head_dim": d, "num_heads": heads, "txt_size": txt,
              "txt_dim": txt_dim, "rope_1d": line, "switches": switches, "guided": GUIDED if txt_dim else []}
    if of_block:
        wl = torch.tensor(rng.standard_normal((B, int(np.prod(grid)), F)))
        z, states, log_det = own.forward(x, y)
        loss = (z * wz).sum() + (log_det * wl).sum()
        out = {"z": z, "logdet": log_det, "loss": loss} | ({"y": states} if txt_dim else {})
        given |= {"wl": wl, "u": u}
    else:
        config |= {"block_causal": ahead, "window": window}
        z = own.denoise(x, y, ahead, window)
        loss, out = (z * wz).sum(), {"pred": z}
        out["loss"] = loss
    loss.backward()
    if of_block:
        with torch.no_grad():
            out |= {"reverse_u": own.reverse(u, y), "freqs_cis": own.table(grid, y)}
            both = torch.cat((y, null)) if txt_dim else None
            for i, how in enumerate(config["guided"]):
                given[f"y_cfg{i}"] = both
                out[f"reverse_guided{i}"] = own.reverse(u, both, how["guidance"], how["attn_temp"])
                z, _, log_det = own.forward(torch.cat((x, x)), both, how["guidance"])
                out |= {f"forward_guided_z{i}": z, f"forward_guided_logdet{i}": log_det}
            if switches.get("use_sos"):
                config["jacobi"] = [how for how in JACOBI if txt_dim or "guidance" not in how]
                for i, how in enumerate(config["jacobi"]):
                    w = how.get("guidance", 0)
                    given |= {f"y_cfg{i}": both} if w else {}
                    out[f"jacobi{i}"] = own.jacobi(u, both if w else y, w, *list(how.values())[:3])
    return config, arrays_of(given, out, t)


def patches(x, p):
    """(..., C, H, W) as (..., H/p, W/p, p p C)."""
    *lead, C, H, W = x.shape
    x = x.reshape(*lead, C, H // p, p, W // p, p).movedim((-4, -2, -3, -1, -5), (-5, -4, -3, -2, -1))
    return x.reshape(*lead, H // p, W // p, p * p * C)


def unpatched(x, p, C):
    *lead, h, w, _ = x.shape
    x = x.reshape(*lead, h, w, p, p, C).movedim((-5, -4, -3, -2, -1), (-4, -2, -3, -1, -5))
    return x.reshape(*lead, C, h * p, w * p)


class Model:
    """Blocks, from the first shallow one to the deep one, None for a block of no layers."""

    def __init__(self, torch, blocks, patch, local, deep_only):
        self.torch, self.blocks, self.patch, self.local, self.deep_only = torch, blocks, patch, local, deep_only

    def per_frame(self, block, k, x, call):
        """call(block, x), or of each frame alone in a shallow block that sees one frame."""
        if self.local and x.dim() == 5 and k < len(self.blocks) - 1:
            h = call(block, x.flatten(0, 1).unsqueeze(1))
            return [part.reshape(*x.shape[:2], *part.shape[1:]).reshape(x.shape if part.dim() == 5 else (*x.shape[:2], *part.shape[1:]))
                    for part in h]
        return call(block, x)

    def forward(self, x, y):
        x = patches(x, self.patch)
        outputs, log_dets = [x], []
        for k, block in enumerate(self.blocks):
            if block is None:
                log_dets.append(x.new_zeros(len(x)))
            else:
                self.states = block.forward(x, y if block.txt_dim else None)[1] if k == len(self.blocks) - 1 else None
                x, log_det = self.per_frame(block, k, x, lambda block, x: block.forward(x, y if block.txt_dim else None)[::2])
                log_dets.append(log_det)
            outputs.append(x)
        return x, outputs, log_dets

    def loss(self, x, y):
        z, _, log_dets = self.forward(x, y)
        return (z**2).mean() / 2 - sum(one.flatten(1).mean(1) for one in log_dets if one.dim() > 1).mean()

    def reverse(self, u, y, w=0, temperature=1.0, jacobi=None):
        C, seq, x = u.shape[-3], [u], patches(u, self.patch)
        for k, block in reversed(list(enumerate(self.blocks))):
            def call(block, x, w=w, y=y):
                given = y if block.txt_dim else None
                if jacobi is not None:
                    return [block.jacobi(x, given, w, *jacobi)]
                return [block.reverse(x, given, w, temperature)]

            if block is not None:
                x, = self.per_frame(block, k, x, call)
            seq.append(unpatched(x, self.patch, C))
            if w and self.deep_only:
                w, y = 0, y.chunk(2)[0]
        return seq


def model_file(torch, C=2, side=4, patch=2, channels=8, layers=(1, 1, 2), d=20, heads=2, groups=None, inside=12, txt=3, txt_dim=5, frames=0,
               deep_only=True, order="L2R", temporal=0, local=False, deep_channels=None, B=2, std=0.2, regularisation=0.0, denoiser=False,
               **switches):
    """(configuration, arrays) of a file of a model."""
    rng = RNG([len(layers), txt, frames, side])
    F, K, t, ports = C * patch**2, len(layers), {}, []
    for k, count in enumerate(layers):
        wide, deep = (deep_channels or channels) if k == K - 1 else channels, k == K - 1
        reads = txt_dim if deep or not deep_only else 0
        own = arrays(rng, F, wide, count, d, heads, groups or heads, inside, switches, reads, size=0.15) if count else {}
        own = {name: torch.tensor(array, requires_grad=True) for name, array in own.items()}
        t |= {f"blocks.{k}.{name}": value for name, value in own.items()}
        flip = (k % 2 == 0) == (order == "L2R")
        permutation = ("flip_in_block" if temporal else "flip") if flip else "identity"
        ports.append(Port(torch, own, switches, d, heads, permutation, txt, reads, side // patch) if count else None)
    model = Model(torch, ports, patch, local, deep_only)
    x, u = (torch.tensor(rng.standard_normal((B, *([frames] if frames else []), C, side, side))) for _ in range(2))
    y, null = (torch.tensor(rng.standard_normal((B, txt, txt_dim))) if txt_dim else None for _ in range(2))
    x.requires_grad_()
    z, outputs, log_dets = model.forward(x, y.requires_grad_() if txt_dim else None)
    states, plain = model.states, model.loss(x, y)
    loss = plain + regularisation * sum((h**2).mean() for h in outputs[:-1])
    loss.backward()
    out = {"z": unpatched(z, patch, C), "loss": plain} | {f"outputs{k}": h for k, h in enumerate(outputs)}
    out |= {"loss_reg": loss} if regularisation else {}
    out |= {"y": states} if txt_dim else {}
    out |= {f"logdets{k}": one for k, one in enumerate(log_dets)}
    config = {"system": "starflow", "kind": "Model", "in_channels": C, "img_size": side, "patch_size": patch, "channels": channels,
              "num_blocks": K, "layers_per_block": list(layers), "head_dim": d, "num_heads": heads, "txt_size": txt, "txt_dim": txt_dim,
              "cond_top_only": deep_only, "seq_order": order, "temporal_causal": temporal, "shallow_block_local": local,
              "switches": switches,
              "guided": GUIDED if txt_dim else [], "denoise_std": std, "latent_norm_regularization": regularisation}
    given = {"x": x, "u": u} | ({"y": y} if txt_dim else {})
    with torch.no_grad():
        seq = model.reverse(u, y)
        out |= {"reverse": seq[-1]} | {f"reverse_seq{k}": image for k, image in enumerate(seq)}
        both = torch.cat((y, null)) if txt_dim else None
        for i, how in enumerate(config["guided"]):
            given[f"y_cfg{i}"] = both
            out[f"guided{i}"] = model.reverse(u, both, how["guidance"], how["attn_temp"])[-1]
        if switches.get("use_sos"):
            config["jacobi"] = JACOBI[:2]
            out |= {f"jacobi{i}": model.reverse(u, y, jacobi=list(how.values()))[-1] for i, how in enumerate(JACOBI[:2])}
    start = seq[-1].clone().requires_grad_()
    grad, = torch.autograd.grad(model.loss(start, y), start)
    out["denoised"] = start - start.numel() * std**2 * grad
    if denoiser:
        own = arrays(rng, F, channels, 1, d, heads, groups or heads, inside, switches, 0, 1)
        own = {name: torch.tensor(array) for name, array in own.items()}
        t |= {f"learnable_self_denoiser.{name}": value for name, value in own.items()}
        net = Port(torch, own, switches, d, heads, "identity", txt, 0, side // patch, causal=False)
        out["pred"] = unpatched(net.denoise(patches(x, patch), None, temporal), patch, C)
        grad, = torch.autograd.grad(model.loss(x, y), x)
        out["denoiser_target"] = grad * x.numel() * std
        out["denoised_learned"] = x - out["pred"] * 0.3
    return config, arrays_of(given, out, t)
