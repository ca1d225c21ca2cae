"""Parts of a network that keep the weights that they start from."""

from torch import nn


def rest_frozen(model: nn.Module) -> None:
    """Set the parts of ``model`` that have parameters, none of which is trained, to evaluation mode.

    There batch norm keeps its statistics, and dropout and stochastic depth are off: a frozen part answers as it did
    when it was trained. ``model.train()`` undoes this.
    """
    for part in model.children():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            part.eval()
        else:
            rest_frozen(part)
