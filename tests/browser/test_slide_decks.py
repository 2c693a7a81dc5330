"""The slides in a browser, opened as files: nothing is cut off, nothing is fetched."""

import pytest
from built_site import BUILD

SLIDES = BUILD / "slides"
DECKS = sorted(path.name for path in SLIDES.glob("*.slides.html"))
READY = "window.Reveal && Reveal.isReady()"
# For each slide that does not fit the stage: its number, and the pixels that it needs.
TOO_LARGE = """() => {
  const stage = Reveal.getConfig(), found = [];
  for (const slide of Reveal.getSlides()) {
    const { h, v } = Reveal.getIndices(slide);
    Reveal.slide(h, v ?? 0);
    const corner = document.querySelector(".slides").getBoundingClientRect();
    const scale = Reveal.getScale();
    const boxes = [...slide.querySelectorAll(":not(.notes, .notes *)")].map(
      (element) => element.getBoundingClientRect()
    ).filter((box) => box.width && box.height);
    const bottom = Math.max(...boxes.map((box) => box.bottom - corner.top)) / scale;
    const right = Math.max(...boxes.map((box) => box.right - corner.left)) / scale;
    if (slide.scrollHeight > stage.height || bottom > stage.height || right > stage.width + 1)
      found.push([h, v, Math.round(right), Math.round(bottom), slide.scrollHeight]);
  }
  return found;
}"""


@pytest.fixture
def open_deck(open_page):
    def open_deck(name):
        page = open_page(name, base=SLIDES.as_uri() + "/")
        page.wait_for_function(READY)
        return page

    return open_deck


def test_there_are_slides():
    assert DECKS, "run 'make slides' first"


@pytest.mark.parametrize("name", DECKS)
def test_every_slide_fits_the_stage(open_deck, name):
    page = open_deck(name)
    assert page.evaluate("Reveal.getTotalSlides()") > 10
    assert page.evaluate(TOO_LARGE) == []


@pytest.mark.parametrize("name", DECKS)
def test_figures_have_a_text(open_deck, name):
    texts = open_deck(name).locator(".slides img").evaluate_all("all => all.map(img => img.alt)")
    assert all(len(text) > 20 for text in texts)


def test_the_space_bar_leads_through_all_slides(open_deck):
    page = open_deck(DECKS[0])
    seen = 1
    while not page.evaluate("Reveal.isLastSlide()"):
        before = page.evaluate("JSON.stringify(Reveal.getState())")
        page.keyboard.press("Space")
        assert page.evaluate("JSON.stringify(Reveal.getState())") != before
        seen += 1
    assert seen >= page.evaluate("Reveal.getTotalSlides()")


def test_the_speaker_sees_notes_and_the_next_slide(open_deck):
    page = open_deck(DECKS[0])
    with page.context.expect_page() as opened:
        page.keyboard.press("s")
    view = opened.value
    notes = view.locator(".speaker-controls-notes .value")
    notes.get_by_text("After this chapter you can").wait_for()
    assert len(view.frames) == 3  # itself, this slide and the next one
