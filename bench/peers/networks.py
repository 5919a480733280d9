"""The networks of a family as PyTorch modules: the published configurations, random weights, plain tensors in and out."""

import torch

from configs import has, read_config


class Text(torch.nn.Module):
    """ids [B, 77] -> hidden states [B, 77, C]: of every text encoder that the model has, side by side."""

    def __init__(self, encoders):
        super().__init__()
        self.encoders = torch.nn.ModuleList(encoders)

    def forward(self, ids):
        if len(self.encoders) == 1:
            return self.encoders[0](ids, return_dict=False)[0]
        # XL reads the state before the last; bigG's pooled output comes with it.
        outs = [e(ids, output_hidden_states=True) for e in self.encoders]
        hidden = torch.cat([o.hidden_states[-2] for o in outs], dim=-1)
        return hidden, outs[-1].text_embeds


class Step(torch.nn.Module):
    """sample [B, 4, L, L], timestep [1], context [B, 77, C] (XL: pooled [B, P], sizes [B, 6]) -> noise [B, 4, L, L]."""

    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, sample, timestep, context, pooled=None, sizes=None):
        added = None if pooled is None else {"text_embeds": pooled, "time_ids": sizes}
        return self.unet(sample, timestep, context, added_cond_kwargs=added, return_dict=False)[0]


class Decode(torch.nn.Module):
    """latents [1, 4, L, L], divided by the scaling factor -> picture [1, 3, 8 L, 8 L]."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, latents):
        return self.vae.decode(latents, return_dict=False)[0]


def build(configs, part):
    """The part ("text", "step" or "decode") of the model whose configurations lie in the folder `configs`, in f32."""
    import diffusers
    import transformers

    torch.manual_seed(0)
    with torch.no_grad():
        if part == "text":
            encoders = []
            for component in ("text_encoder", "text_encoder_2"):
                if not has(configs, component):
                    continue
                config = read_config(configs, component)
                kind = config["architectures"][0]
                config = transformers.CLIPTextConfig(**{k: v for k, v in config.items() if k != "architectures"})
                encoders.append(getattr(transformers, kind)(config))
            module = Text(encoders)
        elif part == "step":
            module = Step(diffusers.UNet2DConditionModel.from_config(read_config(configs, "unet")))
        elif part == "decode":
            vae = diffusers.AutoencoderKL.from_config(read_config(configs, "vae"))
            del vae.encoder, vae.quant_conv
            module = Decode(vae)
        else:
            raise ValueError(f"no part {part}: there are text, step and decode")
    return module.eval().requires_grad_(False)
