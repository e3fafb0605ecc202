"""The web page about runs: what it says, what it must never do, and how it answers in a browser."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from jaxrl.analysis.page import Shown, page, write_page
from jaxrl.analysis.page.markup import Markup, element, table
from jaxrl.analysis.page.tables import flattened
from jaxrl.analysis.ranking import interval, setting_score
from jaxrl.analysis.runs import load_run
from tests.analysis.test_runs import write_run

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&"
TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "script",
        "section",
        "h1",
        "h2",
        "p",
        "pre",
    ),
    *("div", "span", "i", "figure", "figcaption", "img", "details", "summary"),
    *("svg", "line", "text", "polygon", "polyline", "circle"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
GIF = b"GIF89a" + bytes(20)


class Reader(HTMLParser):
    """What a browser makes of a page: elements with attributes, and the text in each."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))
        if tag not in ("meta", "img"):
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        for _, _, texts in self.open:
            texts.append(data)

    def of(self, tag):
        """The text of each element of a kind."""
        return ["".join(texts) for name, _, texts in self.elements if name == tag]

    def rows(self):
        """The cells of each row of every table."""
        found = []
        for name, _, texts in self.elements:
            if name == "tr":
                found.append([])
            elif name in ("td", "th"):
                found[-1].append("".join(texts))
        return found

    def charts(self):
        """The numbers beside each chart, by its title."""
        titles = [a["aria-label"] for tag, a, _ in self.elements if tag == "svg"]
        kinds = [("".join(t), a) for tag, a, t in self.elements if tag == "script"]
        numbers = [json.loads(text) for text, a in kinds if a.get("type") == "application/json"]
        return dict(zip(titles, numbers, strict=True))


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.fixture
def one(tmp_path):
    folder = write_run(tmp_path / "one")
    config = {"gamma": 0.99, "net": {"sizes": [64, 64]}}
    return edit(folder, config=config, versions={"jax": "1.0"}, num_iterations=2)


@pytest.fixture
def hostile(tmp_path):
    """A run whose every text is meant for a browser, and whose numbers are odd."""
    name = EVIL.replace("/", "\N{DIVISION SLASH}")
    folder = write_run(tmp_path / name, {EVIL: [EVIL, 2.0]}, (2, 2, 1, 3), EVIL, EVIL)
    edit(
        folder,
        config={EVIL: EVIL, "deep": {EVIL: [EVIL]}},
        environment_options={EVIL: {EVIL: None}},
        versions={EVIL: EVIL},
        layout="env=1",
        num_iterations=10**9,
    )
    odd = {
        "empty": None,
        "large": [[1e300], [-1e300]],
        "largest": [[1.7e308], [-1.7e308]],
        "infinite": [[float("inf")], [1.0]],
    }
    rows = [
        odd | {"iteration": i, "transitions": i, "seconds": 10**400, EVIL: [[None], [2.0 + i]]}
        for i in range(3)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def of(*folders, command="jaxrl train", film=None):
    return page([Shown(load_run(folder), command, film) for folder in folders])


def test_what_is_no_markup_is_escaped():
    assert element("td", "a<b", class_="x", title='"') == '<td class="x" title="&quot;">a&lt;b</td>'
    assert element("p", element("i", "&"), hidden=None) == "<p><i>&amp;</i></p>"
    assert isinstance(element("p"), Markup)
    assert table(["<"], [["1", ">"]], numbers=(1,)).endswith(
        '<tr><td>1</td><td class="number">&gt;</td></tr></tbody></table></div>'
    )
    assert flattened({"a": {"b": {"c": 1}, "d": {}}, "e": []}) == {"a.b.c": 1, "e": []}


def test_a_page_needs_nothing_from_elsewhere(one, hostile):
    for text in (of(one, film=GIF), of(one, hostile, command=EVIL, film=GIF), of(hostile)):
        reader = Reader(text)
        assert reader.open == []
        assert {tag for tag, _, _ in reader.elements} <= TAGS
        scripts = [(a, "".join(t)) for tag, a, t in reader.elements if tag == "script"]
        (own,) = [content for attributes, content in scripts if not attributes]
        assert all(a == {"type": "application/json"} for a, _ in scripts if a)
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        (policy,) = [a["content"] for tag, a, _ in reader.elements if "http-equiv" in a]
        assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
        for tag, attributes, _ in reader.elements:
            assert not [name for name in attributes if name.startswith("on")]
            assert attributes.get("src", "data:image/gif;base64,").startswith("data:image/gif;")
            assert "href" not in attributes and tag != "link"
        assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}


