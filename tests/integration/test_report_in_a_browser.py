"""The page of `tiercache report` in a real Chromium, where there is one: narrow and wide, light and dark."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest
from reports import NASTY, bare, full, popular

from tiercache.cli._reporting.look import DARK, LIGHT
from tiercache.cli._reporting.page import as_html

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here: apt-get install chromium")

#: The page has no script, so one around it looks: at all that is wider than its window, at texts of charts
#: that lie on each other or outside, and at colours as they come out.
AROUND = """<!doctype html><body><script>
const found = []
const over = (a, b) =>
  a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3
const frames = [...Array(2)].map((_, i) => {
  const frame = document.createElement("iframe")
  frame.width = [400, 1400][i]; frame.height = 900; frame.src = "page.html"
  document.body.append(frame)
  return frame
})
addEventListener("load", () => {
  for (const frame of frames) {
    const page = frame.contentDocument, root = page.documentElement
    for (const one of page.querySelectorAll("details")) one.open = true
    const texts = []
    for (const chart of page.querySelectorAll("svg")) {
      const box = chart.getBoundingClientRect()
      const all = [...chart.querySelectorAll("text")]
        .map(one => [one.firstChild.data, one.getBoundingClientRect()])
      for (const [text, at] of all) {
        if (at.left < box.left - 1 || at.right > box.right + 1) texts.push(["outside", text])
        if (at.height < 10) texts.push(["small", text])
      }
      all.forEach(([a, one], i) => all.slice(i + 1).forEach(([b, two]) => {
        if (over(one, two)) texts.push(["over", a, b])
      }))
    }
    found.push({
      width: root.clientWidth, needs: root.scrollWidth, texts,
      cut: [...page.querySelectorAll(".scroll")].filter(one => one.scrollWidth > one.clientWidth).length,
      charts: page.querySelectorAll("svg").length,
      paper: getComputedStyle(root).backgroundColor, ink: getComputedStyle(root).color,
      scripts: page.scripts.length,
    })
  }
  const said = document.createElement("pre")
  said.textContent = JSON.stringify(found)
  document.body.append(said)
})
</script>"""


def looked_at(folder, report, scheme):
    (folder / "page.html").write_text(as_html(report))
    (folder / "around.html").write_text(AROUND)
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
            f"--user-data-dir={folder}/profile", "--virtual-time-budget=5000",
            f"--blink-settings=preferredColorScheme={scheme}", "--dump-dom", f"file://{folder}/around.html",
        ],
        capture_output=True, text=True, timeout=120, check=True, env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    [said] = re.findall(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)
    return json.loads(said.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))


def rgb(colour):
    return f"rgb({', '.join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))})"


@pytest.mark.parametrize(
    ("report", "charts"),
    [
        (full(30), 9),
        (full(400, first=NASTY), 9),
        (full(1), 8),
        (bare(), 0),
        (popular(NASTY, None, "x" * 3000, *map(str, range(30))), 9),
    ],
    ids=["a month", "all days", "one day", "bare", "popular keys"],
)
@pytest.mark.parametrize(("scheme", "colours"), [(1, LIGHT), (0, DARK)], ids=["light", "dark"])
def test_it_fits_its_window_and_can_be_read(tmp_path, report, charts, scheme, colours):
    narrow, wide = looked_at(tmp_path, report, scheme)
    for seen in (narrow, wide):
        assert seen["needs"] <= seen["width"], "it is wider than the window"
        assert seen["texts"] == []
        assert (seen["charts"], seen["scripts"]) == (charts, 0)
        assert (seen["paper"], seen["ink"]) == (rgb(colours["paper"]), rgb(colours["ink"]))
    assert narrow["cut"] == 0, "a table is wider than its card"
    assert narrow["width"] <= 400
    assert wide["width"] > 1350
