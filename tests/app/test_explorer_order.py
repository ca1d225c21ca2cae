# ruff: noqa: RUF001 - the page writes a multiplication sign between numbers
"""The explorer's page in a headless Chromium: what is asked for last is what is shown, however answers arrive."""

import pytest

from support.chromium import find_chromium
from support.explorer_page import ALERT, POINT, READY, STATUS, alert, hold, pause, release, thrown, with_image

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")
NAME = "document.getElementById('image-name').textContent"
PHOTO = "document.querySelector('.photo canvas').toDataURL()"
CAPTION = "document.querySelector('.answers figcaption').textContent"
PRESSED = "document.querySelectorAll('.answers [aria-pressed=true]').length"
UNASKED = "Choose a line to see the evidence for it."


def keys(page, *pressed):
    """Press keys in the first photograph, all before anything can be answered."""
    page.run(
        f"""for (const key of {list(pressed)}) document.querySelector(".photo canvas").dispatchEvent(
          new KeyboardEvent("keydown", {{ key, bubbles: true }}))"""
    )


def click(page, selector, times=1):
    page.run(f"for (let i = 0; i < {times}; i++) document.querySelector({selector!r}).click()")


def choose(page, selector, *values):
    """Choose options of a list, one directly after another."""
    page.run(
        f"""for (const value of {list(values)}) {{
          const list = document.querySelector({selector!r});
          list.value = value;
          list.dispatchEvent(new Event("change"));
        }}"""
    )


def test_of_two_images_the_one_chosen_last_is_shown(tab, photo):
    page, other = tab(), tab()
    last = photo(1, "last.png")
    with_image(other, last)
    hold(page, "image")
    page.choose_file("#file", photo(0, "first.png"))
    page.wait("held.length === 1")
    page.choose_file("#file", last)
    pause(page)
    release(page)  # the newest first, if both were asked
    page.wait(f"{NAME}.startsWith('last') && {READY}")
    pause(page)
    assert page.run(NAME).startswith("last")
    assert page.run(PHOTO) == other.run(PHOTO)


def test_an_image_that_cannot_be_read_leaves_the_one_chosen_before_it(tab, photo, tmp_path):
    page, other = tab(), tab()
    first = photo(1, "first.png")
    with_image(other, first)
    (tmp_path / "notes.png").write_text("no image")
    hold(page, "image")
    page.choose_file("#file", first)
    page.wait("held.length === 1")
    page.choose_file("#file", tmp_path / "notes.png")
    release(page)
    page.wait(f"{ALERT}.includes('notes.png is not a readable image')")
    page.wait(f"{NAME}.startsWith('first') && {READY}")
    assert page.run(PHOTO) == other.run(PHOTO)
    click(page, ".answers li button")
    page.wait(f"{CAPTION}.startsWith('Grad-CAM for')")
    page.choose_file("#file", tmp_path / "notes.png")
    page.wait(f"{ALERT}.includes('notes.png is not a readable image')")
    page.wait("!document.querySelector('article [inert], article[inert]')")
    assert page.run(CAPTION).startswith("Grad-CAM for"), "the evidence of the image that stays was dropped"


def test_of_three_networks_the_one_chosen_last_is_shown(tab, photo):
    page = tab()
    with_image(page, photo(0, "a.png"))
    hold(page, "network")
    choose(page, "#first", "transnext_micro", "transxnet_t", "transnext_pico")
    pause(page)
    release(page)
    page.wait(f"document.querySelector('h2').textContent === 'transnext_pico' && {READY}")
    pause(page)
    names = page.run("[...document.querySelectorAll('h2')].map((one) => one.textContent)")
    assert names == ["transnext_pico", "transxnet_atto"]
    assert page.run("document.getElementById('first').value") == "transnext_pico"
    page.wait(f"{POINT}.startsWith('Stage 3')")


def test_every_key_of_a_burst_moves_a_token(tab, photo):
    page = tab()
    with_image(page, photo(0, "a.png"))
    keys(page, "PageUp", "PageUp")
    page.wait(f"{POINT}.startsWith('Stage 1') && {POINT}.endsWith('(8, 8) of 16 × 16')")
    keys(page, *["ArrowRight"] * 5)
    page.wait(f"{POINT}.includes('(8, 13)')")
    keys(page, *["ArrowUp"] * 20)  # up to the edge, no further
    keys(page, "ArrowDown")
    page.wait(f"{POINT}.includes('(1, 13)')")
    keys(page, "Home", "PageDown", "ArrowRight")  # a token of the stage that is asked for, not of the one shown
    page.wait(f"{POINT}.startsWith('Stage 2') && {POINT}.endsWith('(4, 5) of 8 × 8')")
    assert alert(page) == ""


