"""The small network whose hidden layer is the feature space `classifier`."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Network(nn.Module):
    """Two halvings of convolutions, then a hidden layer of `width`: the features."""

    def __init__(self, shape: tuple[int, ...], width: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(shape[0], 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(2),
            nn.Flatten(), nn.Linear(256, width), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.head(self.body(x))

    @torch.inference_mode()
    def features(self, x: Tensor) -> Tensor:
        """[B, width]."""
        return self.body(x.float())

    @torch.inference_mode()
    def classify(self, features: Tensor) -> Tensor:
        """[B, width] -> float64 [B, classes]."""
        weight, bias = self.head.weight.double(), self.head.bias.double()
        return functional.linear(features.double(), weight, bias).softmax(1)