def test_hostile_texts_are_shown_as_they_are(hostile):
    reader = Reader(of(hostile, command=EVIL))
    assert reader.of("pre") == [EVIL]
    assert reader.of("h1") == [hostile.name]
    cells = sum(reader.rows(), [])
    assert EVIL in cells and f"{EVIL}=2.0" in cells and f"config.{EVIL}" in cells
    assert "unfinished: iteration 2 of 1,000,000,000" in cells
    charts = reader.charts()
    assert charts[EVIL]["lines"][0]["middle"] == [2, 3, 4]  # of the one setting that has a number
    assert "empty" not in charts and "largest" not in charts
    assert [line["middle"] for line in charts["large"]["lines"]] == [[1e300] * 3, [-1e300] * 3]
    assert len(charts["infinite"]["lines"]) == 1


def test_charts_hold_the_means_and_intervals_of_the_seeds(one):
    run = load_run(one)
    chart = Reader(of(one)).charts()["evaluation/deterministic_return"]
    (line,) = chart["lines"]
    assert line["x"] == [0, 100_000, 200_000] and chart["unit"] == "transitions"
    for k, seeds in enumerate(run.returns()[:, 0]):
        low, high = interval(run.evaluations["deterministic_returns"][k, 0])
        expected = (setting_score(seeds), low, high)
        got = (line["middle"][k], line["low"][k], line["high"][k])
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert list(Reader(of(one)).charts()) == [
        "evaluation/deterministic_return",
        "evaluation/stochastic_return",
        "loss",
        "evaluation/deterministic_length",
        "evaluation/stochastic_length",
    ]


def test_a_seed_that_diverged_is_a_gap_and_is_named(one):
    arrays = dict(np.load(one / "evaluations.npz"))
    for name in ("deterministic_returns", "deterministic_lengths"):
        arrays[name][1:, 0, 2] = np.nan
    np.savez(one / "evaluations.npz", **arrays)
    reader = Reader(of(one))
    (line,) = reader.charts()["evaluation/deterministic_return"]["lines"]
    assert line["middle"][0] is not None and line["middle"][1:] == [None, None]
    assert "diverged" in sum(reader.rows(), [])


def test_the_table_of_evaluations_ranks_settings(tmp_path):
    folder = write_run(tmp_path / "swept", {"rate": [1, 2, 3]}, (3, 3, 4, 5))
    edit(folder, reference_scores=[0.0, 50.0])
    run = load_run(folder)
    rows = [
        row for row in Reader(of(folder)).rows() if row[0] == "swept" and "deterministic" in row
    ]
    assert [row[1] for row in rows] == ["rate=3", "rate=2", "rate=1"]
    score = setting_score(run.returns()[-1, 2])
    low, high = interval(run.evaluations["deterministic_returns"][-1, 2])
    assert rows[0][3:6] == [f"{score:.1f}", f"{low:.1f} to {high:.1f}", f"{2 * score:.1f}"]
    assert rows[0][-3:] == ["20", "4", "200,000 transitions"]


def test_runs_are_compared_by_what_differs(one, tmp_path):
    other = write_run(tmp_path / "other")
    config = {"gamma": 0.9, "net": {"sizes": [64, 64]}, "new": True}
    edit(other, config=config, versions={"jax": "1.0"})
    text = of(one, other)
    before, _, _ = text.partition("<details>")
    rows = Reader(
        before[before.index("<h2>Configuration") :].rpartition("</div>")[0] + "</div>"
    ).rows()
    assert rows == [
        ["setting", "one", "other"],
        ["config.gamma", "0.99", "0.9"],
        ["config.new", "–", "true"],
    ]
    assert ["config.net.sizes", "[64, 64]", "[64, 64]"] in Reader(text).rows()
    assert "The runs do not differ." in text  # their versions
    assert len(Reader(text).charts()["loss"]["lines"]) == 2