def test_every_click_on_a_stepper_counts(tab, photo):
    page = tab()
    with_image(page, photo(0, "a.png"))
    click(page, "#block-less", times=2)
    page.wait(f"{POINT}.startsWith('Stage 3, block 1')")
    click(page, "#stage-less", times=2)
    assert page.run("document.getElementById('stage').textContent") == "Stage 1 of 4", "it shows what is asked for"
    page.wait(f"{POINT}.startsWith('Stage 1')")
    assert page.run("document.getElementById('stage-less').disabled")


def test_a_question_that_failed_does_not_drop_the_next(tab, photo):
    page = tab()
    with_image(page, photo(0, "a.png"))
    hold(page, "attention")
    keys(page, "ArrowRight")
    page.wait("held.length === 2")  # of the two networks
    keys(page, "PageUp")
    page.run("window.failing = true")
    release(page)
    page.wait(f"{POINT}.startsWith('Stage 2')")
    page.wait(f"{STATUS}.includes('transxnet_atto, stage 2')")
    assert alert(page) == ""


def test_the_same_file_can_be_chosen_again(tab, photo, tmp_path):
    page = tab()
    (tmp_path / "notes.png").write_text("no image")
    for _ in range(2):
        page.choose_file("#file", tmp_path / "notes.png")
        page.wait(f"{ALERT}.includes('notes.png is not a readable image')")
        page.run("document.getElementById('alert').textContent = ''")
    same = photo(0, "a.png")
    with_image(page, same)
    keys(page, "ArrowRight")
    page.wait(f"{POINT}.includes('(2, 3)')")
    page.choose_file("#file", same)
    page.wait(f"{POINT}.includes('(2, 2)') && {READY}")  # an image opens at its centre


def test_what_belongs_to_the_last_image_is_inert_while_the_next_opens(tab, photo):
    page = tab()
    with_image(page, photo(0, "a.png"))
    click(page, ".answers li button")
    page.wait(f"{CAPTION}.startsWith('Grad-CAM for')")
    hold(page, "picture")
    page.choose_file("#file", photo(1, "b.png"))
    page.wait("held.length === 1")
    assert page.run("[...document.querySelectorAll('article')].every((one) => one.inert)")
    choose(page, ".method", "hires")
    click(page, ".answers li:nth-child(2) button")
    keys(page, "ArrowRight")
    release(page)
    page.wait(f"{NAME}.startsWith('b') && {READY}")
    pause(page)
    assert page.run("document.querySelectorAll('[inert]').length") == 0
    assert (page.run(CAPTION), page.run(PRESSED), thrown(page), alert(page)) == (UNASKED, 0, [], "")


def test_receptive_fields_of_the_last_image_are_dropped(tab, photo):
    page = tab()
    with_image(page, photo(0, "a.png"))
    hold(page, "fields")
    click(page, ".compute")
    page.wait("held.length === 1")
    with_image(page, photo(1, "b.png"))
    release(page)
    page.wait("!document.querySelector('.compute').disabled")
    assert page.run("document.querySelectorAll('article:first-child .fields figure').length") == 0
    click(page, ".compute")
    page.wait("document.querySelectorAll('article:first-child .fields figure').length === 4")


def test_the_caption_names_the_line_whose_evidence_is_drawn(tab, photo):
    page = tab()
    with_image(page, photo(0, "a.png"))
    heat = "document.querySelector('.answers canvas').toDataURL()"
    second = page.run("document.querySelector('.answers li:nth-child(2) button span + span').textContent")
    click(page, ".answers li:nth-child(2) button")
    page.wait(f"{CAPTION} === 'Grad-CAM for {second}'")
    expected = page.run(heat)
    click(page, ".answers li:nth-child(2) button")
    page.wait(f"{CAPTION} === {UNASKED!r}")
    hold(page, "evidence")
    click(page, ".answers li:nth-child(1) button")
    page.wait("held.length === 1")
    click(page, ".answers li:nth-child(2) button")
    page.run("held.shift()()")
    page.wait("held.length === 1")  # the first line was answered, and the second is asked
    assert second not in page.run(CAPTION)
    release(page)
    page.wait(f"{CAPTION} === 'Grad-CAM for {second}'")
    assert page.run(heat) == expected


def test_heads_that_a_stage_lacks_are_deselected_and_the_status_says_so(tab, photo):
    page = tab()
    with_image(page, photo(0, "a.png"))
    ticked = "[...document.querySelectorAll('#heads input')].map((box) => box.checked)"
    keys(page, "1", "4")
    page.wait(f"{STATUS}.includes('heads 1 and 4')")
    keys(page, "PageUp", "PageUp")
    page.wait(f"{POINT}.startsWith('Stage 1') && {STATUS}.startsWith('Deselected head 4: stage 1 has ')")
    assert sum(page.run(ticked)) == 1
    keys(page, "PageDown", "PageDown")
    page.wait(f"{POINT}.startsWith('Stage 3') && {STATUS}.includes('stage 3')")
    assert page.run(ticked) == [True, False, False, False]
    assert "head 1" in page.run(STATUS)
    assert "Deselected" not in page.run(STATUS)
