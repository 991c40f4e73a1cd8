"""The page of an experiment: whole without a network, every number leads to its runs; in a real browser too."""

import re
import shutil
from html.parser import HTMLParser

import pytest

from glue_harness.analysis.claims import read_claims
from glue_harness.analysis.paired import compare_methods
from glue_harness.analysis.summary import select
from glue_harness.analysis.verdicts import judge
from glue_harness.evidence.collect import collect
from glue_harness.reports.claims import write_claims
from glue_harness.reports.page.page import build_page
from glue_harness.reports.table import Entry, Table
from glue_harness.reports.tables.ablation import build_ablation_table
from glue_harness.reports.tables.main import build_main_table
from glue_harness.runs.record import Status
from tests.support.planned_runs import BEST, make_cell, make_plan, make_record, write_run
from tests.support.scored_runs import make_runs, make_selection

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c6360000000020001"
    "48afa4710000000049454e44ae426082"
)
CLAIMS = (
    "**Claims**\n\n| Claim | Verdict |\n|:--|:--|\n| better | undetermined |\n\n<script>alert(1)</script>\n"
)


@pytest.fixture
def page(tmp_path):
    cells = [
        make_cell(task, method, seed=seed, learning_rate=rate)
        for method, rate in (("full", 1e-3), ("lora", 1e-3), ("lora", 5e-4))
        for task in ("rte", "cola")
        for seed in (1, 2)
    ]
    for number, cell in enumerate(cells[:-1]):
        write_run(make_record(cell, scores=(0.6 + number / 100, 0.5)), tmp_path / "runs")
    write_run(make_record(cells[-1], status=Status.FAILED), tmp_path / "runs")
    plan = make_plan(cells, tmp_path)
    selection = select(collect(plan, tmp_path / "runs", tmp_path / "results"), BEST)
    tables = [
        build_main_table(selection, plan.title),
        Table("Other", [("Name", "")], 1, [[[Entry("<b> & c")]]], []),
    ]
    return build_page(plan.title, tables, {"scores": PIXEL}, CLAIMS, selection)


