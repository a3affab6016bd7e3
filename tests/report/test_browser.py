"""The page in a real browser: no error, no request, no overflow, the answer at once."""

import json
import re
import shutil
import subprocess

import pytest

from tests.report.support import Logs
from tests.support import call

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
RUNS = [
    {"anonymizer": "identity"},
    {"anonymizer": "gaussian"},
    {"anonymizer": "ksame", "k": [*range(2, 21)]},
    {"anonymizer": "cvae", "variance": [0.5, 1], "observation_noise": [0, 0.5], "clip": 10},
    {"anonymizer": "dpcvae", "epsilon": [1, 8]},
]
MEASURE = """<script>
addEventListener("load", () => {  // when every request has ended, well or not
  const box = (e) => e.getBoundingClientRect();
  const shown = [...document.querySelectorAll("svg")].filter((e) => box(e).width > 0);
  const labels = shown.map((e) => [...e.querySelectorAll("text")].map(box));
  const apart = (a, b) => a.right <= b.left || b.right <= a.left
    || a.bottom <= b.top + 2 || b.bottom <= a.top + 2;
  parent.postMessage(JSON.stringify({
    inner: [innerWidth, innerHeight],
    width: document.documentElement.scrollWidth,
    requests: performance.getEntriesByType("resource").length,
    release: box(document.querySelector(".answer dd")).bottom,
    answer: box(document.querySelector(".answer dl")).bottom,
    pictures: shown.length,
    overlaps: labels.map((l) => l.flatMap(
      (a, i) => l.slice(i + 1).filter((b) => !apart(a, b))).length),
    outside: shown.map((e, i) => labels[i].filter(
      (l) => l.right > box(e).right + 1 || l.left < box(e).left - 1).length),
    background: getComputedStyle(document.body).backgroundColor,
  }), "*");
});
</script>"""
FRAME = """<!DOCTYPE html>
<iframe src="{}" width="{}" height="{}" frameborder="0"></iframe>
<pre id="measured"></pre>
<script>
onmessage = (m) => {{ document.getElementById("measured").textContent = m.data; }};
</script>
"""  # a window cannot be as narrow as a telephone, a frame can


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of many releases and long names, beside one that measures itself."""
    folder = tmp_path_factory.mktemp("page")
    logs = Logs(folder, runs=RUNS, sigma=[0, 2], datasets=["x" * 150]).fill()
    done = call(
        "src.report.__main__", logs.config, "--output_root", logs.root,
        "--database_root", folder / "none",
    )  # fmt: skip
    assert done.status == 0, done.err
    path = folder / "measured.html"
    path.write_text(logs.page.read_text().replace("</body>", f"{MEASURE}</body>"))
    return path


def measured(page, width, height, *, scheme="light"):
    """What the page measures of itself in a window of this size."""
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    frame = page.with_name("frame.html")
    frame.write_text(FRAME.format(page.name, width, height))
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        "--hide-scrollbars", f"--user-data-dir={page.parent}/profile", *dark,
        "--window-size=1500,1000", "--virtual-time-budget=5000", "--dump-dom", frame.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ":CONSOLE" not in done.stderr, done.stderr
    return json.loads(re.search(r"<pre id=\"measured\">(.*?)</pre>", done.stdout)[1])


@pytest.mark.parametrize(("width", "height"), [(380, 800), (1400, 900)])
def test_a_window_of_either_size_holds_it(page, width, height):
    found = measured(page, width, height)
    assert found["inner"][0] == width
    assert found["width"] <= width  # nothing reaches beyond the window
    assert found["requests"] == 0
    assert found["release"] <= found["inner"][1]
    assert width < 1000 or found["answer"] <= found["inner"][1]
    assert found["pictures"] == 1  # of the two, the one for this width
    assert found["overlaps"] == [0]
    assert found["outside"] == [0]


def test_in_the_dark_it_is_dark(page):
    assert measured(page, 1400, 900)["background"] == "rgb(255, 255, 255)"
    assert measured(page, 1400, 900, scheme="dark")["background"] == "rgb(20, 23, 27)"


def test_what_is_wrong_is_noticed(page):
    broken, text = page.with_name("broken.html"), page.read_text()
    wide = '<p style="width: 90rem">x</p><img src="http://127.0.0.1:9/none.png" alt="none">'
    broken.write_text(text.replace("<main>", f"<main>{wide}"))
    found = measured(broken, 380, 800)
    assert found["width"] > 380
    assert found["requests"] == 1
    broken.write_text(text.replace("<main>", "<main><script>nothing.here</script>"))
    with pytest.raises(AssertionError, match="nothing is not defined"):
        measured(broken, 380, 800)
