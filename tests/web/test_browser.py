"""The page in a real browser, over a real `partalign serve`."""

import base64
import re
import shutil
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

from partalign.gallery import Filter, open_gallery
from partalign.web.access import Role, new_token
from web_gallery import serving

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: apt-get install --no-install-recommends chromium"
)

WIDE, NARROW = {"width": 1200, "height": 800}, {"width": 360, "height": 740}
RESULTS = ".card .rank"
expect.set_options(timeout=30_000)  # of a machine that is busy with something else, too: 5 s were too short at times


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(gallery, model, tmp_path_factory):
    """Address of the page, and the gallery's folder."""
    folder = shutil.copytree(gallery, tmp_path_factory.mktemp("served") / "hall")
    with serving(folder, "--model", model) as (url, _):
        yield url, folder


@pytest.fixture
def visit(browser, served):
    """Open the page: visit(**options of a context) -> page. Nothing may leave the machine, or be complained about."""
    asked, complaints = [], []

    def open_page(url=served[0], viewport=WIDE, **options):
        page = browser.new_context(viewport=viewport, **options).new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: asked.append(urlsplit(request.url)))
        page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        return page

    yield open_page
    assert asked
    assert {address.hostname for address in asked if address.scheme not in ("data", "blob")} == {"127.0.0.1"}
    assert [line for line in complaints if "status of 400" not in line] == []  # a refused picture is said on the page


def drop(page, path):
    """Drop a file on the page, as from a file manager."""
    content = base64.b64encode(path.read_bytes()).decode()
    data = page.evaluate_handle(
        """([content, name]) => {
            const data = new DataTransfer();
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            data.items.add(new File([bytes], name, { type: "image/jpeg" }));
            return data;
        }""",
        [content, path.name],
    )
    for event in ("dragover", "drop"):
        page.dispatch_event("body", event, {"dataTransfer": data})
    page.wait_for_selector(RESULTS)


def explained(page):
    page.wait_for_selector("#why-sentence:not(:empty)")
    page.locator("#why-picture img").evaluate("image => image.decode()")


def at(page):
    return page.evaluate("[...document.querySelectorAll('.card')].indexOf(document.activeElement)")


def test_a_dropped_picture_is_searched_by_and_results_are_explained(visit, people):
    page = visit()
    expect(page.locator(".card").first).to_be_visible()
    drop(page, people[0].path)
    first = page.locator(".card").first
    assert re.match(r"Result 1, >99% same person, camera c1, ", first.get_attribute("aria-label"))
    assert page.locator("#sought img").get_attribute("alt") == f"Your picture {people[0].path.name}"
    first.click()
    explained(page)
    assert page.locator("#why-picture img").evaluate("image => image.naturalWidth") > 1000
    assert "Similar" in page.locator("#why-sentence").inner_text()
    assert "Similar" in page.locator("#why-picture img").get_attribute("alt")
    page.keyboard.press("Escape")
    expect(page.locator("#why")).to_be_hidden()
    assert at(page) == 0


def test_the_keyboard_alone_moves_explains_decides_and_goes_back(visit, served, people):
    page = visit()
    drop(page, people[2].path)
    page.locator(".card").first.focus()
    columns = page.evaluate("getComputedStyle(document.querySelector('#cards')).gridTemplateColumns.split(' ').length")
    for key, place in (
        ("ArrowRight", 1),
        ("ArrowDown", 1 + columns),
        ("ArrowUp", 1),
        ("ArrowLeft", 0),
        ("ArrowLeft", 0),
    ):
        page.keyboard.press(key)
        assert at(page) == place
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    explained(page)
    expect(page.locator("#why-title")).to_contain_text("Result 2")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#why-title")).to_contain_text("Result 3")
    page.keyboard.press("Escape")
    expect(page.locator(".card").nth(2)).to_be_focused()

    with open_gallery(served[1]) as held:
        third = page.locator(".card").nth(2).locator("img").get_attribute("src").rpartition("/")[2]
        before = held.get(third)
        page.keyboard.press("c")
        page.wait_for_selector(".card.same")
        person = held.get(third).person
        assert person is not None
        assert "of the same name" in page.locator(".card").nth(2).get_attribute("aria-label")
        page.keyboard.press("u")
        expect(page.locator("#toast")).to_contain_text("Taken back")
        assert held.get(third) == before
        page.keyboard.press("r")
        expect(page.locator("#toast")).to_contain_text("not shown for this person again")
        assert held.count(Filter(tags=(f"not:{held.get(third).tags[-1].removeprefix('not:')}",))) == 1
        assert page.locator(f"img[src$='{third}']").count() == 0
        page.locator("#toast button").click()
        page.wait_for_selector(f"#cards img[src$='{third}']")
        assert held.get(third) == before
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.closest('form').id") == "filters"
    page.keyboard.press("Escape")
    assert at(page) == 2
    page.keyboard.press("Escape")
    page.wait_for_selector(RESULTS, state="detached")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()


