"""A report in headless Chromium, on a phone and on a desk: nothing wider than the page, every picture there, no script.

Run by hand, `-m browser`: it needs `chromium` (Debian's package) on the path.
"""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from jaxmd_iz import commands, config

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--allow-file-access-from-files"),
)
TINY = (
    *("density.samples=4", "density.burn_in=16", "density.number=27", "dynamics.steps=4", "dynamics.every=2"),
    *("grid.profile=6", "grid.shape=[2,2,2]", "potential.cutoff=1.5", "surfaces.correction=none", "output.vtk=true"),
)
#: A page that holds the report in a frame of some width and tells what it finds there.
PROBE = """<iframe id="f" src="report.html" style="width:{width}px;height:2000px;border:0"></iframe>
<pre id="told"></pre>
<script>f.onload = () => {{ const d = f.contentDocument; told.textContent = JSON.stringify({{
wide: d.documentElement.scrollWidth, images: [...d.images].map(i => i.naturalWidth), text: d.body.innerText.length,
small: [...d.querySelectorAll("p,td,th,li,figcaption")]
  .filter(e => parseFloat(getComputedStyle(e).fontSize) < 13).length,
links: [...d.links].map(a => a.getAttribute("href")), scripts: d.scripts.length,
alts: [...d.images].every(i => i.alt.length > 3)}}) }}</script>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("there is no chromium on the path")
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    commands.run(config.load("two_state_fluid", TINY), out, "A run <script>alert(1)</script>", progress=False)
    return out


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_and_is_whole(chromium, written, tmp_path, width):
    probe = written / f"probe_{width}.html"
    probe.write_text(PROBE.format(width=width), encoding="utf-8")
    own = f"--user-data-dir={tmp_path}"
    size = f"--window-size={width + 40},2100"
    shot = f"--screenshot={written / f'page_{width}.png'}"
    at = probe.as_uri()
    done = subprocess.run(
        [chromium, *FLAGS, own, size, "--dump-dom", "--virtual-time-budget=5000", at],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    told = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.S)
    assert told is not None and told[1], done.stderr[-2000:]
    found = json.loads(unescape(told[1]))
    assert found["wide"] <= width
    assert found["images"] and min(found["images"]) > 100 and found["alts"]
    assert found["scripts"] == 0 and found["small"] == 0 and found["text"] > 1000
    for link in found["links"]:
        assert link.startswith("data:text/csv") or (written / link).is_file(), link
    assert {"fields.nc", "fields_grid.nc", "summary.json", "fields.pvd"} <= set(found["links"])
    subprocess.run([chromium, *FLAGS, own, size, shot, at], capture_output=True, timeout=120, check=True)
    print(f"screenshot: {written / f'page_{width}.png'}")