class Outline(HTMLParser):
    """What of a page the tests look at: ids, targets of links, sources, and the tags in order."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.sources, self.tags = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.sources += [found["src"]] if "src" in found else []


def test_every_link_stays_on_the_page_and_leads_somewhere(page):
    outline = Outline(page)
    assert len(set(outline.ids)) == len(outline.ids)
    assert len(outline.links) == 4 + 3 * (2 + 1)  # the page's parts; three rows of two tasks and an average
    assert all(link.removeprefix("#") in outline.ids for link in outline.links)
    assert all(source.startswith("data:image/png;base64,") for source in outline.sources)
    assert not re.search(r"https?://|@import|url\(", page)


def test_the_runs_behind_a_number_are_listed_with_where_they_come_from(page):
    (details,) = re.findall(r'<details id="tiny-rte-full">.*?</details>', page, re.DOTALL)
    assert "<summary>RTE " in details
    (section,) = re.findall(r'<section id="tiny-average-full">.*?</section>', page, re.DOTALL)
    assert "<h3>tiny: Full fine-tuning</h3>" in section
    assert details in section
    rows = re.findall(r"<tr>(<td>.*?)</tr>", details)
    assert [re.findall(r"<td>(.*?)</td>", row)[:4] for row in rows] == [
        ["1", "complete", "1", "60.00"],
        ["2", "complete", "1", "61.00"],
    ]
    assert "0123456" in rows[0]
    (failed,) = re.findall(
        r'<details id="tiny-cola-lora_r16-trainer.learning_rate=0.0005">.*?</details>', page, re.DOTALL
    )
    assert "<td>failed</td><td>--</td>" in failed


def test_a_figure_says_what_it_shows_to_whoever_cannot_see_it(page):
    alts = [found["alt"] for tag, found in Outline(page).tags if tag == "img"]
    assert alts == [
        "A demo & its table: Dev score by adapter parameters, a panel for each model and task; the tables hold "
        "the scores."
    ]


def test_every_column_of_every_table_has_a_button_to_sort_by(page):
    assert page.count("<th ") == page.count('<button type="button">') > 20
    assert '<th style="text-align:left" scope="col"><button type="button">Verdict</button></th>' in page


def test_differences_and_tests_lead_to_their_pairs():
    rows = [
        row
        for method, shift in (("edora", 0.01), ("edora_random", 0.0), ("lora", 0.02))
        for task in ("rte", "cola")
        for row in make_runs(task, method, [0.7 + shift, 0.72])
    ]
    selection, claims = make_selection(rows), read_claims()
    ablation = build_ablation_table(selection, compare_methods(selection, "edora", "edora_random"), "Pairs")
    text = write_claims(judge(claims, selection), claims, selection.protocol, "T")
    page = build_page("T", [build_main_table(selection, "T"), ablation], {}, text, selection)
    outline = Outline(page)
    assert all(link.removeprefix("#") in outline.ids for link in outline.links)
    for against in ("LoRA", "EDoRA-random-bases"):
        for task in ("RTE", "average"):
            assert f"#pairs-tiny-r=16-{against}-{task}" in outline.links
    assert '<a href="#pairs-tiny-r=16-LoRA-RTE">-0.50</a>' in page
    (details,) = re.findall(r'<details id="pairs-tiny-r=16-LoRA-RTE">.*?</details>', page, re.DOTALL)
    assert re.findall(r"<td>(.*?)</td>", details) == [
        *("1", "71.00", "72.00", "-1.00"),
        *("2", "72.00", "72.00", "0.00"),
    ]
    assert 'href="#tiny-rte-edora_r16"' in details


def test_what_is_shown_is_text(page):
    assert "&lt;b&gt; &amp; c" in page
    assert "<script>alert" not in page
    assert "A demo &amp; its table" in page
    assert page.count("<script>") == 1


def test_names_stand_left_and_the_best_is_marked(page):
    tags = Outline(page).tags
    assert ("td", {"class": "name"}) in tags
    assert ("strong", {}) in tags
    assert ("em", {}) in tags


@pytest.fixture
def browser(tmp_path):
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("chromium and chromedriver (Debian: chromium, chromium-driver) are not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def open_page(driver, page, tmp_path, width=1200, scheme="light"):
    path = tmp_path / "index.html"
    path.write_text(page)
    driver.set_window_size(width, 900)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    driver.get(path.as_uri())


@pytest.mark.slow
def test_a_number_opens_its_runs(browser, page, tmp_path):
    open_page(browser, page, tmp_path)
    details = browser.find_element("id", "tiny-cola-full")
    assert not details.get_property("open")
    browser.find_element("css selector", 'a[href="#tiny-cola-full"]').click()
    assert details.get_property("open")
    assert details.find_element("css selector", "td").is_displayed()
    browser.get(browser.current_url)  # a link that somebody was sent
    assert browser.find_element("id", "tiny-cola-full").get_property("open")


@pytest.mark.slow
def test_a_column_s_head_sorts_its_table_and_no_other(browser, page, tmp_path):
    open_page(browser, page, tmp_path)
    table = browser.find_element("css selector", "table")
    before = browser.find_element("css selector", "#tiny-rte-full table").get_attribute("innerText")

    def column():
        return [
            row.find_elements("tag name", "td")[3].text
            for row in table.find_elements("css selector", "tbody tr")
        ]

    head = table.find_elements("tag name", "th")[3]
    found = column()
    head.find_element("tag name", "button").click()
    numbers = [float(text.split()[0]) for text in column() if not text.startswith("--")]
    assert numbers == sorted(numbers, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.find_element("tag name", "button").click()
    assert [float(text.split()[0]) for text in column()] == sorted(numbers)
    assert sorted(column()) == sorted(found)
    table.find_elements("tag name", "th")[0].find_element("tag name", "button").click()
    assert head.get_attribute("aria-sort") is None
    assert browser.find_element("css selector", "#tiny-rte-full table").get_attribute("innerText") == before


@pytest.mark.slow
def test_an_average_opens_all_runs_behind_it(browser, page, tmp_path):
    open_page(browser, page, tmp_path)
    browser.find_element("css selector", 'a[href="#tiny-average-full"]').click()
    lists = browser.find_elements("css selector", "#tiny-average-full details")
    assert [found.get_property("open") for found in lists] == [True, True]
    assert not browser.find_element("css selector", 'details[id^="tiny-cola-lora"]').get_property("open")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("texts", "falling"),
    [
        (
            ["9.5 ± 1.0", "81.3 †1", "-- (1/2)", "10.0 (n=1)"],
            ["81.3 †1", "10.0 (n=1)", "9.5 ± 1.0", "-- (1/2)"],
        ),
        (["1e-05", "+0.61", "not planned", "-1.57"], ["+0.61", "1e-05", "-1.57", "not planned"]),
        (["1,024", "9", "45 s", "10/10"], ["1,024", "45 s", "10/10", "9"]),
        (
            ["2026-11-01T10:00", "2026-11-03T09:00", "--", "2026-11-02T08:00"],
            ["2026-11-03T09:00", "2026-11-02T08:00", "2026-11-01T10:00", "--"],
        ),
        (["7c88a72", "12e4567", "0f091eb", "4140675"], ["7c88a72", "4140675", "12e4567", "0f091eb"]),
    ],
)
def test_a_column_is_sorted_by_number_only_if_all_of_it_is_numbers(browser, page, tmp_path, texts, falling):
    table = Table("Sort", [("Value", "")], 0, [[[Entry(text)] for text in texts]], [])
    selection = make_selection(make_runs("rte", "full", [0.5]))
    open_page(browser, build_page("T", [table], {}, "", selection), tmp_path)
    browser.find_element("css selector", "th button").click()
    shown = browser.find_element("css selector", "table").find_elements("css selector", "td")
    assert [cell.text for cell in shown] == falling


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 420])
@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_it_is_legible_wide_and_narrow_light_and_dark(browser, page, tmp_path, width, scheme, is_dark):
    open_page(browser, page, tmp_path, width, scheme)
    colours = [
        sum(
            map(
                int,
                re.findall(r"\d+", browser.find_element("tag name", "body").value_of_css_property(name))[:3],
            )
        )
        for name in ("background-color", "color")
    ]
    assert (colours[0] < colours[1]) == is_dark
    assert abs(colours[0] - colours[1]) > 450
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(overflow) == 0  # wide tables scroll on their own
    assert browser.find_element("tag name", "img").get_property("naturalWidth") == 1
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
