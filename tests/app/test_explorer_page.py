# ruff: noqa: RUF001 - the page writes a multiplication sign between numbers
"""The explorer's page in a headless Chromium: mouse, keyboard, files, and the network log.

Screenshots are kept in the folder that FOVEAL_SCREENSHOTS names.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from support.chromium import find_chromium
from support.explorer_page import POINT, READY, STATUS, alert, with_image

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")
MAP = "document.querySelector('.mixed canvas').toDataURL()"


def test_a_click_and_the_keys_move_the_point_and_change_the_maps(tab, photo):
    page = tab()
    with_image(page, photo(0, "a.png"))
    assert page.run(POINT) == "Stage 3, block 3: token (2, 2) of 4 × 4"
    first = page.run(MAP)
    page.click(".photo canvas", across=0.1, down=0.9)
    page.wait(f"{POINT}.includes('(3, 0)')")
    second = page.run(MAP)
    assert second != first
    for key, token in [
        ("ArrowRight", "(3, 1)"),
        ("ArrowUp", "(2, 1)"),
        ("ArrowDown", "(3, 1)"),
        ("ArrowLeft", "(3, 0)"),
    ]:
        page.press(key)  # the click gave the photograph the focus
        page.wait(f"{POINT}.includes('{token}')")
    page.wait(f"{MAP} === {second!r}")
    page.press("PageDown")
    page.wait(f"{POINT}.startsWith('Stage 4')")
    page.press("-")
    page.wait(f"{POINT}.startsWith('Stage 3, block 3')")
    page.press("[")
    page.wait(f"{POINT}.startsWith('Stage 3, block 2')")
    page.press("2")
    page.wait("document.querySelectorAll('#heads input')[1].checked")
    page.wait(f"{MAP} !== {second!r}")
    page.wait(f"{STATUS}.includes('stage 3, block 2, row 4 of 4, column 1 of 4, head 2')")
    assert alert(page) == ""


def test_the_whole_page_is_reached_with_the_tab_key(tab, photo):
    page = tab()
    with_image(page, photo(1, "a.png"))
    reached = []
    named = "(e => e.id || e.getAttribute('role') || e.textContent.trim())(document.activeElement)"
    focus = "(e => e.id === 'file' || getComputedStyle(e).outlineStyle !== 'none')(document.activeElement)"
    for _ in range(60):
        page.press("Tab")
        if page.run("document.activeElement !== document.body"):
            reached.append(page.run(named))
            assert page.run(focus), f"{reached[-1]} does not show its focus"
    for name in ("file", "first", "second", "stage-less", "block-less", "application", "Compute it"):
        assert name in reached or any(name in one for one in reached), reached


def test_classes_are_listed_and_one_shows_its_evidence(tab, photo):
    page = tab()
    with_image(page, photo(2, "a.png"))
    canvas = "document.querySelector('.answers canvas').toDataURL()"
    before = page.run(canvas)
    page.click(".answers li:nth-child(2) button")
    page.wait("document.querySelector('.answers figcaption').textContent.startsWith('Grad-CAM for')")
    page.wait(f"{canvas} !== {before!r}")
    assert page.run("document.querySelector('.answers li:nth-child(2) button').ariaPressed") == "true"


def test_receptive_fields_are_drawn_on_request(tab, photo):
    page = tab()
    with_image(page, photo(3, "a.png"))
    page.click(".compute")
    page.wait("document.querySelectorAll('article:first-child .fields canvas').length === 5")  # and the colour bar


def test_a_download_arrives(tab, photo, browser, tmp_path):
    page = tab()
    with_image(page, photo(4, "a.png"))
    folder = tmp_path / "downloads"
    page.browser.call(
        "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder), browserContextId=page._context
    )
    page.click("[data-download='attention.npz']")
    page.wait("document.getElementById('status').textContent === 'The file was saved'")
    page.run("new Promise((done) => setTimeout(done, 300))")
    with np.load(folder / "a-attention.npz") as arrays:
        np.testing.assert_allclose(arrays["mixed_weights"].sum((1, 2)), 1, rtol=1e-5)


def test_a_second_person_sees_their_own_image(tab, photo):
    first, second = tab(), tab()
    with_image(first, photo(5, "mine.png"))
    shown = first.run("document.querySelector('.photo canvas').toDataURL()")
    assert "Choose an image" in second.run("document.getElementById('status').textContent")
    with_image(second, photo(6, "yours.png"))
    assert second.run("document.querySelector('.photo canvas').toDataURL()") != shown
    first.click(".photo canvas")
    first.wait(f"{POINT}.includes('(2, 2)')")
    assert first.run("document.querySelector('.photo canvas').toDataURL()") == shown


def test_a_closed_tab_leaves_no_session(tab, photo, explorer):
    page = tab()
    with_image(page, photo(7, "a.png"))
    held = [session for session in explorer.sessions._sessions.values() if session.image is not None]
    page.call("Page.navigate", url="about:blank")
    page.wait("location.href === 'about:blank'")
    page.run("new Promise((done) => setTimeout(done, 500))")
    assert held[-1].image is None


def test_a_dropped_image_is_opened(tab):
    page = tab()
    page.run(
        """(async () => {
          const canvas = new OffscreenCanvas(80, 70);
          canvas.getContext("2d").fillRect(10, 10, 30, 30);
          const data = new DataTransfer();
          data.items.add(new File([await canvas.convertToBlob()], "dropped.png"));
          document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        })()"""
    )
    page.wait(f"document.getElementById('image-name').textContent === 'dropped, 80 × 70' && {READY}")


def test_what_is_no_image_gets_one_sentence_and_the_page_goes_on(tab, photo, tmp_path):
    page = tab()
    (tmp_path / "notes.png").write_text("no image")
    page.choose_file("#file", tmp_path / "notes.png")
    page.wait("document.getElementById('alert').textContent.includes('notes.png is not a readable image')")
    (tmp_path / "heavy.png").write_bytes(bytes(32 * 2**20 + 1))
    page.choose_file("#file", tmp_path / "heavy.png")
    page.wait("document.getElementById('alert').textContent.includes('more than 32 MB')")
    with_image(page, photo(8, "a.png"))
    assert alert(page) == ""


def test_the_labels_of_the_chart_are_read_at_any_width(tab, photo):
    labels = """[...document.querySelectorAll(".chart text:not(.here)")].map((one) => {
      const [box, scale] = [one.getBoundingClientRect(), one.getScreenCTM().a];
      return [scale * parseFloat(getComputedStyle(one).fontSize), box.left, box.right, box.top, box.bottom];
    })"""
    page = tab(width=1280)
    with_image(page, photo(0, "a.png"))
    for width in (1280, 390, 320):
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=False)
        chart = "document.querySelector('.chart')"
        page.wait(f"{chart}.firstChild.viewBox.baseVal.width === {chart}.clientWidth && innerWidth === {width}")
        found = page.run(labels)
        assert len(found) == 3 + 1 + 4 + 1  # shares, "stage", its numbers, and "all" for the last
        for at, (size, left, right, top, bottom) in enumerate(found):
            assert size >= 11
            assert 0 <= left < right <= width
            for _, others_left, others_right, others_top, others_bottom in found[:at]:
                assert right <= others_left or others_right <= left or bottom <= others_top or others_bottom <= top


def test_controls_have_names_of_their_own_and_a_space_before_the_number(tab, photo):
    page = tab()
    with_image(page, photo(0, "a.png"))
    page.run("document.querySelectorAll('.answers li:first-child button').forEach((one) => one.click())")
    page.wait("document.querySelectorAll(\"[data-download='evidence.png']\").length === 2")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    buttons = [n["name"]["value"] for n in nodes if n.get("role", {}).get("value") == "button"]
    saving = [name for name in buttons if name.startswith("Save ")]
    assert (
        len(saving) == len(set(saving)) == 2 * (3 + 4)
    )  # attention, chart, evidence; attention, branches, kernels, ...
    assert "Save the picture of the evidence of transxnet_atto (PNG)" in saving
    assert {"Compute it for transnext_atto", "Compute it for transxnet_atto"} <= set(buttons)
    lines = page.run(
        """[...document.querySelectorAll(".answers li button")].map(
          (one) => `${one.querySelector(".level + span").textContent} ${one.querySelector("b").textContent}`)"""
    )
    assert len(lines) == 20
    assert set(lines) <= set(buttons)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
def test_the_page_fits_asks_no_other_host_and_reports_no_error(tab, photo, explorer, tmp_path, width, dark):
    page = tab(width=width, height=844, dark=dark)
    if page.run("document.querySelectorAll('#samples button').length"):
        page.click("#samples button")
        page.wait(READY)
    else:
        with_image(page, photo(9, "a.png"))
    page.click(".photo canvas", across=0.3, down=0.6)
    page.click(".answers li button")
    page.wait("document.querySelector('.answers figcaption').textContent.startsWith('Grad-CAM for')")
    page.click(".compute")
    page.wait("document.querySelectorAll('article:first-child .fields canvas').length === 5")
    assert page.run("document.documentElement.scrollWidth") == width
    asked = [one["request"]["url"] for one in page.browser.events(page.session, "Network.requestWillBeSent")]
    assert len(asked) > 10
    assert {urlsplit(url).netloc for url in asked if not url.startswith(("about:", "blob:"))} == {
        urlsplit(explorer.address).netloc
    }
    errors = [one["entry"]["text"] for one in page.browser.events(page.session, "Log.entryAdded")]
    thrown = page.browser.events(page.session, "Runtime.exceptionThrown")
    assert (errors, thrown) == ([], [])
    folder = Path(os.environ.get("FOVEAL_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(folder / f"explorer-{width}-{'dark' if dark else 'light'}.png")