def test_a_picked_crop_is_searched_by_filtered_and_gone_back_from(visit, served):
    page = visit()
    with open_gallery(served[1]) as held:
        named = {record.id for record in held.records(Filter()) if record.person is not None}
    page.wait_for_selector(".card img")
    shown = page.locator(".card img").evaluate_all("images => images.map(image => image.src.split('/').pop())")
    # Of somebody without a name: the timeline also has a named person's other crops, whatever the filter.
    page.locator(".card").nth(next(i for i, name in enumerate(shown) if name not in named)).click()
    page.wait_for_selector(RESULTS)
    assert "#like=" in page.url
    page.locator(".chips").get_by_text("c2", exact=True).click()
    expect(page.locator(".card").first).to_have_attribute("aria-label", re.compile("camera c2"))
    expect(page.locator(".card:not([aria-label*='camera c2'])")).to_have_count(0)
    expect(page.locator("#timeline svg")).to_have_attribute("aria-label", re.compile(r"^Sightings by camera\. c2: \d+"))
    page.get_by_text("Clear filters").click()
    expect(page.locator("#timeline svg")).to_have_attribute("aria-label", re.compile("c1: .*c3: "))
    page.reload()
    page.wait_for_selector(RESULTS)
    page.go_back()
    page.wait_for_selector(RESULTS, state="detached")


def test_a_dot_of_the_timeline_that_is_no_result_is_searched_by(visit, served):
    with open_gallery(served[1]) as held:
        known = held.records(Filter(labelled=True))
        asked, camera = next(
            (one, other.camera)
            for one in known
            for other in known
            if one.person == other.person and other.camera not in (one.camera, "c2")
        )
        page = visit(f"{served[0]}#like={asked.id}")
        page.wait_for_selector(RESULTS)
        page.locator(".chips").get_by_text("c2", exact=True).click()
        expect(page.locator(".card:not([aria-label*='camera c2'])")).to_have_count(0)
        page.locator("#timeline circle.same").filter(has_text=re.compile(f"^{camera},")).last.dispatch_event("click")
        expect(page).not_to_have_url(re.compile(f"#like={asked.id}$"))
        chosen = held.get(page.url.rpartition("#like=")[2])
        assert (chosen.person, chosen.camera) == (asked.person, camera)
        expect(page.locator("#sought img")).to_have_attribute("src", re.compile(f"{chosen.id}$"))
        page.wait_for_selector(RESULTS)


def held_back(page, wanted):
    """Let no answer to such a request through but when told: returns a list of what lets each go."""
    kept = []

    def keep(route):
        if wanted(route.request):
            answer = route.fetch()  # as it was when it was asked for
            kept.append(lambda: route.fulfill(response=answer))
        else:
            route.continue_()

    page.route("**/api/**", keep)
    return kept


def until(page, held, count=1):
    while len(held) < count:
        page.wait_for_timeout(20)


