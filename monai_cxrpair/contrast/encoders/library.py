"""Networks of MONAI and of Hugging Face transformers, as in their papers and under the names of published weights."""

from __future__ import annotations

import re
from typing import Any

from monai.networks import nets
from torch import Tensor, nn

from monai_cxrpair.errors import CxrPairError

# Width and heads (Dosovitskiy et al. 2021; Touvron et al. 2021); both have 12 layers and patches of 16 pixels.
VIT = {"vit_small": (384, 6), "vit_base": (768, 12)}
PATCH = 16


def resnet(name: str, *, in_channels: int, **_: Any) -> nn.Module:
    """A ResNet as torchvision's, without `fc`."""
    # MONAI's defaults (stride 1, biases in the shortcuts) are another function and cost four times as much.
    network: nn.Module = getattr(nets, name)(
        spatial_dims=2, n_input_channels=in_channels, conv1_t_stride=2, bias_downsample=False, feed_forward=False
    )
    return network


def densenet(name: str, *, in_channels: int, **_: Any) -> nn.Module:
    """A DenseNet-121 as torchvision's, without `classifier`; its state dict has torchvision's names, not MONAI's."""
    network: nn.Module = nets.DenseNet121(spatial_dims=2, in_channels=in_channels, out_channels=1)
    network.get_submodule("class_layers").out = nn.Identity()
    network.register_state_dict_post_hook(_to_torchvision)
    network.register_load_state_dict_pre_hook(_from_torchvision)
    return network


def _to_torchvision(network: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:  # all of them, so that their order stays
        state[key.replace(".layers.", ".")] = state.pop(key)


def _from_torchvision(network: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        state[re.sub(r"(\.denselayer\d+)\.(?!layers\.)", r"\1.layers.", key)] = state.pop(key)


def vit(name: str, *, in_channels: int, image_size: int) -> nn.Module:
    """ViT-S/16 or ViT-B/16; the feature is the class token.

    Raises:
        CxrPairError: a size that 16 does not divide, or transformers is not installed.
    """
    if image_size % PATCH:
        raise CxrPairError(f"image_size is {image_size}: {name} sees patches of {PATCH} pixels, use a multiple of it")
    library = _transformers(name)
    width, heads = VIT[name]
    config = library.ViTConfig(
        hidden_size=width,
        num_hidden_layers=12,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        image_size=image_size,
        patch_size=PATCH,
        num_channels=in_channels,
    )
    network: nn.Module = library.ViTModel(config, add_pooling_layer=False)
    network.register_forward_hook(_class_token)
    return network


def convnext(name: str, *, in_channels: int, **_: Any) -> nn.Module:
    """ConvNeXt-T, the defaults of transformers; the feature is the normalised mean over the image.

    Raises:
        CxrPairError: transformers is not installed.
    """
    library = _transformers(name)
    network: nn.Module = library.ConvNextModel(library.ConvNextConfig(num_channels=in_channels))
    network.register_forward_hook(_pooled)
    return network


def _transformers(name: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise CxrPairError(
            f"encoder {name} needs Hugging Face transformers: pip install 'monai-cxrpair[encoders]'"
        ) from error
    return transformers


def _class_token(network: nn.Module, images: Any, output: Any) -> Tensor:
    return output.last_hidden_state[:, 0]  # type: ignore[no-any-return]


def _pooled(network: nn.Module, images: Any, output: Any) -> Tensor:
    return output.pooler_output  # type: ignore[no-any-return]
