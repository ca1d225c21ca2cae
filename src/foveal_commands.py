"""The table of commands. It is outside the package, so that it is shown without waiting for PyTorch."""

#: Command -> (module with a ``main`` typed for tyro, summary). A module is imported when its command is called, so that
#: no command waits for the imports of another.
COMMANDS = {
    "quickstart": (
        "foveal.cli.quickstart",
        "train, evaluate, predict and explain on real images, in minutes on a laptop",
    ),
    "models": (
        "foveal.cli.models",
        "every model: parameters, multiply-adds, published accuracy, where to download its weights",
    ),
    "tables": ("foveal.cli.tables", "the results tables of both papers, with sizes and costs counted again"),
    "train": ("foveal.cli.train", "train or fine-tune a model by a recipe"),
    "ablate": ("foveal.cli.ablate", "run an ablation of a paper: every row of a table with several seeds"),
    "evaluate": ("foveal.cli.evaluate", "top-1, top-5 and mCE of a classifier, AP of a detector, mIoU of a segmenter"),
    "predict": ("foveal.cli.predict", "classes of image files, objects in them, or the class of every pixel, drawn"),
    "explain": (
        "foveal.cli.explain",
        "what a network sees: receptive field, attention, evidence for a class, branches",
    ),
    "app": ("foveal.cli.explorer", "the foveal explorer: look into a network in the browser, point by point"),
    "export": ("foveal.cli.export", "a file for ONNX Runtime, OpenVINO or AOTInductor, checked against the network"),
    "bench": ("foveal.cli.bench", "speed beside timm's peers, in one interleaved run"),
}


def overview() -> str:
    """Return the text of ``foveal --help``."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {does}" for name, (_, does) in COMMANDS.items()]
    return "\n".join(
        ["usage: foveal COMMAND [OPTIONS]", "", *lines, "", "foveal COMMAND --help shows the options of a command."]
    )
