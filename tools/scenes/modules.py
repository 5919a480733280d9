"""The three networks in plain PyTorch, with the parameter names and the arithmetic of diffusers' AutoencoderKL and
UNet2DConditionModel and of transformers' CLIPTextModel, so that a state dict is a checkpoint as it stands."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F


def attend(q, k, v, is_causal=False):
    """Attention by plain products: at 64 tokens the fused kernel's backward pass costs more than the matrix it saves."""
    scores = q @ k.mT * q.shape[-1] ** -0.5
    if is_causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), float("-inf"))
    return scores.softmax(-1).to(v.dtype) @ v


class Resnet(nn.Module):
    def __init__(self, cin, cout, groups, eps, temb=None):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, cin, eps)
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        if temb:
            self.time_emb_proj = nn.Linear(temb, cout)
        self.norm2 = nn.GroupNorm(groups, cout, eps)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        if cin != cout:
            self.conv_shortcut = nn.Conv2d(cin, cout, 1)

    def forward(self, x, temb=None):
        h = self.conv1(F.silu(self.norm1(x)))
        if temb is not None:
            h = h + self.time_emb_proj(F.silu(temb))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x) + h


class Sampler(nn.Module):
    """Downsample2D or Upsample2D: one convolution called conv."""

    def __init__(self, c, kind):
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(c, c, 3, stride=1 if kind == "up" else 2, padding=0 if kind == "down_asymmetric" else 1)

    def forward(self, x, size=None):
        if self.kind == "up":
            x = F.interpolate(x, size=size) if size is not None else F.interpolate(x, scale_factor=2.0)
        elif self.kind == "down_asymmetric":
            x = F.pad(x, (0, 1, 0, 1))
        return self.conv(x)


class Block(nn.Module):
    """A level: resnets, attentions and a sampler, each list only where it has members."""

    def __init__(self, resnets, attentions=(), down=None, up=None):
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        if attentions:
            self.attentions = nn.ModuleList(attentions)
        if down:
            self.downsamplers = nn.ModuleList([down])
        if up:
            self.upsamplers = nn.ModuleList([up])


# --- AutoencoderKL ------------------------------------------------------------------------------------------------------

class VaeAttention(nn.Module):
    def __init__(self, c, groups):
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, c, 1e-6)
        self.to_q, self.to_k, self.to_v = nn.Linear(c, c), nn.Linear(c, c), nn.Linear(c, c)
        self.to_out = nn.ModuleList([nn.Linear(c, c)])

    def forward(self, x):
        b, c, h, w = x.shape
        y = self.group_norm(x).flatten(2).transpose(1, 2)
        y = attend(self.to_q(y)[:, None], self.to_k(y)[:, None], self.to_v(y)[:, None])[:, 0]
        return x + self.to_out[0](y).transpose(1, 2).reshape(b, c, h, w)


def _vae_mid(config):
    c, g = config["block_out_channels"][-1], config["norm_num_groups"]
    attentions = [VaeAttention(c, g)] if config.get("mid_block_add_attention", True) else ()
    return Block([Resnet(c, c, g, 1e-6), Resnet(c, c, g, 1e-6)], attentions)


def _run_vae_mid(block, x):
    x = block.resnets[0](x)
    if hasattr(block, "attentions"):
        x = block.attentions[0](x)
    return block.resnets[1](x)


class Encoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        channels, g, n = config["block_out_channels"], config["norm_num_groups"], config["layers_per_block"]
        self.conv_in = nn.Conv2d(config["in_channels"], channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        c = channels[0]
        for i, out in enumerate(channels):
            resnets = [Resnet(c if j == 0 else out, out, g, 1e-6) for j in range(n)]
            self.down_blocks.append(Block(resnets, down=Sampler(out, "down_asymmetric") if i + 1 < len(channels) else None))
            c = out
        self.mid_block = _vae_mid(config)
        self.conv_norm_out = nn.GroupNorm(g, c, 1e-6)
        self.conv_out = nn.Conv2d(c, 2 * config["latent_channels"], 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        for block in self.down_blocks:
            for r in block.resnets:
                x = r(x)
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0](x)
        return self.conv_out(F.silu(self.conv_norm_out(_run_vae_mid(self.mid_block, x))))


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        channels, g, n = config["block_out_channels"][::-1], config["norm_num_groups"], config["layers_per_block"] + 1
        self.conv_in = nn.Conv2d(config["latent_channels"], channels[0], 3, padding=1)
        self.mid_block = _vae_mid(config)
        self.up_blocks = nn.ModuleList()
        c = channels[0]
        for i, out in enumerate(channels):
            resnets = [Resnet(c if j == 0 else out, out, g, 1e-6) for j in range(n)]
            self.up_blocks.append(Block(resnets, up=Sampler(out, "up") if i + 1 < len(channels) else None))
            c = out
        self.conv_norm_out = nn.GroupNorm(g, c, 1e-6)
        self.conv_out = nn.Conv2d(c, config["out_channels"], 3, padding=1)

    def forward(self, z):
        x = _run_vae_mid(self.mid_block, self.conv_in(z))
        for block in self.up_blocks:
            for r in block.resnets:
                x = r(x)
            if hasattr(block, "upsamplers"):
                x = block.upsamplers[0](x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class AutoencoderKL(nn.Module):
    def __init__(self, config):
        super().__init__()
        z = config["latent_channels"]
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant_conv = nn.Conv2d(2 * z, 2 * z, 1)
        self.post_quant_conv = nn.Conv2d(z, z, 1)

    def encode(self, image):
        """mean and log variance of the latent."""
        mean, logvar = self.quant_conv(self.encoder(image)).chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, z):
        return self.decoder(self.post_quant_conv(z))


# --- UNet2DConditionModel -----------------------------------------------------------------------------------------------

class Attention(nn.Module):
    def __init__(self, c, context, heads):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(c, c, bias=False)
        self.to_k, self.to_v = nn.Linear(context, c, bias=False), nn.Linear(context, c, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(c, c)])

    def forward(self, x, context):
        split = lambda t: t.unflatten(2, (self.heads, -1)).transpose(1, 2)
        y = attend(split(self.to_q(x)), split(self.to_k(context)), split(self.to_v(context)))
        return self.to_out[0](y.transpose(1, 2).flatten(2))


