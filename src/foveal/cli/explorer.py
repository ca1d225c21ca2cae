"""``foveal app``: the foveal explorer, a page in the browser to look into networks."""

from pathlib import Path

from foveal.app.guard import is_loopback
from foveal.app.networks import Network, Networks, on_best_device, random_subject
from foveal.app.serve import check_installed, listen, open_browser, serve
from foveal.cli.console import UsageError
from foveal.plotting import check_drawing
from foveal.report.explanation.subject import open_subject


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
    check_installed()
    check_drawing()
    with listen(host, port) as listening:
        networks = Networks(_opened(checkpoint, model, pretrained, size))

        def announce(address: str) -> None:
            print(f"foveal explorer: {address} (Ctrl-C ends it)", flush=True)
            if not is_loopback(host):
                print(f"Everyone who can reach {host} can use it.", flush=True)
            if not no_browser:
                open_browser(address)

        serve(networks, listening, host, announce)


def _opened(checkpoints: tuple[str, ...], models: tuple[str, ...], pretrained: bool, size: int | None) -> list[Network]:
    named = []
    for text in dict.fromkeys(checkpoints):
        name, path = _named(text)
        named.append(Network(str(path), on_best_device(open_subject(path, name, size))))
    for name in dict.fromkeys(models):
        named.append(Network(name, random_subject(name, size, pretrained=pretrained)))
    return named


def _named(text: str) -> tuple[str | None, Path]:
    """Return the name and the path in NAME=FILE; no name if the whole text is a file."""
    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals and not Path(text).exists() else (None, Path(text))