def test_an_answer_that_comes_late_is_not_shown(visit):
    page = visit()
    page.locator(".card").nth(3).click()
    page.wait_for_selector(RESULTS)
    all_cameras = held_back(page, lambda r: r.url.endswith("/search") and "cameras" not in r.post_data_json["where"])
    page.locator(".chips").get_by_text("c2", exact=True).click()
    expect(page.locator(".card:not([aria-label*='camera c2'])")).to_have_count(0)
    page.get_by_text("Clear filters").click()
    until(page, all_cameras)
    page.locator(".chips").get_by_text("c2", exact=True).click()
    expect(page.locator("#cards")).to_have_attribute("aria-busy", "false")
    all_cameras[0]()
    page.wait_for_timeout(300)
    expect(page.locator(".card:not([aria-label*='camera c2'])")).to_have_count(0)
    expect(page.locator("#timeline svg")).to_have_attribute("aria-label", re.compile("c2: "))


def test_what_is_searched_by_is_the_last_that_was_chosen(visit):
    page = visit()
    expect(page.locator(".card").nth(4)).to_be_visible()
    first, second = (
        page.locator(".card").nth(i).locator("img").get_attribute("src").rpartition("/")[2] for i in (3, 4)
    )
    slow = held_back(page, lambda r: r.url.endswith(f"/records/{first}"))
    page.evaluate("id => { location.hash = `#like=${id}`; }", first)
    until(page, slow)
    page.evaluate("id => { location.hash = `#like=${id}`; }", second)
    page.wait_for_selector(RESULTS)
    slow[0]()
    page.wait_for_timeout(300)
    expect(page.locator("#sought img")).to_have_attribute("src", re.compile(f"{second}$"))


def test_what_is_removed_while_the_cards_are_fetched_stays_away(visit, gallery, model, tmp_path):
    folder = shutil.copytree(gallery, tmp_path / "own")
    with serving(folder, "--model", model) as (url, _):
        page = visit(url)
        expect(page.locator(".card").first).to_be_visible()
        page.locator(".chips").get_by_text("c2", exact=True).click()
        expect(page.locator(".card:not([aria-label*='camera c2'])")).to_have_count(0)
        listed = held_back(page, lambda r: "/api/records?" in r.url and "cameras" not in r.url)
        gone = page.locator(".card").first.locator("img").get_attribute("src").rpartition("/")[2]
        count = page.locator(".card").count()
        page.get_by_text("Clear filters").click()
        until(page, listed)
        page.locator(".card").first.focus()
        page.keyboard.press("Delete")
        page.locator("#sure-yes").click()
        expect(page.locator("#toast")).to_contain_text("Removed")
        until(page, listed, 2)
        for let_go in listed[::-1]:
            let_go()
        expect(page.locator("#cards")).to_have_attribute("aria-busy", "false")
        expect(page.locator(f"#cards img[src$='{gone}']")).to_have_count(0)
        assert page.locator(".card").count() > count


def test_a_tracklet_is_searched_by_and_a_camera_left_out(visit, served):
    page = visit()
    page.locator(".card").nth(3).click()
    page.wait_for_selector(RESULTS)
    page.locator(".card").nth(1).click()
    explained(page)
    with open_gallery(served[1]) as held:
        record = held.get(page.locator(".card").nth(1).locator("img").get_attribute("src").rpartition("/")[2])
        crops = held.count(Filter(tracklets=(record.tracklet,), cameras=(record.camera,)))
        others = {r.camera for r in held.records() if r.camera != "c2"}
    page.get_by_text("Search by tracklet").click()
    expect(page.locator("#sought-name")).to_contain_text(f"tracklet {record.tracklet} · {record.camera}")
    expect(page.locator("#sought img")).to_have_count(min(crops, 3))
    assert "#tracklet=" in page.url
    page.get_by_text("Leave cameras out").click()
    page.get_by_text("not c2", exact=True).click()
    expect(page.locator(".card[aria-label*='camera c2']")).to_have_count(0)
    shown = page.locator(".card").evaluate_all("cards => cards.map((card) => card.ariaLabel.match(/camera (\\w+)/)[1])")
    assert set(shown) == others
    page.locator(".card").first.click()
    explained(page)
    source = page.locator("#why-picture img").evaluate("image => image.currentSrc")
    assert f"tracklet={record.tracklet}" in source
    page.keyboard.press("Escape")
    page.reload()
    expect(page.locator("#sought-name")).to_contain_text(record.tracklet)
    page.locator(".card").first.focus()
    page.keyboard.press("t")
    expect(page.locator("#sought-name")).not_to_contain_text(f"{record.tracklet} · {record.camera}")