def test_what_was_swept_stands_among_the_settings(tmp_path):
    folder = edit(write_run(tmp_path / "run", {"rate": [1, 2]}, (1, 2, 1, 1)), config={"rate": 9})
    assert ["config.rate", "swept: 1, 2"] in Reader(of(folder)).rows()


def test_runs_in_several_environments_or_units_have_charts_of_their_own(one, tmp_path):
    other = write_run(tmp_path / "other", environment="Hopper")
    titles = list(Reader(of(one, other)).charts())
    assert titles[:2] == [
        "evaluation/deterministic_return, CartPole-v1",
        "evaluation/deterministic_return, Hopper",
    ]


def test_a_run_that_has_just_begun(one, tmp_path):
    (one / "metrics.jsonl").unlink()
    (one / "evaluations.npz").unlink()
    reader = Reader(of(one))
    assert reader.charts() == {}
    assert "No run was evaluated yet." in reader.of("p")
    assert "There are no metrics yet." in reader.of("p")
    assert "unfinished: iteration 0 of 2" in sum(reader.rows(), [])


def test_films_are_part_of_the_page(one):
    assert "Films" not in Reader(of(one)).of("h2")
    reader = Reader(of(one, film=GIF))
    assert "Films" in reader.of("h2")
    (source,) = [attributes["src"] for tag, attributes, _ in reader.elements if tag == "img"]
    assert base64.b64decode(source.partition(",")[2]) == GIF


def test_many_settings_have_colours_of_their_own(tmp_path):
    folder = write_run(tmp_path / "run", {"rate": list(range(12))}, (1, 12, 1, 1))
    lines = Reader(of(folder)).charts()["evaluation/deterministic_return"]["lines"]
    assert len({line["colour"] for line in lines}) == 12


def test_the_same_runs_give_the_same_bytes(one, tmp_path):
    shown = [Shown(load_run(one), "jaxrl train")]
    pages = [write_page(shown, tmp_path / name).read_bytes() for name in ("a.html", "b.html")]
    assert pages[0] == pages[1]


CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
POINT = """<script>
const picture = document.querySelector("figure.chart svg"), box = picture.getBoundingClientRect();
const at = {clientX: box.left + 0.98 * box.width, clientY: box.top + 20};
picture.dispatchEvent(new PointerEvent("pointermove", at));
</script></body>"""


def browsed(path, tmp_path):
    """The elements of a page once a browser has run it."""
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000"]
    command = [CHROMIUM, *options, f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom"]
    done = subprocess.run(
        [*command, path.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome")
def test_a_browser_answers_the_mouse_and_runs_no_script_of_a_stranger(one, hostile, tmp_path):
    text = of(one, hostile, command=EVIL)
    path = tmp_path / "page.html"
    path.write_text(text)
    seen = browsed(path, tmp_path)
    assert "<title>owned" not in seen and 'class="readout" hidden' in seen

    # A script that got in all the same does not run, for the page's policy knows its own only.
    path.write_text(text.replace("</body>", POINT))
    assert 'class="readout" style' not in browsed(path, tmp_path)

    # Without that policy the test's own script may point at the last evaluation.
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", of(one))
    path.write_text(free.replace("</body>", POINT))
    seen = browsed(path, tmp_path)
    run = load_run(one)
    score = setting_score(run.returns()[-1, 0])
    (readout,) = re.findall(r'<div class="readout" style.*?</div></div>', seen)
    assert "200,000 transitions" in readout
    (number,) = re.findall(r"</i>ppo  ([\d.]+)  \[", readout)
    assert float(number) == pytest.approx(score, rel=1e-3)
