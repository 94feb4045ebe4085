"""The page in headless Chromium: wide and narrow, light and dark."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from tauten.report import write

CHROMIUM = shutil.which("chromium")
HEIGHT = 3000
PROBE = """<script>
addEventListener("load", () => {
  const sizes = [...document.querySelectorAll("figure svg text")]
    .filter(t => t.textContent.trim())
    .map(t => [parseFloat(getComputedStyle(t).fontSize), t.getScreenCTM()])
    .map(([size, m]) => size * Math.hypot(m.a, m.b));
  const luminance = value => {
    const [r, g, b] = value.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const paper = luminance(getComputedStyle(document.body).backgroundColor);
  const colors = ["body", "td small", "figcaption", "figure svg text", "h2", "nav a"]
    .map(s => getComputedStyle(document.querySelector(s)))
    .map(s => contrast(paper, luminance(s.fill !== "rgb(0, 0, 0)" ? s.fill : s.color)));
  parent.postMessage({
    inner: innerWidth,
    scroll: document.documentElement.scrollWidth,
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    smallest: Math.min(...sizes),
    contrast: Math.min(...colors),
    cut: [...document.querySelectorAll(".scroll")].map(box =>
      [box.classList.contains("cut"), box.scrollWidth > box.clientWidth + 2]),
    images: [...document.images].every(i => i.complete && i.naturalWidth > 0),
    clipped: [...document.querySelectorAll("main *")].filter(e =>
      !e.closest(".scroll, svg, details") && e.getBoundingClientRect().right > innerWidth + 1
    ).length,
  }, "*");
});
</script></body>"""
USE = """<script>
addEventListener("load", () => {
  const saved = [];
  URL.createObjectURL = blob => { saved.push(blob); return "#"; };
  const save = document.querySelector("#numbers .save");
  save.querySelectorAll("button").forEach(button => button.click());
  const svg = document.querySelector("#training svg[data-lines]");
  const box = svg.getBoundingClientRect();
  svg.dispatchEvent(new PointerEvent("pointermove",
    {clientX: box.left + box.width / 2, clientY: box.top + box.height / 2}));
  const form = document.querySelector(".browse");
  const told = {tip: document.querySelector(".tip").innerText};
  const cards = () => document.querySelectorAll(".query").length;
  told.drawn = cards();
  form.querySelector("input").value = "FLAG united";
  form.dispatchEvent(new Event("input"));
  told.flags = [...document.querySelectorAll(".query h3")].map(head => head.innerText);
  form.querySelector("input").value = "";
  form.querySelectorAll("select")[1].value = "changed";
  form.dispatchEvent(new Event("input"));
  told.first = [...document.querySelectorAll(".query")].map(card =>
    [...card.querySelectorAll("ol")].map(list => list.querySelector("li").className));
  const head = document.querySelectorAll("#classes thead button")[2];
  head.click();
  head.click();
  told.sorted = [...document.querySelectorAll("#classes tbody tr")].map(row =>
    Number(row.cells[2].innerText));
  Promise.all(saved.map(blob => blob.text())).then(texts =>
    parent.postMessage({...told, saved: texts.map(text => text.split("\\n")[0])}, "*"));
});
</script></body>"""
FRAME = """<!doctype html><meta name="color-scheme" content="light dark">
<body style="margin: 0"><iframe src="{page}.html" width="{width}" height="{height}"
style="border: 0; display: block"></iframe><pre></pre>
<script>
addEventListener("message", e => document.querySelector("pre").textContent =
  "MEASURED" + JSON.stringify(e.data) + "END");
</script></body>"""


def render(folder, width, dark, page="page"):
    """What the page measures of itself, and its picture, in a frame of this width.

    A frame, because a window cannot be made as narrow as a telephone.
    """
    (folder / "frame.html").write_text(FRAME.format(page=page, width=width, height=HEIGHT))
    picture = folder / f"{width}-{dark}.png"
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        f"--user-data-dir={folder / f'profile-{page}-{width}-{dark}'}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        f"--window-size={max(width, 500)},{HEIGHT}",
        "--virtual-time-budget=5000",
        "--dump-dom",
        f"--screenshot={picture}",
        (folder / "frame.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    measured = re.search(r"MEASURED(\{.*?\})END</pre>", done.stdout)
    assert measured, done.stderr[-2000:]
    image = Image.open(picture).convert("RGB").crop((0, 0, width, HEIGHT))
    return json.loads(measured[1]), np.asarray(image).astype(int)


@pytest.fixture(scope="module")
def folder(runs, tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: the page is not looked at")
    folder = tmp_path_factory.mktemp("browser")
    text = write(runs, folder, bootstrap=50).read_text("utf-8")
    for name, probe in (("page", PROBE), ("use", USE)):
        (folder / f"{name}.html").write_text(text.replace("</body>", probe), "utf-8")
    return folder


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_page_is_legible(folder, width, dark):
    found, pixels = render(folder, width, dark)
    assert found["inner"] == width
    assert found["scroll"] <= width
    assert found["clipped"] == 0
    assert all(faded == wider for faded, wider in found["cut"])
    assert width > 400 or any(wider for _, wider in found["cut"])
    assert found["dark"] == dark
    assert found["images"]
    assert found["smallest"] > 9
    assert found["contrast"] > 4.5
    brightness = pixels.mean()
    assert brightness < 70 if dark else brightness > 200
    assert len(np.unique(pixels @ [1 << 16, 1 << 8, 1])) > 200
    for part in np.array_split(pixels, 6):
        assert part.std() > 5


def test_the_page_is_used(folder):
    told, _ = render(folder, 1280, False, "use")
    assert told["tip"].startswith("training step ")
    assert "MM-TS" in told["tip"]
    assert told["drawn"] == 6
    assert told["flags"]
    assert all("flag: United" in text for text in told["flags"])
    assert told["first"]
    assert all({"right", "wrong"} <= {*names} for names in told["first"])
    assert told["sorted"] == sorted(told["sorted"])
    assert told["sorted"][0] < told["sorted"][-1]
    csv, markdown, latex = told["saved"]
    assert csv.startswith("queries,run,hit@1,")
    assert markdown.startswith("| queries | run | hit@1 |")
    assert latex.startswith("\\begin{tabular}{l")
