"""What ``foveal app`` does: serve the foveal explorer, a page in the browser to look into networks."""

from pathlib import Path

from foveal.app.guard import is_loopback
from foveal.app.networks import Network, Networks, on_best_device, random_subject
from foveal.app.serve import check_installed, listen, open_browser, serve
from foveal.plotting import check_drawing
from foveal.report.explanation.subject import open_subject


def run(
    checkpoint: tuple[str, ...],
    model: tuple[str, ...],
    pretrained: bool,
    size: int | None,
    port: int,
    host: str,
    browser: bool,
) -> None:
    """Serve the page with the networks that are named."""
    check_installed()
    check_drawing()
    with listen(host, port) as listening:
        networks = Networks(_opened(checkpoint, model, pretrained, size))

        def announce(address: str) -> None:
            print(f"foveal explorer: {address} (Ctrl-C ends it)", flush=True)
            if not is_loopback(host):
                print(f"Everyone who can reach {host} can use it.", flush=True)
            if browser:
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
