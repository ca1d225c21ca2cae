"""The options of ``foveal app``."""

from foveal.cli.console import UsageError


def main(
    *,
    checkpoint: tuple[str, ...] = (),
    model: tuple[str, ...] = (),
    pretrained: bool = False,
    size: int | None = None,
    port: int = 7860,
    host: str = "127.0.0.1",
    no_browser: bool = False,
) -> None:
    """Look into networks in the browser: attention of any point, evidence for a class, receptive fields.

    The page and its answers come from this machine alone, and no image is written to disk.

    Args:
        checkpoint: Files of weights: best.pt of a run, or released ones as NAME=FILE, since they do not say their
            network. Classifiers, detectors and segmenters.
        model: Networks of foveal or timm, with random weights unless --pretrained is given. The page also offers every
            network of foveal with random weights.
        pretrained: Use the released weights of --model, which are downloaded.
        size: Side of the square images in pixels; for a segmenter the short side. By default that of training.
        port: Port of the page; 0 takes a free one.
        host: Address to serve on. Any other than this machine's own lets others on the network use the explorer.
        no_browser: Print the address instead of opening it.
    """
    if pretrained and not model:
        raise UsageError("--pretrained takes the released weights of --model: name one.")
    if not 0 <= port < 2**16:
        raise UsageError(f"--port must be from 0 to 65535, not {port}.")
    from foveal.cli.explorer import run

    run(checkpoint, model, pretrained, size, port, host, not no_browser)
