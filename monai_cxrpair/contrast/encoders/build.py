"""An encoder from its name, or from the definition of a network of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

from monai_cxrpair.contrast.encoders import library
from monai_cxrpair.errors import CxrPairError

NAMES: dict[str, Callable[..., nn.Module]] = {
    "resnet18": library.resnet,
    "resnet34": library.resnet,
    "resnet50": library.resnet,
    "densenet121": library.densenet,
    "vit_small": library.vit,
    "vit_base": library.vit,
    "convnext_tiny": library.convnext,
}


def build_encoder(
    encoder: str | Mapping[str, Any] = "resnet18", *, in_channels: int = 1, image_size: int = 224
) -> nn.Module:
    """A randomly initialised encoder: grey radiographs (B, 1, S, S) -> features (B, F).

    ResNets and DenseNet have torchvision's layout and names, so that its weights fit bit for bit; ViT and ConvNeXt are
    those of Hugging Face transformers (extra `encoders`). The feature of a ViT is its class token after the last
    normalisation, the usual one (Dosovitskiy et al. 2021, Chen et al. 2021); of the others the mean over the image.

    Args:
        encoder: one of `NAMES` (paper: resnet18); or the definition of any network that yields features (B, F), as in
            a bundle config: `{"_target_": "package.Class", argument: value}`. It names code that is run, so it comes
            from the user's own config only, never from a card.
        in_channels: of the first layer: 1, or 3, to which the grey radiograph is repeated, as ImageNet weights expect.
        image_size: S; only a ViT depends on it, through its position embeddings.

    Raises:
        CxrPairError: an unknown name, a size or a number of channels that cannot be, a definition that yields no
            network, or an extra that is not installed.
    """
    if in_channels not in (1, 3):
        raise CxrPairError(f"in_channels is {in_channels!r}: use 1, or 3 to repeat the grey radiograph")
    if isinstance(encoder, Mapping):
        network = _own(encoder)
    elif encoder in NAMES:
        network = NAMES[encoder](encoder, in_channels=in_channels, image_size=image_size)
    else:
        raise CxrPairError(f"encoder is {encoder!r}: there are {', '.join(NAMES)}, and networks of your own (_target_)")
    if in_channels == 3:  # a hook, so that the names of the weights stay as they are
        network.register_forward_pre_hook(_repeat_grey)
    return network


def _own(definition: Mapping[str, Any]) -> nn.Module:
    target = definition.get("_target_")
    if not target:
        raise CxrPairError("encoder: the definition of a network of your own needs _target_, its class by full name")
    try:
        with _no_download():
            network = ConfigParser({"encoder": dict(definition)}).get_parsed_content("encoder")
    except Exception as error:  # whatever the class or its import raises
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = " ".join(str(cause).split())[:200]
        raise CxrPairError(f"encoder: {target} cannot be made ({reason})") from error
    if not isinstance(network, nn.Module):
        raise CxrPairError(f"encoder: {target} gives a {type(network).__name__}, not a torch.nn.Module")
    return network


@contextmanager
def _no_download() -> Iterator[None]:
    """Some of MONAI's networks fetch weights when they are made, EfficientNet even unasked: here nothing does."""
    kept = torch.hub.download_url_to_file

    def refuse(url: str, *_: Any, **__: Any) -> None:
        raise CxrPairError("it would download weights: add `pretrained: false`")

    torch.hub.download_url_to_file = refuse
    try:
        yield
    finally:
        torch.hub.download_url_to_file = kept


# Named and typed as TorchScript wants hooks, for the bundle's `ckpt_export`.
def _repeat_grey(self: nn.Module, input: tuple[Tensor]) -> tuple[Tensor]:  # noqa: A002
    view = input[0]
    return (view.expand(-1, 3, -1, -1) if view.shape[1] == 1 else view,)


def feature_dim(encoder: nn.Module, *, in_channels: int = 1, image_size: int = 64) -> int:
    """F of an encoder, asked with one black radiograph.

    Args:
        encoder: on any device, in any precision.
        in_channels: of the radiograph; those of `build_encoder` take one, whatever their first layer has.
        image_size: of the radiograph, where the encoder depends on it.

    Raises:
        CxrPairError: the network takes no such radiograph, or yields something else than a vector for it.
    """
    like = next(encoder.parameters(), torch.zeros(0))
    training = encoder.training
    try:
        with torch.no_grad():
            features = encoder.eval()(like.new_zeros(1, in_channels, image_size, image_size))
    except Exception as error:  # whatever the network raises
        reason = " ".join(str(error).split())[:200]
        shape = f"(1, {in_channels}, {image_size}, {image_size})"
        raise CxrPairError(
            f"encoder: {type(encoder).__name__} does not take radiographs of shape {shape} ({reason}); in_channels "
            "and image_size say what it gets"
        ) from error
    finally:
        encoder.train(training)
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise CxrPairError("encoder: the network must yield features of shape (B, F)")
    return int(features.shape[1])


def channels_last(network: nn.Module) -> nn.Module:
    """Put the weights into the memory order in which convolutions are fastest, in place."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]  # not in the stubs
