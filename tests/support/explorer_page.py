"""What tests do on the explorer's page, and how they hold back its questions to the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.chromium import Tab

POINT = "document.querySelector('.place').textContent"
STATUS = "document.getElementById('status').textContent"
ALERT = "document.getElementById('alert').textContent"
READY = "document.querySelectorAll('.answers li').length >= 10 && !document.querySelector('.busy')"


def with_image(tab: Tab, path: Path) -> None:
    """Choose a file and wait until all networks have answered."""
    tab.choose_file("#file", path)
    tab.wait(f"document.getElementById('image-name').textContent.startsWith('{path.stem}') && {READY}")


def alert(tab: Tab) -> str:
    return tab.run(ALERT)


def thrown(tab: Tab) -> list[Any]:
    return tab.browser.events(tab.session, "Runtime.exceptionThrown")


def hold(tab: Tab, what: str) -> None:
    """Hold back the questions ``what`` until they are released; they fail then if ``failing`` is true."""
    tab.run(
        f"""window.held = []; window.holding = "/api/{what}"; window.failing = false;
        window.ask ??= window.fetch;
        window.fetch = async (url, options) => {{
          if (url !== window.holding) return window.ask(url, options);
          await new Promise((go) => window.held.push(go));
          if (window.failing) return new Response('{{"error": "It failed."}}', {{ status: 400 }});
          return window.ask(url, options);
        }}; 0"""
    )


def release(tab: Tab) -> None:
    """Ask what was held back, newest first, and hold back nothing more."""
    tab.run(
        """(async () => {
          window.holding = null;
          while (window.held.length) {
            window.held.pop()();
            await new Promise((done) => setTimeout(done, 300));
          }
        })()"""
    )


def pause(tab: Tab, milliseconds: int = 300) -> None:
    tab.run(f"new Promise((done) => setTimeout(done, {milliseconds}))")