def test_among_many_persons_each_is_less_probable(visit, people):
    page = visit()
    drop(page, people[0].path)
    second = page.locator(".card").nth(1).get_attribute("aria-label")
    page.get_by_label("one of").fill("1000000")
    page.keyboard.press("Tab")
    expect(page.locator("#status")).to_contain_text("one of 1,000,000 persons")
    expect(page.locator(".card").nth(1)).to_have_attribute("aria-label", re.compile("<1% same person"))
    assert "<1%" not in second
    page.locator(".card").first.click()
    explained(page)
    assert "persons=1000000" in page.locator("#why-picture img").evaluate("image => image.currentSrc")


def test_an_administrator_removes_forgets_and_reads_the_log_after_a_second_question(visit, gallery, model, tmp_path):
    folder = shutil.copytree(gallery, tmp_path / "own")
    with serving(folder, "--model", model) as (url, _), open_gallery(folder) as held:
        page = visit(url)
        page.locator(".card").nth(2).focus()
        gone = page.locator(".card").nth(2).locator("img").get_attribute("src").rpartition("/")[2]
        page.keyboard.press("Delete")
        expect(page.locator("#sure")).to_contain_text("Remove this crop")
        page.keyboard.press("Enter")  # on Cancel, which has the focus
        expect(page.locator("#sure")).to_be_hidden()
        assert held.get(gone) is not None
        page.keyboard.press("Delete")
        for key in ("Tab", "Enter"):
            page.keyboard.press(key)
        expect(page.locator(f"#cards img[src$='{gone}']")).to_have_count(0)
        assert held.get(gone) is None
        page.locator(".card").first.click()
        page.wait_for_selector(RESULTS)
        page.locator(".card").first.click()
        explained(page)
        first = page.locator(".card").first.locator("img").get_attribute("src").rpartition("/")[2]
        page.locator("#why-remove").click()
        page.locator("#sure-yes").click()
        expect(page.locator(f"#cards img[src$='{first}']")).to_have_count(0)
        expect(page.locator("#why-title")).to_contain_text("Result 2")
        page.keyboard.press("Escape")

        page.locator("#admin-button").click()
        expect(page.locator("#log tbody")).to_contain_text(f"removed=1 where: ids={first}")
        crops = held.count(Filter(persons=("0002",)))
        held.update(Filter(persons=("0001",)), add_tags=("not:0002",))
        page.get_by_label("Person", exact=True).fill("0002")
        page.keyboard.press("Enter")
        expect(page.locator("#sure")).to_contain_text(f"{crops} crops")
        page.keyboard.press("Escape")
        expect(page.locator("#sure")).to_be_hidden()
        assert held.count(Filter(persons=("0002",))) == crops > 0
        page.get_by_label("Person", exact=True).press("Enter")
        page.locator("#sure-yes").click()
        expect(page.locator("#admin-status")).to_have_text(f"{crops} forgotten.")
        expect(page.locator("#log tbody tr").first).to_contain_text("forget a person")
        expect(page.locator("#log tbody")).to_contain_text("(forgotten)")
        assert held.count(Filter(persons=("0002",))) == held.count(Filter(tags=("not:0002",))) == 0
        page.get_by_label("All older than, days").fill("1")
        page.keyboard.press("Enter")
        left = held.count()
        expect(page.locator("#sure")).to_contain_text(f"{left} crops")
        page.locator("#sure-yes").click()
        expect(page.locator("#admin-status")).to_have_text(f"{left} forgotten.")
        assert held.count() == 0
        page.locator("#admin-close").click()
        expect(page.locator(".empty")).to_be_visible()