class GEGLU(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.proj = nn.Linear(c, 8 * c)

    def forward(self, x):
        a, gate = self.proj(x).chunk(2, dim=-1)
        return a * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.net = nn.Sequential(GEGLU(c), nn.Identity(), nn.Linear(4 * c, c))

    def forward(self, x):
        return self.net(x)


class TransformerBlock(nn.Module):
    def __init__(self, c, context, heads):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(c), nn.LayerNorm(c), nn.LayerNorm(c)
        self.attn1, self.attn2 = Attention(c, c, heads), Attention(c, context, heads)
        self.ff = FeedForward(c)

    def forward(self, x, context):
        y = self.norm1(x)
        x = x + self.attn1(y, y)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Transformer(nn.Module):
    def __init__(self, c, config, heads):
        super().__init__()
        self.linear = config.get("use_linear_projection", False)
        self.norm = nn.GroupNorm(config["norm_num_groups"], c, 1e-6)
        project = (lambda: nn.Linear(c, c)) if self.linear else (lambda: nn.Conv2d(c, c, 1))
        self.proj_in, self.proj_out = project(), project()
        self.transformer_blocks = nn.ModuleList([TransformerBlock(c, config["cross_attention_dim"], heads)])

    def forward(self, x, context):
        b, c, h, w = x.shape
        y = self.norm(x)
        flat = lambda t: t.flatten(2).transpose(1, 2)
        y = self.proj_in(flat(y)) if self.linear else flat(self.proj_in(y))
        for block in self.transformer_blocks:
            y = block(y, context)
        back = lambda t: t.transpose(1, 2).reshape(b, c, h, w)
        return x + (back(self.proj_out(y)) if self.linear else self.proj_out(back(y)))


class TimestepEmbedding(nn.Module):
    def __init__(self, c, out):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(c, out), nn.Linear(out, out)

    def forward(self, x):
        return self.linear_2(F.silu(self.linear_1(x)))


def timestep_embedding(t, dim):
    """[cos, sin], as flip_sin_to_cos = True and freq_shift = 0 have it."""
    half = dim // 2
    frequency = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angle = t.float()[:, None] * frequency[None]
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class UNet2DConditionModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        channels, g, n = config["block_out_channels"], config["norm_num_groups"], config["layers_per_block"]
        heads = config["attention_head_dim"]  # the number of heads, as diffusers has it
        heads = heads if isinstance(heads, list) else [heads] * len(channels)
        temb = 4 * channels[0]
        resnet = lambda cin, cout: Resnet(cin, cout, g, config.get("norm_eps", 1e-5), temb)
        transformer = lambda c, level: Transformer(c, config, heads[level])
        self.conv_in = nn.Conv2d(config["in_channels"], channels[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(channels[0], temb)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        skips, c = [channels[0]], channels[0]
        for i, out in enumerate(channels):
            attention = config["down_block_types"][i].startswith("CrossAttn")
            resnets = [resnet(c if j == 0 else out, out) for j in range(n)]
            last = i + 1 == len(channels)
            self.down_blocks.append(Block(resnets, [transformer(out, i) for _ in range(n)] if attention else (),
                                          down=None if last else Sampler(out, "down")))
            skips += [out] * (n if last else n + 1)
            c = out
        self.mid_block = Block([resnet(c, c), resnet(c, c)], [transformer(c, -1)])
        for i, out in enumerate(channels[::-1]):
            attention = config["up_block_types"][i].startswith("CrossAttn")
            resnets = []
            for _ in range(n + 1):
                resnets.append(resnet(c + skips.pop(), out))
                c = out
            last = i + 1 == len(channels)
            level = len(channels) - 1 - i
            self.up_blocks.append(Block(resnets, [transformer(out, level) for _ in range(n + 1)] if attention else (),
                                        up=None if last else Sampler(out, "up")))
        self.conv_norm_out = nn.GroupNorm(g, c, config.get("norm_eps", 1e-5))
        self.conv_out = nn.Conv2d(c, config["out_channels"], 3, padding=1)

    def forward(self, x, t, context):
        temb = self.time_embedding(timestep_embedding(t, self.config["block_out_channels"][0]))
        x = self.conv_in(x)
        skips = [x]
        for block in self.down_blocks:
            for j, r in enumerate(block.resnets):
                x = r(x, temb)
                if hasattr(block, "attentions"):
                    x = block.attentions[j](x, context)
                skips.append(x)
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0](x)
                skips.append(x)
        x = self.mid_block.resnets[0](x, temb)
        x = self.mid_block.attentions[0](x, context)
        x = self.mid_block.resnets[1](x, temb)
        for block in self.up_blocks:
            for j, r in enumerate(block.resnets):
                x = r(torch.cat([x, skips.pop()], dim=1), temb)
                if hasattr(block, "attentions"):
                    x = block.attentions[j](x, context)
            if hasattr(block, "upsamplers"):
                x = block.upsamplers[0](x, size=skips[-1].shape[2:])
        return self.conv_out(F.silu(self.conv_norm_out(x)))


# --- CLIPTextModel ------------------------------------------------------------------------------------------------------

ACTIVATIONS = {"quick_gelu": lambda x: x * torch.sigmoid(1.702 * x), "gelu": F.gelu}


class ClipAttention(nn.Module):
    def __init__(self, c, heads):
        super().__init__()
        self.heads = heads
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(c, c) for _ in range(4))

    def forward(self, x):
        split = lambda t: t.unflatten(2, (self.heads, -1)).transpose(1, 2)
        y = attend(split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x)), is_causal=True)
        return self.out_proj(y.transpose(1, 2).flatten(2))


class ClipMlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.act = ACTIVATIONS[config["hidden_act"]]
        self.fc1 = nn.Linear(config["hidden_size"], config["intermediate_size"])
        self.fc2 = nn.Linear(config["intermediate_size"], config["hidden_size"])

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class ClipLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        c = config["hidden_size"]
        self.self_attn = ClipAttention(c, config["num_attention_heads"])
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(c), nn.LayerNorm(c)
        self.mlp = ClipMlp(config)

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class CLIPTextModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        c = config["hidden_size"]
        model = self.text_model = nn.Module()
        model.embeddings = nn.Module()
        model.embeddings.token_embedding = nn.Embedding(config["vocab_size"], c)
        model.embeddings.position_embedding = nn.Embedding(config["max_position_embeddings"], c)
        model.encoder = nn.Module()
        model.encoder.layers = nn.ModuleList([ClipLayer(config) for _ in range(config["num_hidden_layers"])])
        model.final_layer_norm = nn.LayerNorm(c)
        nn.init.normal_(model.embeddings.token_embedding.weight, std=0.02)
        nn.init.normal_(model.embeddings.position_embedding.weight, std=0.02)

    def forward(self, ids):
        model = self.text_model
        x = model.embeddings.token_embedding(ids) + model.embeddings.position_embedding.weight[: ids.shape[1]]
        for layer in model.encoder.layers:
            x = layer(x)
        return model.final_layer_norm(x)
