"""A frozen linear layer that is cast once, not at every call."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrozenLinear(nn.Linear):
    """A linear layer that keeps what autocast would make of its frozen weight at every call.

    Autocast remembers casts of trained weights alone. The weight itself stays as it is, for whoever reads it:
    a norm, a merge, a checkpoint. Output and gradient are autocast's, bit for bit.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self._kept: tuple[object, Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Compute x W^T + b, shapes (..., in) and (..., out)."""
        device = x.device.type
        if self.weight.requires_grad or not torch.is_autocast_enabled(device):
            return super().forward(x)
        return F.linear(x, self.cast_weight(torch.get_autocast_dtype(device)), self.bias)

    def cast_weight(self, dtype: torch.dtype) -> Tensor:
        """Return the weight (out, in) in another type; cast again when it was replaced or changed in place.

        A change in place through `.data` is not seen. The weight is held, so that no other gets its address.
        """
        version = (self.weight.data_ptr(), self.weight._version, dtype)
        if self._kept is None or self._kept[0] != version:
            with torch.inference_mode(False):  # a training step cannot save what an evaluation would keep
                self._kept = (version, self.weight.data, self.weight.detach().to(dtype))
        return self._kept[2]