def test_narrow_and_dark(visit, people):
    page = visit(viewport=NARROW, color_scheme="dark")
    page.set_input_files("#file", people[0].path)
    page.wait_for_selector(RESULTS)
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW["width"]
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 19, 22)"
    page.locator(".card").first.click()
    explained(page)
    assert "theme=dark&bars=false" in page.locator("#why-picture img").evaluate("image => image.currentSrc")
    rows = page.locator("#why-parts tr")
    expect(rows).to_have_count(6)
    expect(rows.first).to_be_visible()
    assert page.evaluate("document.querySelector('#why').scrollWidth <= innerWidth")
    wide = visit(color_scheme="light")
    assert wide.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(246, 247, 249)"


@pytest.mark.parametrize("locale", ["en-US", "de-DE"])
def test_times_are_read_whole_on_a_narrow_page(visit, people, locale):
    page = visit(viewport=NARROW, locale=locale, timezone_id="UTC")
    page.set_input_files("#file", people[0].path)
    page.wait_for_selector(RESULTS)
    cut = "spans => spans.filter(span => span.scrollWidth > span.clientWidth).map(span => span.textContent)"
    assert page.locator(".card .when").evaluate_all(cut) == []
    expect(page.locator(".card .when").first).to_have_text(re.compile(r"\b\d\d:\d\d:\d\d$"))  # no AM, no PM
    first, last = (page.locator("#timeline svg > text").nth(place).bounding_box() for place in (-2, -1))
    assert 0 < first["x"] < first["x"] + first["width"] < last["x"]


def test_the_timeline_mixes_no_dates_with_places_in_videos(visit, gallery, model, people, tmp_path):
    folder = shutil.copytree(gallery, tmp_path / "hall")
    with open_gallery(folder) as held:
        held.update(Filter(cameras=("c3",)), time=12.5)
    with serving(folder, "--model", model) as (url, _):
        page = visit(url)
        page.set_input_files("#file", people[0].path)
        page.wait_for_selector(RESULTS)
        expect(page.locator(".card[aria-label*='at 12.5']").first).to_be_visible()
        said = page.locator("#timeline svg").get_attribute("aria-label")
        assert "c1: " in said
        assert "c3: " not in said
        page.get_by_text("c3", exact=True).first.click()
        expect(page.locator("#timeline svg")).to_have_attribute(
            "aria-label", re.compile(r"cameras?\. c3: \d+, at 12.5")
        )


def test_the_address_of_a_crop_that_was_removed_is_said_and_left(browser, served):
    page = browser.new_page()
    page.goto(f"{served[0]}#like=00000000000000000000")
    expect(page.locator("#status")).to_have_text("no such record.")
    expect(page.locator("#sought img")).to_have_count(0)
    page.get_by_text("Back to all crops").click()
    expect(page.locator(".card").first).to_be_visible()


def test_what_is_no_picture_is_said(visit, tmp_path):
    page = visit()
    (tmp_path / "page.jpg").write_text("<html>")
    page.set_input_files("#file", tmp_path / "page.jpg")
    expect(page.locator("#status")).to_contain_text("expected a picture")
    assert page.locator(RESULTS).count() == 0


def test_a_browser_signs_in_with_a_token_and_may_do_what_its_role_may(visit, gallery, model, tmp_path):
    token = new_token(tmp_path / "tokens.txt", Role.search, "hall")
    folder = shutil.copytree(gallery, tmp_path / "guarded")
    with serving(folder, "--model", model, "--tokens", tmp_path / "tokens.txt") as (url, _):
        page = visit(url)
        page.get_by_label("Your token").fill(token)
        page.keyboard.press("Enter")
        page.locator(".card").first.click()
        page.wait_for_selector(RESULTS)
        page.locator(".card").first.click()
        explained(page)
        assert page.locator("#why-confirm, #why-remove, #admin, #admin-button").count() == 0
        page.keyboard.press("Escape")
        page.get_by_text("Sign out").click()
        expect(page.get_by_label("Your token")).to_be_visible()
